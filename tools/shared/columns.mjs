// Lines are at most 120 characters long, in every language.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./run.mjs";
import { CPP, SCRIPTS, sources } from "./sources.mjs";

const LIMIT = 120;

export function columns(tally) {
  console.log(`== columns (${LIMIT})`);
  const long = sources(CPP, SCRIPTS).flatMap((path) => {
    const lines = readFileSync(join(root, path), "utf8").split("\n");
    return lines.flatMap((line, i) => ([...line].length > LIMIT ? [`${path}:${i + 1}`] : []));
  });
  if (long.length > 0) console.error(`longer than ${LIMIT} characters:\n  ${long.join("\n  ")}`);
  tally.record("columns", long.length > 0 ? { failed: 1 } : { passed: 1 });
}
