// npm run format: brings the sources into the form that npm run lint checks.

import { clangFormat } from "./shared/clang-format.mjs";
import { bin, root } from "./shared/run.mjs";
import { Tally } from "./shared/tally.mjs";

const tally = new Tally();
tally.check("biome", [bin("@biomejs/biome", "biome"), "check", "--write", root]);
clangFormat(tally, { write: true });
tally.conclude();
