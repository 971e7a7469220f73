// Line and area plots as hand-written SVG: no dependency, readable in light and dark surroundings, one file per plot.

const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]; // Okabe and Ito: safe for colour-blind readers
const WIDTH = 860;
const HEIGHT = 460;
const MARGIN = { left: 78, right: 24, top: 74, bottom: 62 };

const escapeXml = (text) =>
  String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

/** About `count` round steps from 0 to at least `max`. */
export function ticks(max, count = 5) {
  if (!(max > 0)) return [0, 1];
  const rough = max / count;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 2.5, 5, 10].find((factor) => factor * unit >= rough * 0.999);
  const values = [0];
  while (values.at(-1) < max * 0.999) values.push(Number((values.length * step).toPrecision(12)));
  return values;
}

function text(x, y, content, { anchor = "start", size = 13, weight = 400, fill = "#333", rotate = 0 } = {}) {
  const turn = rotate === 0 ? "" : ` transform="rotate(${rotate} ${x} ${y})"`;
  const style = `font-size="${size}" font-weight="${weight}" text-anchor="${anchor}" fill="${fill}"`;
  return `<text x="${x}" y="${y}" ${style}${turn}>${escapeXml(content)}</text>`;
}

/** What all plots share: paper, title, axes with grid and labels. `xTicks` are [value, label] pairs. */
function frame({ title, xLabel, yLabel, xMax, xMin = 0, xTicks, yTicks }, body, legend) {
  const [right, bottom] = [WIDTH - MARGIN.right, HEIGHT - MARGIN.bottom];
  const x = (value) => MARGIN.left + ((value - xMin) / (xMax - xMin)) * (right - MARGIN.left);
  const y = (value) => bottom - (value / yTicks.at(-1)) * (bottom - MARGIN.top);
  const parts = [
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    text(MARGIN.left, 28, title, { size: 17, weight: 600 }),
  ];
  for (const value of yTicks) {
    const colour = value === 0 ? "#333" : "#ddd";
    parts.push(`<line x1="${MARGIN.left}" x2="${right}" y1="${y(value)}" y2="${y(value)}" stroke="${colour}"/>`);
    parts.push(text(MARGIN.left - 9, y(value) + 4.5, value, { anchor: "end" }));
  }
  for (const [value, label] of xTicks) {
    parts.push(`<line x1="${x(value)}" x2="${x(value)}" y1="${bottom}" y2="${bottom + 5}" stroke="#333"/>`);
    parts.push(text(x(value), bottom + 21, label, { anchor: "middle" }));
  }
  parts.push(text((MARGIN.left + right) / 2, HEIGHT - 16, xLabel, { anchor: "middle" }));
  parts.push(text(22, (MARGIN.top + bottom) / 2, yLabel, { anchor: "middle", rotate: -90 }));
  parts.push(...body(x, y));
  let at = MARGIN.left;
  for (const { name, colour, dash } of legend) {
    const line = dash ? ` stroke-dasharray="${dash}"` : "";
    parts.push(`<line x1="${at}" x2="${at + 24}" y1="50" y2="50" stroke="${colour}" stroke-width="3"${line}/>`);
    parts.push(text(at + 31, 54.5, name));
    at += 31 + 6.8 * name.length + 26;
  }
  const font = "font-family=\"system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif\"";
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" ${font}>\n${parts.join("\n")}\n</svg>\n`;
}

const path = (points) => points.map(([x, y], i) => `${i === 0 ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

/** `series`: { name, points: [[x, y], ...], dots?, dash?, step? }; a series with `fill` is an area down to the axis. */
export function plot({ series, xMax, yMax, xTicks, ...labels }) {
  const all = series.flatMap(({ points }) => points);
  const largest = xMax ?? Math.max(...all.map(([x]) => x));
  const marks =
    xTicks ??
    ticks(largest, 8)
      .filter((value) => value <= largest)
      .map((value) => [value, String(value)]);
  const styled = series.map((one, i) => ({ ...one, colour: one.colour ?? COLOURS[i % COLOURS.length] }));
  const body = (x, y) =>
    styled.flatMap(({ points, colour, dash, dots, step, fill }) => {
      const corners = step
        ? points.flatMap(([px, py], i) =>
            i === 0
              ? [[px, py]]
              : [
                  [px, points[i - 1][1]],
                  [px, py],
                ],
          )
        : points;
      const line = corners.map(([px, py]) => [x(px), y(py)]);
      const parts = [];
      if (fill) {
        const area = `${path(line)}L${line.at(-1)[0].toFixed(1)} ${y(0)}L${line[0][0].toFixed(1)} ${y(0)}Z`;
        parts.push(`<path d="${area}" fill="${colour}" fill-opacity="0.18"/>`);
      }
      const stroke = `stroke="${colour}" stroke-width="2" stroke-linejoin="round"${dash ? ` stroke-dasharray="${dash}"` : ""}`;
      parts.push(`<path d="${path(line)}" fill="none" ${stroke}/>`);
      if (dots)
        parts.push(
          ...line.map(([cx, cy]) => `<circle cx="${cx.toFixed(1)}" cy="${cy.toFixed(1)}" r="4" fill="${colour}"/>`),
        );
      return parts;
    });
  const yTicks = ticks(yMax ?? Math.max(...all.map(([, value]) => value)));
  return frame({ ...labels, xMax: largest, xTicks: marks, yTicks }, body, styled);
}
