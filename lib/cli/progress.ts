/** What moves while a command works: a region of lines at the end of a terminal, or plain lines, or nothing. */

import { type CliContext, isLive, type OutputStream } from "./context.js";

export interface Progress {
  /** Shows the present state; on a terminal it replaces what was shown before. `picture` is for terminals only. */
  update(line: string, picture?: readonly string[]): void;
  /** A fact to keep when output is plain (`--verbose`); nothing on a terminal, whose region has shown it. */
  log(line: string): void;
  /** A warning: always printed, above the region. */
  warn(text: string): void;
  /** Takes the region away. Idempotent. */
  close(): void;
}

/** A region on a terminal, lines with `--verbose`, else silence; always on stderr. */
export function createProgress({ stderr, env }: CliContext, verbose: boolean): Progress {
  if (verbose) return { ...silentProgress(stderr), log: (line) => void stderr.write(`${line}\n`) };
  return isLive(stderr, env) ? liveProgress(stderr) : silentProgress(stderr);
}

function silentProgress(stream: OutputStream): Progress {
  return { update() {}, log() {}, warn: (text) => void stream.write(`warning: ${text}\n`), close() {} };
}

function liveProgress(stream: OutputStream): Progress {
  let height = 0; // lines on the screen, the last one without a line break
  let open = false;
  const erase = () => (height > 1 ? `\x1b[${height - 1}A\r\x1b[0J` : "\r\x1b[0J");
  const close = () => {
    if (open) stream.write(erase());
    open = false;
    height = 0;
  };
  return {
    update(line, picture = []) {
      const lines = [...picture, cut(line, (stream.columns || 80) - 1)];
      stream.write(`${open ? erase() : ""}${lines.join("\n")}`);
      height = lines.length;
      open = true;
    },
    log() {},
    warn(text) {
      close();
      stream.write(`warning: ${text}\n`);
    },
    close,
  };
}

/** A line that wraps could not be taken back: it is cut instead. */
function cut(line: string, columns: number): string {
  const characters = [...line];
  return characters.length <= columns ? line : `${characters.slice(0, Math.max(0, columns - 1)).join("")}…`;
}

/** `██████░░░░` */
export function bar(fraction: number, width = 20): string {
  const full = Math.round(Math.min(1, Math.max(0, fraction)) * width);
  return "█".repeat(full) + "░".repeat(width - full);
}
