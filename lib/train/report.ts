/** report.html of a run: curves, tables, sample sheets; one file that needs no network. */

import { AbortError, InvalidCheckpointError } from "../errors.js";
import { writeAtomically } from "../files/atomic-file.js";
import { Image } from "../image/image.js";
import { loadModel } from "../model/load.js";
import type { Model } from "../model/model.js";
import { type Curve, type InteractivePlot, interactiveHead, interactivePlot } from "../plot/interactive.js";
import { escapeXml, type Point } from "../plot/svg.js";
import type { EvaluationMetrics, StepMetrics } from "./events.js";
import { readMetrics } from "./metrics.js";
import type { TrainPlan } from "./recipe.js";
import type { RunFolder, RunRecord } from "./run-folder.js";

export interface ReportOptions {
  /** Images per depth; 0 = none. Default: one per class, at most 32. */
  samples?: number | undefined;
  threads?: number | undefined;
  nativeBinding?: string | undefined;
  signal?: AbortSignal | undefined;
  /** Hears why sample sheets are missing. */
  warn?: (message: string) => void;
}

/** Writes report.html from the metrics and, when it has been exported, the model. @throws IoError, AbortError */
export async function writeReport(folder: RunFolder, options: ReportOptions = {}): Promise<void> {
  const record = await folder.readRecord();
  if (record === null) throw new InvalidCheckpointError(`${folder.path}: holds no run`);
  const lines = await readMetrics(folder.metricsPath);
  const steps = lines.filter((line): line is StepMetrics => line.type === "step");
  const evaluations = lines.filter((line): line is EvaluationMetrics => line.type === "evaluation");
  const sheets = await sampleSheets(folder.modelPath, record.plan, options);
  const html = page(record, [
    ...curves(record.plan, steps, evaluations),
    heldoutTable(record.plan, evaluations),
    ...sheets,
    recipeTable(record),
  ]);
  await writeAtomically(folder.reportPath, Buffer.from(html));
}

