/** Rows of tables become flags of a command, and what was typed becomes options. */

import { type Command, InvalidArgumentError, Option } from "commander";
import { InvalidOptionError } from "../errors.js";
import { DEADLINE, type DepthOption, ZONES } from "../options/depth.js";
import { EDIT } from "../options/edit.js";
import { EVALUATE, SENSITIVITY } from "../options/evaluate.js";
import { GENERATE } from "../options/generate.js";
import { boolean, text } from "../options/kinds.js";
import { LOAD, type SourcePaths } from "../options/load.js";
import { SAMPLE } from "../options/sample.js";
import { defaultText, type Input, type Rows, row, type Table, table } from "../options/table.js";
import { TOKENIZE } from "../options/tokenize.js";

/** What commander hands to an action. */
export type Flags = Record<string, unknown>;

type AnyRow = Rows[string];

/** Where the model is. */
export const SOURCE = table({
  model: row(text(), "a converted model, or a trainer's checkpoint that holds both parts", {
    otherwise: "the bundled digits",
    flag: "-m, --model <file>",
  }),
  var: row(text(), "the transformer of a PyTorch pair (with --tokenizer)", {
    flag: "--var <file>",
    conflicts: "model",
  }),
  tokenizer: row(text(), "the tokenizer of a PyTorch pair (with --var)", {
    flag: "--tokenizer <file>",
    conflicts: "model",
  }),
});

/** How depth is asked for in words. */
export const DEPTH = table({
  depth: GENERATE.rows.depth,
  bridge: ZONES.rows.bridge,
  deadline: row(DEADLINE.rows.deadlineMs.kind, DEADLINE.rows.deadlineMs.words, {
    flag: DEADLINE.rows.deadlineMs.flag,
    conflicts: "depth",
  }),
});

export const OUTPUT = table({
  verbose: row(boolean(), "plain lines instead of a progress bar", { flag: "--verbose" }),
  json: row(boolean(), "print the result as JSON", { flag: "--json" }),
});

/**
 * The flags of tables, in the order of their rows; those of nested tables as well. Missing needed ones are refused
 * unless `lenient`.
 */
export function addFlags(command: Command, tables: readonly { rows: Rows }[], lenient = false): Command {
  for (const row of tables.flatMap(rowsWithFlags)) command.addOption(optionOf(row, lenient));
  return command;
}

/** A table's options, as far as flags gave them. */
export function given<R extends Rows>(from: Table<R>, flags: Flags): Partial<Input<R>> {
  const options: Record<string, unknown> = {};
  for (const [name, { flag, kind }] of Object.entries(from.rows as Rows)) {
    const value = flag === undefined ? kind.table && given(kind.table, flags) : flags[new Option(flag).attributeName()];
    const empty = value === undefined || (kind.table !== undefined && Object.keys(value as object).length === 0);
    if (!empty) options[name] = value;
  }
  return options as Partial<Input<R>>;
}

export function rowsWithFlags({ rows }: { rows: Rows }): AnyRow[] {
  return Object.values(rows).flatMap((row) => [
    ...(row.flag === undefined ? [] : [row]),
    ...(row.kind.table === undefined ? [] : rowsWithFlags(row.kind.table)),
  ]);
}

function optionOf(row: AnyRow, lenient: boolean): Option {
  const { kind, flag, needed, conflicts } = row;
  const option = new Option(flag!, helpOf(row));
  if (conflicts !== undefined) option.conflicts(conflicts);
  if (kind.choices !== undefined) option.choices(kind.choices);
  else if (kind.parse !== undefined) option.argParser((word: string, before: unknown) => read(row, word, before));
  return option.makeOptionMandatory(needed === true && !lenient);
}

/** `what it is (default: 64)` */
export function helpOf(row: AnyRow): string {
  const fallback = defaultText(row);
  return fallback === null ? row.words : `${row.words} (default: ${fallback})`;
}

function read({ kind, flag }: AnyRow, word: string, before: unknown): unknown {
  return asArgument(() => kind.check(flag!, kind.parse?.(flag!, word, before)));
}

/** Runs a check whose refusal is that of a word on the command line. */
export function asArgument<T>(check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (!(error instanceof InvalidOptionError)) throw error;
    throw new InvalidArgumentError(`Expected ${error.expected}.`);
  }
}

/** `undefined` is the bundled model. @param model a model that stands before the flags */
export function sourceOf(flags: Flags, model?: string): SourcePaths | undefined {
  const { model: flagged, var: transformer, tokenizer } = given(SOURCE, flags);
  if (model !== undefined && (flagged ?? transformer ?? tokenizer) !== undefined) {
    throw new InvalidOptionError("--model", "a model before it as well", "one of the two");
  }
  if ((model ?? flagged) !== undefined) return model ?? flagged;
  if (transformer === undefined && tokenizer === undefined) return undefined;
  if (transformer === undefined) throw new InvalidOptionError("--var", "only --tokenizer", "both parts of the pair");
  if (tokenizer === undefined) throw new InvalidOptionError("--tokenizer", "only --var", "both parts of the pair");
  return { var: transformer, tokenizer };
}

/** What a source is called in output. */
export function nameOf(source: { var?: string; tokenizer: string } | string | undefined): string {
  if (source === undefined) return "digits";
  if (typeof source === "string") return source;
  return source.var === undefined ? source.tokenizer : `${source.var} + ${source.tokenizer}`;
}

/** --depth, --bridge and --deadline as one plan. */
export function depthOf(flags: Flags, others = "--depth n or --deadline ms"): DepthOption | undefined {
  const { depth, bridge, deadline } = given(DEPTH, flags);
  if (deadline !== undefined) return { deadlineMs: deadline, bridge };
  if (bridge === undefined) return depth;
  if (typeof depth === "number") return { bridge, subnet: depth };
  throw new InvalidOptionError("depth.bridge", "no single --depth beside it", `${others} for the other scales`);
}

/** The flag, without its word, of an option of the library; null for one that has none. */
export function flagOf(option: string): string | null {
  return FLAGS.get(option) ?? FLAGS.get(option.replace(/\[\d+\]$/, "")) ?? null;
}

/** `--top-k` */
export function long({ flag }: { flag?: string }): string {
  return new Option(flag!).long!;
}

export function isGiven({ flag }: AnyRow, flags: Flags): boolean {
  return flags[new Option(flag!).attributeName()] !== undefined;
}

/** Of options by their path; a training's stand in a file as often as in flags. */
function flagsByOption({ rows }: { rows: Rows }, place = ""): [string, string][] {
  return Object.entries(rows).flatMap(([name, { flag, kind }]): [string, string][] => [
    ...(flag === undefined ? [] : [[place + name, long({ flag })] as [string, string]]),
    ...(kind.table === undefined ? [] : flagsByOption(kind.table, `${place}${name}.`)),
  ]);
}

const FLAGS = new Map([
  ...[EVALUATE, SENSITIVITY, TOKENIZE, SAMPLE, EDIT, GENERATE, LOAD].flatMap((group) => flagsByOption(group)),
  ...flagsByOption(DEADLINE, "depth."),
  ["depth.subnet", long(GENERATE.rows.depth)],
  ["labels", "label"],
]);
