// clang-format over the C++ and CUDA sources, with .clang-format's style. It is the npm package's own build
// (WebAssembly) in the version that package.json pins, because two versions of clang-format do not agree with each
// other.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { format, version } from "@wasm-fmt/clang-format/node";
import { root } from "./run.mjs";
import { CPP, sources } from "./sources.mjs";

/** Checks every file, or with `write` brings those that differ into form. */
export function clangFormat(tally, { write }) {
  console.log(`== ${version().split(" (")[0]}`);
  const style = readFileSync(join(root, ".clang-format"), "utf8");
  const files = sources(CPP);
  const differing = files.filter((path) => {
    const text = readFileSync(join(root, path), "utf8");
    const formatted = format(text, path, style);
    if (write && formatted !== text) writeFileSync(join(root, path), formatted);
    return formatted !== text;
  });
  for (const path of differing) console.log(`${write ? "formatted" : "not as clang-format has it"}: ${path}`);
  const failed = !write && differing.length > 0;
  tally.record("clang-format", failed ? { failed: 1 } : { passed: 1 }, `${differing.length} of ${files.length} files`);
}
