/** Line plots as hand-written SVG: still pictures, readable in light and dark surroundings, one file per plot. */

export type Point = readonly [x: number, y: number];

/** A line through points. */
export interface Series {
  /** Empty: not in the legend. */
  name: string;
  points: readonly Point[];
  /** Default: one of six that colour-blind readers can tell apart. */
  colour?: string;
  /** `stroke-dasharray`. */
  dash?: string;
  /** Mark each point. */
  dots?: boolean;
  /** Each value holds from the point before to its own, as a staircase. */
  step?: boolean;
  /** Tint the area down to the x axis. */
  fill?: boolean;
}

export interface Plot {
  title: string;
  xLabel: string;
  yLabel: string;
  series: readonly Series[];
  /** Ends of the x axis. Default: those of the points. */
  xMin?: number;
  xMax?: number;
  /** Upper end of the y axis at least. */
  yMax?: number;
  /** Values on the x axis and their labels. Default: round steps. */
  xTicks?: readonly (readonly [value: number, label: string])[];
}

/** Six that colour-blind readers can tell apart. */
export const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]; // Okabe and Ito
const WIDTH = 860;
const HEIGHT = 460;
const MARGIN = { left: 78, right: 24, top: 74, bottom: 62 };
const LEGEND_WIDTH = WIDTH - MARGIN.left - MARGIN.right;

