// npm run prebuild: copies the built addon to prebuilds/<platform>-<arch>/, under the name that node-gyp-build looks for.

import { copyFileSync, existsSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const built = join(root, "build", "Release", "nextscale.node");
if (!existsSync(built)) {
  console.error('nextscale: nothing to copy; run "npm run build" first');
  process.exit(1);
}

// glibc or musl, as node-gyp-build tells them apart.
const libc = existsSync("/etc/alpine-release") ? ".musl" : process.platform === "linux" ? ".glibc" : "";
const folder = join(root, "prebuilds", `${process.platform}-${process.arch}`);
const target = join(folder, `nextscale${libc}.node`);
mkdirSync(folder, { recursive: true });
copyFileSync(built, target);
console.log(target);
