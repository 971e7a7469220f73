/** What a command gets from the process: streams, environment, a signal. Tests hand in their own. */

import type { loadModel } from "../model/load.js";

/** The part of a writable stream that commands use. */
export interface OutputStream {
  write(text: string): boolean;
  isTTY?: boolean;
  columns?: number;
  rows?: number;
  getColorDepth?(env?: object): number;
}

export interface CliContext {
  /** Results. */
  stdout: OutputStream;
  /** Progress, warnings and errors. */
  stderr: OutputStream;
  env: NodeJS.ProcessEnv;
  /** Aborts at the first Ctrl-C. */
  signal: AbortSignal;
  loadModel: typeof loadModel;
}

/** True where colours and cursor movements make sense. NO_COLOR and TERM=dumb are respected. */
export function isRich(stream: OutputStream, env: NodeJS.ProcessEnv): boolean {
  return stream.isTTY === true && env.TERM !== "dumb" && !env.NO_COLOR;
}

/** True where a line may be overwritten: a terminal, coloured or not. */
export function isLive(stream: OutputStream, env: NodeJS.ProcessEnv): boolean {
  return stream.isTTY === true && env.TERM !== "dumb";
}

/** One JSON document. Seeds beyond 2^53 become decimal strings. */
export function printJson({ stdout }: CliContext, value: unknown): void {
  stdout.write(`${JSON.stringify(value, (_, item) => (typeof item === "bigint" ? String(item) : item), 2)}\n`);
}
