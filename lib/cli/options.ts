/** Options that several commands share, and their meaning for the library. */

import { type Command, Option } from "commander";
import { InvalidOptionError } from "../errors.js";
import type { LoadOptions, SourcePaths } from "../options/load.js";
import { integer, list } from "./args.js";

export interface SourceFlags {
  model?: string;
  var?: string;
  tokenizer?: string;
}

export interface ArchitectureFlags {
  weights?: string;
  heads?: number;
  sides?: number[];
}

export interface LoadFlags extends SourceFlags, ArchitectureFlags {
  device?: LoadOptions["device"];
  dtype?: LoadOptions["dtype"];
  threads?: number;
  kvDtype?: "f32" | "f16" | "bf16";
}

/** --model, or --var with --tokenizer, and how to run it. */
export function addLoadOptions(command: Command): Command {
  return addArchitectureOptions(
    command
      .option(
        "-m, --model <file>",
        "a converted model, or a trainer's checkpoint that holds both parts (default: the bundled digits)",
      )
      .addOption(new Option("--var <file>", "the transformer of a PyTorch pair (with --tokenizer)").conflicts("model"))
      .addOption(new Option("--tokenizer <file>", "the tokenizer of a PyTorch pair (with --var)").conflicts("model")),
  )
    .option("--device <device>", "auto, cpu, cuda or cuda:N (default: NEXTSCALE_DEVICE, else auto)")
    .addOption(new Option("--dtype <dtype>", "number format on a CUDA device").choices(["auto", "f32", "f16", "bf16"]))
    .option("--threads <n>", "worker threads (default: all cores)", integer(1, 1024))
    .addOption(new Option("--kv-dtype <dtype>", "number format of the KV pool").choices(["f32", "f16", "bf16"]));
}

/** What a checkpoint cannot always tell. */
export function addArchitectureOptions(command: Command): Command {
  return command
    .option("--weights <which>", "raw or ema (their average), where a file holds both; or a name that inspect lists")
    .option("--heads <n>", "attention heads, for a checkpoint without L2-norm attention", integer(1, 1024))
    .option("--sides <list>", "sides of the scales, such as 1,2,3,4,5,6,8,10,13,16", list(integer(1, 1024)));
}

/** `undefined` is the bundled model. */
export function sourceOf({ model, var: transformer, tokenizer }: SourceFlags): SourcePaths | undefined {
  if (model !== undefined) return model;
  if (transformer === undefined && tokenizer === undefined) return undefined;
  if (transformer === undefined) throw new InvalidOptionError("--var", "only --tokenizer", "both parts of the pair");
  if (tokenizer === undefined) throw new InvalidOptionError("--tokenizer", "only --var", "both parts of the pair");
  return { var: transformer, tokenizer };
}

/** What a source is called in output. */
export function nameOf(source: SourcePaths | undefined): string {
  if (source === undefined) return "digits";
  return typeof source === "string" ? source : `${source.var} + ${source.tokenizer}`;
}

export function loadOptionsOf(flags: LoadFlags): LoadOptions {
  const { device, dtype, threads, kvDtype, weights, heads, sides } = flags;
  return {
    ...(device !== undefined && { device }),
    ...(dtype !== undefined && { dtype }),
    ...(threads !== undefined && { threads }),
    ...(kvDtype !== undefined && { kvPool: { dtype: kvDtype } }),
    ...(weights !== undefined && { weights }),
    ...(heads !== undefined && { heads }),
    ...(sides !== undefined && { sides }),
  };
}
