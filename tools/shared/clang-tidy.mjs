// clang-tidy with the checks of .clang-tidy over the core, the addon left out (its headers are the packages' business).

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { root, works } from "./run.mjs";
import { sources } from "./sources.mjs";

/** CLANG_TIDY, or the newest that is in PATH. */
function find() {
  const versions = Array.from({ length: 12 }, (_, i) => `clang-tidy-${25 - i}`);
  return [process.env.CLANG_TIDY, "clang-tidy", ...versions].find((name) => name && works(name, ["--version"]));
}

/** What clang-tidy says about one file, or nothing. */
function examine(tidy, path) {
  return new Promise((resolve, reject) => {
    const child = spawn(tidy, ["--quiet", "--extra-arg=-Wno-unknown-warning-option", "-p", join(root, "build"), path], {
      cwd: root,
    });
    let output = "";
    child.stdout.on("data", (chunk) => {
      output += chunk;
    });
    child.on("error", reject);
    child.on("close", (code) => resolve(code === 0 ? "" : output));
  });
}

export async function clangTidy(tally) {
  const tidy = find();
  console.log(`== clang-tidy (${tidy ?? "none"})`);
  if (!tidy) return tally.record("clang-tidy", { skipped: 1 }, "no clang-tidy is installed");
  if (!existsSync(join(root, "build", "compile_commands.json"))) {
    return tally.record(
      "clang-tidy",
      { skipped: 1 },
      "there is no build to read the compiler's flags from: npm run build",
    );
  }
  const queue = sources(/\.cc$/).filter((path) => path.startsWith("native/") && !path.startsWith("native/addon/"));
  const count = queue.length;
  const complaints = [];
  async function worker() {
    for (let path = queue.shift(); path !== undefined; path = queue.shift()) {
      const complaint = await examine(tidy, path);
      if (complaint !== "") {
        complaints.push(complaint);
        console.error(complaint);
      }
    }
  }
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  tally.record("clang-tidy", complaints.length > 0 ? { failed: 1 } : { passed: 1 }, `${count} files`);
}
