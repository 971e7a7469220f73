/**
 * A folder in which the commands and programs of the documentation find the files that they name, all of them small.
 */

import { copyFileSync, cpSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";
import { convertCheckpoint, loadTokenizer, tokenizeImages } from "../../lib/index.js";
import { type PyValue, torchZip } from "./pth-writer.js";
import { Random, type RandomModel, randomStateDicts } from "./random-checkpoint.js";

/** Seven scales, so that a bridge may have six, sixteen blocks as VAR-d16 has, and next to no width. */
const SHAPE: RandomModel = {
  depth: 16,
  width: 16,
  heads: 2,
  sides: [1, 2, 3, 4, 5, 6, 8],
  codebookSize: 32,
  codeDim: 4,
  multipliers: [1, 1],
};

/** What a block may ask for with `run with`: most commands make these themselves. */
export const EXTRAS: readonly string[] = ["tokens", "heldout"];

async function writeImages(folder: string, side: number, seed: number): Promise<void> {
  const random = new Random(seed);
  for (const name of ["3", "7"]) {
    mkdirSync(join(folder, name), { recursive: true });
    for (let i = 0; i < 3; i++) {
      const data = Uint8Array.from({ length: 3 * side * side }, () => random.below(256));
      const image = sharp(data, { raw: { width: side, height: side, channels: 3 } });
      await image.png().toFile(join(folder, name, `${i}.png`));
    }
  }
}

/**
 * A pair of PyTorch files with random weights, and the same converted. One tokenizer for all of them: its weights come
 * from the seed.
 */
async function writeModel(folder: string, name: string, numClasses: number): Promise<void> {
  const dicts = randomStateDicts({ ...SHAPE, numClasses });
  const vae = randomStateDicts({ ...SHAPE, numClasses: 10 }).vae;
  const source = { var: join(folder, `${name}-var.pth`), tokenizer: join(folder, `${name}-vae.pth`) };
  writeFileSync(source.var, torchZip(dicts.var));
  writeFileSync(source.tokenizer, torchZip(vae));
  const parts = new Map<string, PyValue>([
    ["var_wo_ddp", dicts.var],
    ["vae_local", vae],
  ]);
  writeFileSync(join(folder, `${name}-trainer.pth`), torchZip(new Map([["trainer", parts]])));
  await convertCheckpoint({ source, output: join(folder, `${name}.safetensors`) });
}

/**
 * Fills `folder` with what every snippet finds, and `extras` with what some ask for. `config` is the supernet.json of
 * the docs.
 */
export async function makeSnippetFolder(folder: string, extras: string, config: string): Promise<void> {
  const at = (name: string) => join(folder, name);
  await writeModel(folder, "d16", 1000);
  await writeModel(folder, "base", 10);
  renameSync(at("d16-var.pth"), at("var_d16.pth"));
  renameSync(at("d16-trainer.pth"), at("ar-ckpt-best.pth"));
  const sides = [1, 2, 3, 4, 6, 8]; // the tokenizer that has no transformer yet
  writeFileSync(at("vae.pth"), torchZip(randomStateDicts({ ...SHAPE, sides }).vae));
  renameSync(at("d16-vae.pth"), at("vae_ch160v4096z32.pth"));
  copyFileSync(at("base.safetensors"), at("supernet.safetensors"));
  const names = Array.from({ length: 1000 }, (_, i) => (i === 207 ? "golden retriever" : `class ${i}`));
  writeFileSync(at("imagenet.txt"), `${names.join("\n")}\n`);
  writeFileSync(at("supernet.json"), config);
  await sharp({ create: { width: 32, height: 32, channels: 3, background: "#345" } })
    .png()
    .toFile(at("three.png"));
  const pictures = { images: 40, other: 40, "mnist/train": 28, "mnist/test": 28, "cifar10/train": 32 };
  for (const [index, [name, side]] of Object.entries(pictures).entries()) await writeImages(at(name), side, index);
  const model = await loadTokenizer(at("base.safetensors"));
  for (const [images, output] of [
    ["images", "tokens"],
    ["other", "heldout"],
  ]) {
    await tokenizeImages({ model, images: at(images!), output: join(extras, output!) });
  }
  await model.dispose();
}

export function addExtra(name: string, extras: string, folder: string): void {
  cpSync(join(extras, name), join(folder, name), { recursive: true });
}
