/** Failures -> what a person reads, and the exit code. */

import { CommanderError } from "commander";
import { InvalidOptionError, NextscaleError, PoolExhaustedError } from "../errors.js";
import { type CliContext, isRich, printJson } from "./context.js";
import { flagOf } from "./flags.js";

export const EXIT_FAILURE = 1;
export const EXIT_USAGE = 2;
export const EXIT_INTERRUPTED = 130; // 128 + SIGINT

/** The reason of a signal that Ctrl-C or a service manager has aborted. */
export class Interrupt extends Error {
  constructor(
    readonly signalName: string,
    readonly exitCode: number,
  ) {
    super(`interrupted by ${signalName}`);
  }
}

/** Ends a command that has already said everything. */
export class Failed extends Error {
  constructor(readonly exitCode: number) {
    super(`exit ${exitCode}`);
  }
}

/** Prints the failure to stderr (and, with `--json`, as `{ error }` to stdout); returns the exit code. */
export function reportFailure(error: unknown, context: CliContext, json: boolean): number {
  if (context.signal.aborted) return reportInterrupt(context, json);
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE; // commander has printed it
  if (error instanceof Failed) return error.exitCode;
  const { code, message, hint } = explain(error);
  const label = isRich(context.stderr, context.env) ? `\x1b[31merror [${code}]:\x1b[0m` : `error [${code}]:`;
  context.stderr.write(`${label} ${message}\n${hint === null ? "" : `hint: ${hint}\n`}`);
  if (context.env.NEXTSCALE_DEBUG === "1" && error instanceof Error) context.stderr.write(`${stackOf(error)}\n`);
  if (json) printJson(context, { error: { code, message, hint } });
  return code === "INVALID_OPTION" ? EXIT_USAGE : EXIT_FAILURE;
}

function reportInterrupt(context: CliContext, json: boolean): number {
  const { reason } = context.signal;
  context.stderr.write("stopped\n");
  if (json) printJson(context, { error: { code: "ABORTED", message: String(reason?.message ?? reason), hint: null } });
  return reason instanceof Interrupt ? reason.exitCode : EXIT_INTERRUPTED;
}

function explain(error: unknown): { code: string; message: string; hint: string | null } {
  if (!(error instanceof NextscaleError)) {
    const message = error instanceof Error ? error.message : String(error);
    return { code: "INTERNAL", message, hint: REPORT };
  }
  return { code: error.code, message: messageOf(error), hint: hintOf(error) };
}

function messageOf(error: NextscaleError): string {
  if (!(error instanceof InvalidOptionError)) return error.message;
  const flag = flagOf(error.option);
  const composed = `option "${error.option}": expected ${error.expected}, found ${error.found}`;
  if (flag === null || error.message !== composed) return error.message;
  return `${flag}: expected ${error.expected}, found ${error.found}`;
}

const REPORT = 'this looks like a bug: please report it with the output of "nextscale doctor"';

function hintOf(error: NextscaleError): string | null {
  if (error instanceof PoolExhaustedError) {
    const depth = error.deepestFit > 0 ? `--depth ${error.deepestFit} would fit; so may ` : "";
    return `${depth}fewer images at a time (--batch 1) or --kv-dtype f16${depth === "" ? " need less" : ""}`;
  }
  switch (error.code) {
    case "NO_BINARY":
      return '"nextscale doctor" shows what was tried';
    case "INVALID_OPTION":
      return "add --help to see the options";
    case "UNSAFE_CHECKPOINT":
      return "nothing of the file was executed; ask its author for a plain state dict or a safetensors file";
    case "OUT_OF_MEMORY":
      return "fewer images at a time (--batch 1), a lower --depth, or a model converted with --dtype bf16 need less";
    case "NOT_FINITE":
      return "weights converted to f16 may have overflowed: try --dtype bf16 or f32";
    case "INTERNAL":
      return REPORT;
    default:
      return null;
  }
}

function stackOf(error: Error): string {
  const cause = error.cause instanceof Error ? `\ncaused by ${error.cause.stack}` : "";
  return `${error.stack}${cause}`;
}