function page({ began, plan }: RunRecord, sections: readonly string[]): string {
  const { config, bridge } = plan.recipe;
  const title = `Supernet of depth ${config.depth}: ${plan.depths.join(", ")} with ${bridge} scales at full depth`;
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escapeXml(title)}</title>
<style>
body { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; max-width: 900px; margin: 2em auto; padding: 0 1em; color: #222; background: #fff }
table { border-collapse: collapse; margin: 0.5em 0 }
td, th { padding: 2px 10px; border-bottom: 1px solid #ddd; text-align: right; font-variant-numeric: tabular-nums }
td:first-child, th:first-child { text-align: left }
.wide { overflow-x: auto } .plot figcaption { font-weight: 600 } .u-legend td, .u-legend th { border: 0 }
img { image-rendering: pixelated; max-width: 100% }
figure { margin: 0 0 1.5em } code { overflow-wrap: anywhere }
</style>
${interactiveHead()}
<h1>${escapeXml(title)}</h1>
<p>Begun ${escapeXml(began)}.</p>
${sections.filter((section) => section !== "").join("\n")}
</html>
`;
}

/** Points of a curve: more cannot be seen. */
const MAX_POINTS = 500;

function curves(plan: TrainPlan, steps: StepMetrics[], evaluations: EvaluationMetrics[]): string[] {
  const byDepth = plan.depths.map((depth): Curve => {
    const points = steps.filter((line) => line.depth === depth).map(({ step, loss }): Point => [step, loss]);
    return { name: `depth ${depth}`, points: thin(smooth(points)) };
  });
  const heldout = plan.depths.map((depth): Curve => {
    const points = evaluations.filter((line) => line.depth === depth).map(({ step, loss }): Point => [step, loss]);
    return { name: `depth ${depth}`, points, dots: true };
  });
  const over = (value: (line: StepMetrics) => number) => steps.map((line): Point => [line.step, value(line)]);
  const free = [null, null] as const;
  const fromZero = [0, null] as const;
  const nats = "nats per token";
  const all: Omit<InteractivePlot, "xLabel" | "x">[] = [
    { title: "Training loss by depth, smoothed", yLabel: nats, y: free, curves: byDepth },
    { title: "Held-out cross entropy", yLabel: nats, y: free, curves: heldout },
    {
      title: "Share of subnet steps",
      yLabel: "p",
      y: [0, 1],
      curves: [{ name: "p", points: thin(over((line) => line.ratio)) }],
    },
    {
      title: "Learning rate",
      yLabel: "learning rate",
      y: fromZero,
      curves: [{ name: "learning rate", points: thin(over((line) => line.learningRate)) }],
    },
    {
      title: "Norm of the gradient, smoothed",
      yLabel: "norm before clipping",
      y: fromZero,
      curves: [{ name: "norm", points: thin(smooth(over((line) => line.gradientNorm))) }],
    },
  ];
  return all
    .map((one) => ({ ...one, curves: one.curves.filter(({ points }) => points.length > 0) }))
    .filter((one) => one.curves.length > 0)
    .map((one) => interactivePlot({ xLabel: "step", x: [0, plan.recipe.totalSteps], ...one }));
}

/** Exponential average over about a fiftieth of the points, without the bias of its beginning. */
function smooth(points: readonly Point[]): Point[] {
  const keep = 1 - 1 / Math.max(1, points.length / 50);
  let [sum, weight] = [0, 0];
  return points.map(([x, y]): Point => {
    sum = keep * sum + (1 - keep) * y;
    weight = keep * weight + (1 - keep);
    return [x, sum / weight];
  });
}

function thin(points: readonly Point[]): Point[] {
  const stride = Math.ceil(points.length / MAX_POINTS);
  return points.filter((_, index) => index % stride === 0 || index === points.length - 1);
}

function heldoutTable({ depths, recipe }: TrainPlan, evaluations: EvaluationMetrics[]): string {
  if (evaluations.length === 0) return "";
  const last = evaluations.at(-1)!.step;
  const first = evaluations[0]!.step;
  const at = (step: number, depth: number) => evaluations.find((line) => line.step === step && line.depth === depth);
  const rows = depths.map((depth) => {
    const [before, after] = [at(first, depth), at(last, depth)];
    return [
      depth,
      before?.loss.toFixed(4) ?? "",
      after?.loss.toFixed(4) ?? "",
      ...(after?.perScale ?? []).map((loss) => loss.toFixed(3)),
    ];
  });
  const scales = recipe.config.sides.map((side) => `${side}×${side}`);
  const { images } = evaluations.at(-1)!;
  return `<h2>Held-out cross entropy, nats per token</h2>
<p>${images} images that were not trained on; the scales are those after step ${last}.</p>
<div class="wide">${table(["depth", `step ${first}`, `step ${last}`, ...scales], rows)}</div>`;
}

function recipeTable({ plan, machine, program }: RunRecord): string {
  const { config, ...recipe } = plan.recipe;
  const show = (value: unknown) =>
    `<code>${escapeXml(typeof value === "object" ? JSON.stringify(value) : String(value))}</code>`;
  const entries = (object: object) => Object.entries(object).map(([name, value]) => [escapeXml(name), show(value)]);
  return [
    "<h2>Recipe</h2>",
    tableOfHtml(["setting", "value"], entries(recipe)),
    "<h2>Network</h2>",
    tableOfHtml(["setting", "value"], entries(config)),
    "<h2>Machine</h2>",
    tableOfHtml(["what", "value"], entries({ nextscale: program, ...machine })),
  ].join("\n");
}

type Cell = string | number;

function table(head: readonly Cell[], rows: readonly (readonly Cell[])[]): string {
  return tableOfHtml(
    head.map(escapeXml),
    rows.map((row) => row.map(escapeXml)),
  );
}

function tableOfHtml(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[], tag: string) =>
    `<tr>${cells.map((cell) => `<${tag}>${cell}</${tag}>`).join("")}</tr>`;
  return `<table>${line(head, "th")}${rows.map((row) => line(row, "td")).join("")}</table>`;
}

const MAX_SAMPLES = 32;

/**
 * One sheet per depth with the same labels and seed. Without room for a model there are none: a report is no reason to
 * fail.
 */
async function sampleSheets(path: string, plan: TrainPlan, options: ReportOptions): Promise<string[]> {
  const { numClasses } = plan.recipe.config;
  const { samples = Math.min(numClasses, MAX_SAMPLES), threads, nativeBinding, signal, warn } = options;
  if (samples === 0) return [];
  try {
    const load = { ...(threads && { threads }), ...(nativeBinding && { nativeBinding }), ...(signal && { signal }) };
    const model = await loadModel(path, load);
    try {
      const sheets = ["<h2>Samples</h2>", `<p>${samples} images of each depth, from the same seed.</p>`];
      for (const depth of [...plan.depths].reverse()) sheets.push(await sheetOf(model, depth, samples, signal));
      return sheets;
    } finally {
      await model.dispose();
    }
  } catch (error) {
    if (error instanceof AbortError) throw error;
    warn?.(`the report has no sample sheets: ${(error as Error).message}`);
    return [];
  }
}

async function sheetOf(model: Model, depth: number, count: number, signal: AbortSignal | undefined): Promise<string> {
  const labels = Array.from({ length: count }, (_, index) => index % model.architecture.numClasses);
  const atOnce = Math.max(1, Math.min(count, model.imagesAtOnce({ depth })));
  const images: Image[] = [];
  for (let first = 0; first < count; first += atOnce) {
    const part = labels.slice(first, first + atOnce);
    const generation = model.generate({ labels: part, seed: first, depth, ...(signal && { signal }) });
    images.push(...(await generation.images()));
  }
  const side = model.architecture.imageSide;
  const columns = Math.max(1, Math.min(count, Math.floor(840 / (side + 2))));
  const png = await Image.grid(images, columns, 2).toBuffer("png");
  const text = `depth ${depth}${depth === model.architecture.depth ? ", the full network" : ""}`;
  return `<figure><figcaption>${text}</figcaption><img alt="${count} samples at ${text}" src="data:image/png;base64,${png.toString("base64")}"></figure>`;
}
