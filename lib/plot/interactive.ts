/**
 * Line plots that a reader can look into: values under the cursor, a part enlarged by dragging (a double click goes
 * back), curves switched off in the legend. Drawn by uPlot, whose files are put into the page, so that it needs no
 * network.
 */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { COLOURS, escapeXml, type Point } from "./svg.js";

const requireFrom = createRequire(import.meta.url); // "require" itself is taken in the CommonJS build

export interface Curve {
  name: string;
  /** In ascending order of x. */
  points: readonly Point[];
  /** Mark each point. */
  dots?: boolean;
}

export interface InteractivePlot {
  title: string;
  xLabel: string;
  yLabel: string;
  /** Ends of the x axis. */
  x: readonly [min: number, max: number];
  /** Ends of the y axis; null: from the points. */
  y: readonly [min: number | null, max: number | null];
  curves: readonly Curve[];
}

/** What a page needs once, in its head. */
export function interactiveHead(): string {
  const dist = (name: string) => readFileSync(requireFrom.resolve(`uplot/dist/${name}`), "utf8");
  return `<style>${dist("uPlot.min.css")}</style>\n<script>${dist("uPlot.iife.min.js")}</script>\n<script>${DRAW}</script>`;
}

/** One plot, to stand in the body of a page with {@link interactiveHead}. */
export function interactivePlot({ title, xLabel, yLabel, x, y, curves }: InteractivePlot): string {
  const xs = [...new Set(curves.flatMap(({ points }) => points.map(([at]) => at)))].sort((a, b) => a - b);
  const columns = curves.map(({ points }) => {
    const values = new Map(points);
    return xs.map((at) => values.get(at) ?? null);
  });
  const series = curves.map(({ name, dots = false }, index) => {
    return { label: name, stroke: COLOURS[index % COLOURS.length], dots };
  });
  const json = JSON.stringify({ xLabel, yLabel, x, y, series, data: [xs, ...columns] }).replaceAll("<", "\\u003c");
  return `<figure class="plot"><figcaption>${escapeXml(title)}</figcaption><div></div><script type="application/json">${json}</script></figure>`;
}

/** Runs in the page: draws every plot at the width of its figure, again when that changes. */
const DRAW = `addEventListener("DOMContentLoaded", () => {
  for (const figure of document.querySelectorAll("figure.plot")) {
    const { xLabel, yLabel, x, y, series, data } = JSON.parse(figure.querySelector("script").textContent);
    const digits = (value) => value === null || value === undefined ? "" : String(Number(value.toPrecision(5)));
    const range = (_, low, high) => {
      const [from, to] = [y[0] ?? low, Math.max(y[1] ?? high, high)];
      return from < to ? [from, to + (y[1] === null ? 0.04 * (to - from) : 0)] : [from, from + 1];
    };
    const size = () => ({ width: figure.clientWidth, height: 340 });
    const chart = new uPlot({
      ...size(),
      scales: { x: { time: false, range: (_, low, high) => data[0].length > 1 && low < high ? [low, high] : x }, y: { range } },
      axes: [{ label: xLabel }, { label: yLabel, size: 80, values: (_, ticks) => ticks.map(digits) }],
      series: [
        { label: xLabel },
        ...series.map(({ label, stroke, dots }) => ({
          label, stroke, width: 2, spanGaps: true, points: { show: dots, size: 7, fill: stroke }, value: (_, value) => digits(value),
        })),
      ],
    }, data, figure.querySelector("div"));
    chart.setScale("x", { min: x[0], max: x[1] });
    addEventListener("resize", () => chart.setSize(size()));
  }
});`;
