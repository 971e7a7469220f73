// npm run lint: checks the form of the sources and changes nothing; npm run format mends what can be mended by itself.
//
//   npm run lint                       every step
//   npm run lint -- biome columns      these steps
//   node tools/lint.mjs --quick        without clang-tidy, which takes minutes: what npm test runs
//
// Ends with "N passed, N failed, N skipped"; a step that cannot run here is skipped, with the reason.

import { clangFormat } from "./shared/clang-format.mjs";
import { clangTidy } from "./shared/clang-tidy.mjs";
import { columns } from "./shared/columns.mjs";
import { bin, root } from "./shared/run.mjs";
import { Tally } from "./shared/tally.mjs";

const steps = {
  biome: (tally) => tally.check("biome", [bin("@biomejs/biome", "biome"), "check", root]),
  columns,
  "clang-format": (tally) => clangFormat(tally, { write: false }),
  "clang-tidy": clangTidy,
};
const QUICK = ["biome"];
const ALL = [...QUICK, "clang-tidy"];

const words = process.argv.slice(2);
const names = words.includes("--quick") ? QUICK : words.length > 0 ? words : ALL;
const unknown = names.filter((name) => !(name in steps));
if (unknown.length > 0) {
  console.error(`no such step: ${unknown.join(", ")}; there are ${Object.keys(steps).join(", ")}`);
  process.exit(2);
}
const tally = new Tally();
for (const name of names) await steps[name](tally);
tally.conclude();
