/** metrics.jsonl: one JSON object per line, in the order of the steps. */

import { createReadStream } from "node:fs";
import * as fs from "node:fs/promises";
import { ioError } from "../files/io-error.js";
import type { EvaluationMetrics, StepMetrics } from "./events.js";

const LINE_BREAK = 10;

export type MetricsLine = StepMetrics | EvaluationMetrics;

export class MetricsFile {
  private constructor(
    readonly path: string,
    readonly file: fs.FileHandle,
  ) {}

  /** Opens for appending; lines beyond `bytes` are cut off. */
  static async open(path: string, bytes: number, files: Pick<typeof fs, "open"> = fs): Promise<MetricsFile> {
    try {
      const file = await files.open(path, "a");
      if ((await file.stat()).size > bytes) await file.truncate(bytes);
      return new MetricsFile(path, file);
    } catch (error) {
      throw ioError("cannot write", path, error);
    }
  }

  async append(lines: readonly MetricsLine[]): Promise<void> {
    try {
      await this.file.appendFile(lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
    } catch (error) {
      throw ioError("cannot write", this.path, error);
    }
  }

  /** What was appended survives a power cut, too. */
  async sync(): Promise<void> {
    try {
      await this.file.sync();
    } catch (error) {
      throw ioError("cannot write", this.path, error);
    }
  }

  async close(): Promise<void> {
    await this.file.close();
  }
}

/** What a resumed run keeps. */
export interface Kept {
  /** Bytes of the lines up to the step. */
  bytes: number;
  /** True when the evaluation after the step is complete. */
  evaluated: boolean;
}

/**
 * Finds the lines of the first `step` updates; an evaluation after them counts when all its `evaluations` lines are
 * there.
 */
export async function linesUntil(path: string, step: number, evaluations: number): Promise<Kept> {
  let [position, kept, found] = [0, 0, 0];
  for await (const { line, bytes } of readLines(path)) {
    if (line === null || line.step > step) break;
    position += bytes;
    if (line.type === "evaluation" && line.step === step) found++;
    else kept = position;
  }
  const evaluated = evaluations > 0 && found === evaluations;
  return { bytes: evaluated ? position : kept, evaluated };
}

/** All whole lines. A file that is not there has none. */
export async function readMetrics(path: string): Promise<MetricsLine[]> {
  const lines: MetricsLine[] = [];
  for await (const { line } of readLines(path)) if (line !== null) lines.push(line);
  return lines;
}

/**
 * `line` is null for what is no metric, such as the torn last line of a process that was killed: a line counts with its
 * line break only, or the next one would be glued to it.
 */
async function* readLines(path: string): AsyncGenerator<{ line: MetricsLine | null; bytes: number }> {
  let rest = Buffer.alloc(0);
  try {
    for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
      const bytes = Buffer.concat([rest, chunk]);
      let start = 0;
      for (let end = bytes.indexOf(LINE_BREAK); end >= 0; end = bytes.indexOf(LINE_BREAK, start)) {
        yield { line: parse(bytes.toString("utf8", start, end)), bytes: end + 1 - start };
        start = end + 1;
      }
      rest = bytes.subarray(start);
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw ioError("cannot read", path, error);
  }
}

function parse(text: string): MetricsLine | null {
  try {
    const line = JSON.parse(text) as MetricsLine;
    return typeof line?.step === "number" && (line.type === "step" || line.type === "evaluation") ? line : null;
  } catch {
    return null;
  }
}
