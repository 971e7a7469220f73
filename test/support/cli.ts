/** The command line in this process: words in, exit code and both streams out. */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import type { CliContext, OutputStream } from "../../lib/cli/context.js";
import { run } from "../../lib/cli/run.js";

export interface CliResult {
  code: number;
  stdout: string;
  stderr: string;
}

/** A stream that remembers; `tty` gives it a terminal of 80 x 24 with true colours. */
export function memoryStream(tty = false): OutputStream & { text: string } {
  const stream = {
    text: "",
    write(text: string) {
      stream.text += text;
      return true;
    },
    ...(tty && { isTTY: true, columns: 80, rows: 24, getColorDepth: () => 24 }),
  };
  return stream;
}

export interface CliOptions extends Partial<Omit<CliContext, "stdout">> {
  tty?: boolean;
}

export async function runCli(words: string[], { tty = false, ...parts }: CliOptions = {}): Promise<CliResult> {
  const stdout = memoryStream(tty);
  const stderr = memoryStream(tty);
  const signal = new AbortController().signal;
  const loadModel = () => Promise.reject(new Error("this test must not open a model"));
  const code = await run(words, { stdout, stderr, env: {}, signal, loadModel, ...parts });
  return { code, stdout: stdout.text, stderr: stderr.text };
}

/** A folder that goes away with the test. */
export function scratchFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "nextscale-cli-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
