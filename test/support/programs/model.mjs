// What the programs share: the built package, and the digits pair.
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { loadModel } from "../../../dist/index.js";

const folder = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "golden", "digits");

export const openDigits = (options = {}) =>
  loadModel({ var: join(folder, "var.pth"), tokenizer: join(folder, "vae.pth") }, { threads: 2, ...options });
