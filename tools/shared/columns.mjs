// Lines are at most 120 characters long, in every language. A text (or a pattern) counts by its first 40 characters:
// neither
// formatter can break one, and a message in one piece is found by who searches for it.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./run.mjs";
import { CPP, SCRIPTS, sources } from "./sources.mjs";

const LIMIT = 120;
const TEXT = 40;

/** Texts and patterns shortened; what stands around them stays. */
function shortened(line) {
  return line.replace(/(["'`])(?:\\.|(?!\1)[^\\])*\1?|\/(?![*/])(?:\\.|[^\\/])+\//g, (text) => text.slice(0, TEXT));
}

/** Lines of texts over several lines (help, programs in tests) begin and end with no quote: they are texts as a
 * whole. */
function isInText(lines) {
  let inside = false;
  return lines.map((line) => {
    const was = inside;
    if ((line.replace(/\\./g, "").match(/`/g)?.length ?? 0) % 2 === 1) inside = !inside;
    return was || inside;
  });
}

export function columns(tally) {
  console.log(`== columns (${LIMIT})`);
  const long = sources(CPP, SCRIPTS).flatMap((path) => {
    const lines = readFileSync(join(root, path), "utf8").split("\n");
    const inText = /\.(ts|mjs)$/.test(path) ? isInText(lines) : [];
    const tooLong = (line, i) => [...line].length > LIMIT && !inText[i] && [...shortened(line)].length > LIMIT;
    return lines.flatMap((line, i) => (tooLong(line, i) ? [`${path}:${i + 1}`] : []));
  });
  if (long.length > 0) console.error(`longer than ${LIMIT} characters:\n  ${long.join("\n  ")}`);
  tally.record("columns", long.length > 0 ? { failed: 1 } : { passed: 1 });
}
