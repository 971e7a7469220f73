/** An inspection as people read it. */

import type { CheckpointInfo } from "../checkpoint/index.js";
import { printable } from "../checkpoint/pickle-values.js";
import type { Architecture } from "../values/architecture.js";
import { formatBytes, formatCount, formatSection, formatTable } from "./format.js";

/** KV pool of one image at one depth after the bridge, both guidance branches, in bytes. */
export interface DepthMemory {
  depth: number;
  trained: boolean;
  f32: number;
  f16: number;
}

export interface Inspection {
  name: string | null;
  files: { path: string; format: string; bytes: number }[];
  parameters: { transformer: number; tokenizer: number; total: number };
  /** Every set of weights in the files, and which were taken. */
  sets: CheckpointInfo["sets"];
  weightsBytes: number;
  /** Bytes of the weights in each number format. */
  bytesByDType: CheckpointInfo["bytesByDType"];
  /** Shapes of the parts that are there. */
  transformer: CheckpointInfo["transformer"];
  tokenizer: CheckpointInfo["tokenizer"];
  /** null unless both parts are there; so are the fields below. */
  architecture: Architecture | null;
  labels: readonly string[];
  depths: { trained: readonly number[]; min: number; max: number; bridge: number; strategy: string } | null;
  memory: { bridge: number; depths: DepthMemory[] } | null;
  recommended: Record<string, number>;
  previewMatrix: boolean;
  metadata: Record<string, unknown>;
  warnings: string[];
}

export function printInspection(inspection: Inspection): string {
  const { architecture, transformer, tokenizer } = inspection;
  return [
    printFiles(inspection),
    printSets(inspection),
    ...(architecture === null
      ? [printPart("transformer alone", transformer), printPart("tokenizer alone", tokenizer)]
      : [printArchitecture(architecture), printUse(inspection, architecture), printMemory(inspection)]),
    printMetadata(inspection.metadata),
    inspection.warnings.map((warning) => `warning: ${warning}\n`).join(""),
  ]
    .filter((section) => section !== "")
    .join("\n");
}

/** Only where there is something to choose or to know: averages, and sets that were not taken. */
function printSets({ sets }: Inspection): string {
  if (sets.every(({ kind, taken }) => kind === "raw" && taken)) return "";
  return formatSection(
    "sets of weights (--weights)",
    sets.map(({ part, name, kind, tensors, taken }) => {
      const place = name === "" ? "the top of the file" : printable(name);
      const what = kind === "ema" ? "average (ema)" : "raw";
      return [part, `${place}: ${what}, ${tensors} tensors${taken ? ", taken" : ""}`] as const;
    }),
  );
}

function printFiles({ name, files, parameters, bytesByDType, weightsBytes }: Inspection): string {
  const formats = Object.entries(bytesByDType).filter(([, bytes]) => bytes > 0);
  const { transformer, tokenizer, total } = parameters;
  return formatSection(name ?? "checkpoint", [
    ...files.map(({ path, format, bytes }) => ["file", `${path} (${format}, ${formatBytes(bytes)})`] as const),
    [
      "weights",
      `${formatBytes(weightsBytes)}: ${formats.map(([dtype, bytes]) => `${dtype} ${formatBytes(bytes)}`).join(", ")}`,
    ],
    [
      "parameters",
      `${formatCount(total)}: transformer ${formatCount(transformer)}, tokenizer ${formatCount(tokenizer)}`,
    ],
  ]);
}

function printArchitecture(a: Architecture): string {
  const convs = a.numResidualConvs === 0 ? "one per scale" : String(a.numResidualConvs);
  return formatSection("architecture", [
    ["depth", `${a.depth} blocks`],
    ["width", `${a.width}, ${a.heads} head${a.heads > 1 ? "s" : ""}, feed-forward ${a.mlpWidth}`],
    ["attention", a.l2Norm ? "L2-norm" : "plain"],
    ["AdaLN", a.sharedAda ? "shared" : "one per block"],
    ["classes", String(a.numClasses)],
    ["codebook", `${a.codebookSize} × ${a.codeDim}`],
    ["residual convs", `${convs}, mix ${a.residualMix}`],
    [
      "tokenizer",
      `${a.channels} channels × (${a.multipliers.join(", ")}), residual blocks per level: ${a.numResBlocks}`,
    ],
    ["scales", `${a.sides.join(", ")} (${a.numScales} scales, ${a.numTokens} tokens)`],
    ["image", `${a.imageSide} × ${a.imageSide}`],
  ]);
}

/** A part without its other half: its shape as it was inferred. */
function printPart(title: string, part: object | null): string {
  if (part === null) return "";
  const text = (value: unknown) =>
    typeof value === "object" && value !== null && !Array.isArray(value) ? JSON.stringify(value) : String(value);
  return formatSection(
    title,
    Object.entries(part).map(([key, value]) => [key, text(value)] as const),
  );
}

const SHOWN_LABELS = 12;

function printUse({ labels, depths, recommended, previewMatrix }: Inspection, { numClasses }: Architecture): string {
  const { trained, min, max, bridge, strategy } = depths!;
  const more = labels.length > SHOWN_LABELS ? ` · … (${labels.length})` : "";
  const settings = Object.entries(recommended).map(([key, value]) => `${key} ${value}`);
  return formatSection("use", [
    [
      "labels",
      labels.length === 0 ? `0..${numClasses - 1}, without names` : labels.slice(0, SHOWN_LABELS).join(" · ") + more,
    ],
    [
      "depths",
      `${min}..${max}; trained for ${trained.join(", ")}${bridge > 0 ? ` after a bridge of ${bridge}` : ""} (${strategy})`,
    ],
    ["recommended", settings.length === 0 ? "-" : settings.join(", ")],
    ["linear preview", previewMatrix ? "in the file" : "fitted at its first use"],
  ]);
}

function printMemory({ memory, weightsBytes, architecture }: Inspection): string {
  const rows = memory!.depths.map(({ depth, trained, f32, f16 }) => [
    String(depth),
    formatBytes(f32),
    formatBytes(f16),
    formatBytes(weightsBytes + f32),
    depth === architecture!.depth ? "full" : trained ? "trained" : "",
  ]);
  const title = `memory per image (guidance on, bridge of ${memory!.bridge} scales at full depth)\n`;
  return title + formatTable([["depth", "KV pool f32", "KV pool f16", "with weights", ""], ...rows]);
}

function printMetadata(metadata: Record<string, unknown>): string {
  const entries = Object.entries(metadata).map(([key, value]) => {
    return [key, shorten(typeof value === "string" ? value : JSON.stringify(value))] as const;
  });
  return entries.length === 0 ? "" : formatSection("notes", entries);
}

function shorten(value: string): string {
  const line = value.replace(/\s+/g, " ");
  return line.length <= 100 ? line : `${line.slice(0, 80)}… (${value.length} characters)`;
}
