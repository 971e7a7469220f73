/** A sensitivity measurement as a picture. */

import { plot } from "../plot/svg.js";
import type { Sensitivity } from "./sensitivity.js";

/** A self-contained SVG: the subnet's cost at each scale alone, in each zone, and after every bridge. */
export function sensitivityPlot({
  scales,
  zones,
  bridges,
  sides,
  depth,
  fullDepth,
  images,
  lossBudget,
}: Sensitivity): string {
  const last = sides.length;
  return plot({
    title: `Cost of depth ${depth} instead of ${fullDepth}, on ${images} image${images > 1 ? "s" : ""}`,
    xLabel: "scale (side); for a bridge: the first scale of the subnet",
    yLabel: "nats per token over full depth",
    xMax: last,
    xTicks: [...sides.map((side, scale) => [scale, `${scale} (${side})`] as const), [last, "none"]],
    series: [
      { name: "at this scale alone", points: scales.map(({ first, cost }) => [first, cost]), dots: true },
      ...zones.map(({ first, last: end, cost }, index) => ({
        name: index === 0 ? "in this zone" : "",
        colour: "#d55e00",
        points: [[first, cost] as const, [end, cost] as const],
        dots: true,
      })),
      {
        name: "from this scale on",
        colour: "#009e73",
        points: bridges.map(({ bridge, cost }) => [bridge, cost]),
        dots: true,
      },
      {
        name: "loss budget",
        points: [
          [0, lossBudget],
          [last, lossBudget],
        ],
        dash: "6 5",
        colour: "#777",
      },
    ],
  });
}
