// Running other programs from the tools of this folder.

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const require = createRequire(import.meta.url);

/** The checkout. */
export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** Compiler processes at a time. */
export const jobs = () => process.env.NEXTSCALE_BUILD_JOBS ?? String(availableParallelism());

/** Runs a program in the checkout with our output, and returns how it ended. */
export function run(command, args, options = {}) {
  return spawnSync(command, args, { cwd: root, stdio: "inherit", ...options });
}

/** Whether a program can be started and is content; what it says is dropped. */
export function works(command, args, input) {
  return spawnSync(command, args, { input, stdio: ["pipe", "ignore", "ignore"] }).status === 0;
}

/** Path of the bin of an installed package. */
export function bin(name, command = name) {
  const manifest = require.resolve(`${name}/package.json`);
  const { bin: bins } = JSON.parse(readFileSync(manifest, "utf8"));
  return join(dirname(manifest), typeof bins === "string" ? bins : bins[command]);
}
