// npm run docs:check: repeats the numbers of the documents that a command can repeat, and fails when one has drifted.
//
//   NEXTSCALE_MNIST=DIR    also those that need MNIST as folders (DIR/test/0 ...), tokenized here: minutes
//   NEXTSCALE_BASE=DIR     ... and the digits before their training as a supernet (DIR/var.pth, DIR/vae.pth)
//
// A number stands in a document as a text; the pattern finds it there, the command says what it should be.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const nextscale = await import(pathToFileURL(join(root, "dist", "index.js")).href);
const { NEXTSCALE_MNIST: mnist, NEXTSCALE_BASE: base } = process.env;
const counts = { right: 0, wrong: 0, skipped: 0 };

/** Compares the groups of a pattern with what they should be. */
function check(file, pattern, expected) {
  const match = pattern.exec(readFileSync(join(root, file), "utf8"));
  const found = match === null ? ["nothing"] : match.slice(1);
  const right = found.join() === expected.join();
  counts[right ? "right" : "wrong"]++;
  console.log(
    `${right ? "ok   " : "WRONG"} ${file}: ${found.join(", ")}${right ? "" : `, should be ${expected.join(", ")}`}`,
  );
}

function skip(what, how) {
  counts.skipped++;
  console.log(`skip  ${what}: ${how}`);
}

/** Greedy tokens of the ten digits of the bundled model. */
async function greedy(dtype) {
  const model = await nextscale.loadModel(undefined, { device: "cpu", kvPool: { dtype } });
  const labels = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
  const { flat } = await model.generate({ labels, topK: 1, seed: 0, guidance: 1.5 }).tokens();
  await model.dispose();
  return flat;
}

async function kvFormats() {
  const exact = await greedy("f32");
  const changed = async (dtype) => {
    const other = await greedy(dtype);
    return String(exact.reduce((count, token, index) => count + (token === other[index] ? 0 : 1), 0));
  };
  const figures = [await changed("f16"), exact.length.toLocaleString("en"), await changed("bf16")];
  check("docs/depth.md", /changes (\d+) of ([\d,]+)\s+of the bundled digits at guidance 1\.5 \(bf16: (\d+)\)/, figures);
}

async function sensitivity() {
  const folder = mkdtempSync(join(tmpdir(), "nextscale-docs-"));
  const source = { var: join(base, "var.pth"), tokenizer: join(base, "vae.pth") };
  const model = await nextscale.loadModel(source, { device: "cpu" });
  try {
    const tokens = join(folder, "tokens");
    await nextscale.tokenizeImages({ model, images: join(mnist, "test"), output: tokens, fit: "pad" });
    const { full, zones } = await nextscale.measureSensitivity({ model, tokens, limit: 200 });
    const pattern =
      /everywhere (\d+\.\d+) nats; the first two scales\s+(\d+\.\d+); the middle two (\d+\.\d+); the last two\s+(\d+\.\d+)/;
    check(
      "docs/training.md",
      pattern,
      [full, ...zones].map(({ mean }) => mean.toFixed(3)),
    );
  } finally {
    await model.dispose();
    rmSync(folder, { recursive: true });
  }
}

await kvFormats();
if (mnist && base) await sensitivity();
else skip("docs/training.md, --sensitivity", "NEXTSCALE_MNIST and NEXTSCALE_BASE name the data");

console.log(`${counts.right} right, ${counts.wrong} wrong, ${counts.skipped} skipped`);
process.exitCode = counts.wrong > 0 || counts.right === 0 ? 1 : 0;
