// npm run prebuild: copies the built addon to prebuilds/<platform>-<arch>/, under the name that node-gyp-build looks
// for, and Highway's run-time library beside it, where the addon's RUNPATH ($ORIGIN) finds it; the CUDA kernels, too,
// if there are any.

import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, realpathSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const built = join(root, "build", "Release", "nextscale.node");
if (!existsSync(built)) {
  console.error('nextscale: nothing to copy; run "npm run build" first');
  process.exit(1);
}

/** Shared libraries of the addon that a machine without a compiler does not have. */
function companions() {
  if (process.platform !== "linux") return [];
  const lines = execFileSync("ldd", [built], { encoding: "utf8" }).split("\n");
  return lines.flatMap((line) => /(libhwy\.so\S*) => (\S+)/.exec(line)?.[2] ?? []);
}

// glibc or musl, as node-gyp-build tells them apart.
const libc = existsSync("/etc/alpine-release") ? ".musl" : process.platform === "linux" ? ".glibc" : "";
const folder = join(root, "prebuilds", `${process.platform}-${process.arch}`);
mkdirSync(folder, { recursive: true });
const copies = [[built, join(folder, `nextscale${libc}.node`)]];
for (const library of companions()) copies.push([realpathSync(library), join(folder, basename(library))]);
const kernels = join(dirname(built), "libnextscale_cuda.so");
if (existsSync(kernels)) copies.push([kernels, join(folder, basename(kernels))]);
for (const [from, to] of copies) {
  copyFileSync(from, to);
  console.log(to);
}
