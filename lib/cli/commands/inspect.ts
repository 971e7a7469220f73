/**
 * `nextscale inspect`: what a checkpoint is and what it will need, from its header alone. No weights, no native binary.
 */

import { stat } from "node:fs/promises";
import { Command } from "commander";
import { type CheckpointInfo, inspectCheckpoint } from "../../checkpoint/index.js";
import { bundledModelPath } from "../../native/binding.js";
import type { TensorEntry } from "../../native/contract.js";
import { type CheckpointSource, type OpenOptions, SHAPE } from "../../options/checkpoint.js";
import { type Architecture, toArchitecture } from "../../values/architecture.js";
import { type CliContext, printJson } from "../context.js";
import { addFlags, type Flags, given, OUTPUT } from "../flags.js";
import { type Inspection, printInspection } from "../inspection-text.js";
import { listedDepths, poolPeakBytes, typicalBridge } from "../memory.js";

const EXAMPLES = `
Examples:
  $ nextscale inspect                                      the bundled digits
  $ nextscale inspect d16.safetensors
  $ nextscale inspect var_d16.pth vae_ch160v4096z32.pth
  $ nextscale inspect var_d16.pth                          one part alone
  $ nextscale inspect d16.safetensors --json | jq '.memory.depths[] | {depth, f16}'
`;

export function inspectCommand(context: CliContext): Command {
  const command = new Command("inspect")
    .description("show a checkpoint's architecture, sizes, labels, depths and the memory it will need")
    .argument("[model]", "a checkpoint, or one part of a pair (default: the bundled digits)")
    .argument("[tokenizer]", "the other part");
  return addFlags(command, [SHAPE, OUTPUT.pick("json")])
    .addHelpText("after", EXAMPLES)
    .action(async (model: string | undefined, tokenizer: string | undefined, flags: Flags) => {
      const paths = [model ?? bundledModelPath(), ...(tokenizer === undefined ? [] : [tokenizer])];
      const inspection = await inspect(paths, given(SHAPE, flags), context.signal);
      if (flags.json) printJson(context, inspection);
      else context.stdout.write(printInspection(inspection));
    });
}

export async function inspect(
  source: CheckpointSource,
  shape: Omit<OpenOptions, "signal">,
  signal?: AbortSignal,
): Promise<Inspection> {
  const info = await inspectCheckpoint(source, { ...shape, signal });
  const architecture = info.config && toArchitecture(info.config);
  const transformer = countElements(info.tensors, "var.");
  const sizes = await Promise.all(info.files.map(async (path) => (await stat(path)).size));
  return {
    name: info.name ?? null,
    files: info.files.map((path, index) => ({ path, format: info.formats[index]!, bytes: sizes[index]! })),
    parameters: { transformer, tokenizer: info.numParameters - transformer, total: info.numParameters },
    sets: info.sets,
    weightsBytes: info.bytes,
    bytesByDType: info.bytesByDType,
    transformer: info.transformer,
    tokenizer: info.tokenizer,
    architecture,
    labels: info.labels ?? [],
    depths: architecture && depthsOf(info, architecture),
    memory: architecture && memoryOf(info, architecture),
    recommended: { ...info.recommended },
    previewMatrix: info.previewMatrix !== undefined,
    metadata: info.metadata ?? {},
    warnings: info.warnings,
  };
}

function depthsOf(info: CheckpointInfo, { depth }: Architecture): Inspection["depths"] {
  const trained = info.depths ?? [depth];
  return { trained, min: Math.min(2, depth), max: depth, bridge: info.bridge ?? 0, strategy: info.strategy ?? "even" };
}

function memoryOf(info: CheckpointInfo, architecture: Architecture): Inspection["memory"] {
  const trained = info.depths ?? [architecture.depth];
  const bridge = info.bridge ?? typicalBridge(architecture.sides);
  const depths = listedDepths(architecture.depth, trained).map((depth) => {
    const f32 = poolPeakBytes(architecture, { bridge, depth }, "f32");
    return { depth, trained: trained.includes(depth), f32, f16: f32 / 2 };
  });
  return { bridge, depths };
}

function countElements(tensors: readonly TensorEntry[], prefix: string): number {
  return tensors
    .filter(({ name }) => name.startsWith(prefix))
    .reduce((sum, { shape }) => sum + shape.reduce((product, side) => product * side, 1), 0);
}