/** One self-contained `<svg>`. `series` need at least one point. */
export function plot(spec: Plot): string {
  const { title, xLabel, yLabel, series } = spec;
  const { x, y, xValues, yValues } = axesOf(spec);
  const [right, bottom] = [WIDTH - MARGIN.right, HEIGHT - MARGIN.bottom];
  const styled = series.map((one, index) => ({ ...one, colour: one.colour ?? COLOURS[index % COLOURS.length]! }));
  const parts = [
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    text(MARGIN.left, 28, title, { size: 17, weight: 600 }),
    ...yValues.flatMap((value) => [
      line(MARGIN.left, y(value), right, y(value), value === 0 ? "#333" : "#ddd"),
      text(MARGIN.left - 9, y(value) + 4.5, String(value), { anchor: "end" }),
    ]),
    ...xValues.flatMap(([value, label]) => [
      line(x(value), bottom, x(value), bottom + 5, "#333"),
      text(x(value), bottom + 21, label, { anchor: "middle" }),
    ]),
    text((MARGIN.left + right) / 2, HEIGHT - 16, xLabel, { anchor: "middle" }),
    text(22, (MARGIN.top + bottom) / 2, yLabel, { anchor: "middle", rotate: -90 }),
    ...styled.flatMap((one) => curve(one, x, y)),
    ...legend(styled.filter(({ name }) => name !== "")),
  ];
  const font = "font-family=\"system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif\"";
  const box = `viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}"`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${box} ${font}>\n${parts.join("\n")}\n</svg>\n`;
}

interface Axes {
  x: Scale;
  y: Scale;
  xValues: readonly (readonly [value: number, label: string])[];
  yValues: readonly number[];
}

function axesOf({ series, xTicks, xMin, xMax, yMax = 0 }: Plot): Axes {
  const points = series.flatMap((one) => one.points);
  const [left, right] = extent(points.map(([px]) => px));
  const [low, high] = extent(points.map(([, py]) => py));
  const [from, to] = [xMin ?? left, xMax ?? right];
  const inside = (value: number) => value >= from && value <= to;
  const round = ticks(from, to, 8).filter(inside);
  const xValues = xTicks ?? round.map((value) => [value, String(value)] as const);
  const yValues = ticks(Math.min(0, low), Math.max(yMax, high));
  const x = scaleOf(from, to, MARGIN.left, WIDTH - MARGIN.right);
  const y = scaleOf(yValues[0]!, yValues.at(-1)!, HEIGHT - MARGIN.bottom, MARGIN.top);
  return { x, y, xValues, yValues };
}

/** A loop: thousands of points are too many arguments for Math.min. */
function extent(values: readonly number[]): [min: number, max: number] {
  let [min, max] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of values) [min, max] = [Math.min(min, value), Math.max(max, value)];
  return [min, max];
}

/** About `count` round steps that cover `min .. max`. */
export function ticks(min: number, max: number, count = 5): number[] {
  const size = Math.max(Math.abs(min), Math.abs(max));
  const span = max - min > 1e-9 * size ? max - min : size; // closer values have the same label
  const rough = (span > 1e-100 ? span : 1) / count;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 2.5, 5, 10].find((factor) => factor * unit >= rough * 0.999)!;
  const first = Math.floor(min / step + 1e-9);
  const last = Math.max(first + 1, Math.ceil(max / step - 1e-9));
  return Array.from({ length: last - first + 1 }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}

type Scale = (value: number) => number;

function scaleOf(min: number, max: number, from: number, to: number): Scale {
  return (value) => from + ((value - min) / (max > min ? max - min : 1)) * (to - from);
}

function curve(series: Series & { colour: string }, x: Scale, y: Scale): string[] {
  const { points, colour, dash, dots, step, fill } = series;
  const place = ([px, py]: Point) => [x(px).toFixed(1), y(py).toFixed(1)] as const;
  const pathOf = (corners: readonly Point[]) =>
    corners.map((point, index) => `${index === 0 ? "M" : "L"}${place(point).join(" ")}`).join("");
  const corners = step ? staircase(points) : points;
  const path = pathOf(corners);
  const dashes = dash === undefined ? "" : ` stroke-dasharray="${dash}"`;
  const foot = pathOf([[corners.at(-1)![0], 0]]).replace("M", "L") + pathOf([[corners[0]![0], 0]]).replace("M", "L");
  const area = fill ? [`<path d="${path}${foot}Z" fill="${colour}" fill-opacity="0.18"/>`] : [];
  const marks = dots
    ? points.map(place).map(([cx, cy]) => `<circle cx="${cx}" cy="${cy}" r="4" fill="${colour}"/>`)
    : [];
  return [
    ...area,
    `<path d="${path}" fill="none" stroke="${colour}" stroke-width="2" stroke-linejoin="round"${dashes}/>`,
    ...marks,
  ];
}

function staircase(points: readonly Point[]): Point[] {
  return points.flatMap(([px, py], index): Point[] =>
    index === 0
      ? [[px, py]]
      : [
          [px, points[index - 1]![1]],
          [px, py],
        ],
  );
}

/** Names in one line above the plot, smaller where they would not fit. */
function legend(series: readonly (Series & { colour: string })[]): string[] {
  const widthOf = (name: string, size: number) => 31 + 0.53 * size * name.length + 26;
  const total = series.reduce((sum, { name }) => sum + widthOf(name, 13), 0);
  const size = Math.max(8, Math.min(13, (13 * LEGEND_WIDTH) / total));
  let at = MARGIN.left;
  return series.flatMap(({ name, colour, dash }) => {
    const dashes = dash === undefined ? "" : ` stroke-dasharray="${dash}"`;
    const stroke = `stroke="${colour}" stroke-width="3"${dashes}`;
    const parts = [`<line x1="${at}" x2="${at + 24}" y1="50" y2="50" ${stroke}/>`, text(at + 31, 54.5, name, { size })];
    at = Math.round(at + widthOf(name, size));
    return parts;
  });
}

function line(x1: number, y1: number, x2: number, y2: number, colour: string): string {
  const place = [x1, y1, x2, y2].map((value) => value.toFixed(1));
  return `<line x1="${place[0]}" y1="${place[1]}" x2="${place[2]}" y2="${place[3]}" stroke="${colour}"/>`;
}

interface TextStyle {
  anchor?: "start" | "middle" | "end";
  size?: number;
  weight?: number;
  rotate?: number;
}

function text(x: number, y: number, content: string, style: TextStyle = {}): string {
  const { anchor = "start", size = 13, weight = 400, rotate = 0 } = style;
  const turn = rotate === 0 ? "" : ` transform="rotate(${rotate} ${x} ${y})"`;
  const look = `font-size="${size}" font-weight="${weight}" text-anchor="${anchor}" fill="#333"`;
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${look}${turn}>${escapeXml(content)}</text>`;
}

const ENTITIES: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };

/** Text for the inside of an element or an attribute in double quotes. */
export function escapeXml(content: string | number): string {
  return String(content).replace(/[&<>"]/g, (character) => ENTITIES[character]!);
}
