/** The package's own version. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../native/binding.js";

export function packageVersion(): string {
  const manifest = JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8")) as { version: string };
  return manifest.version;
}
