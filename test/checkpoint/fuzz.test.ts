/**
 * Mutated files: whatever is in them, a reader answers with a result or with one of our errors, soon. The cases come
 * from a seed (`NEXTSCALE_FUZZ_SEED`), their number from a time (`NEXTSCALE_FUZZ_MS` per format).
 */

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { convertCheckpoint } from "../../lib/checkpoint/index.js";
import { inspectSources } from "../../lib/checkpoint/open.js";
import { NextscaleError } from "../../lib/errors.js";
import { temporaryPath, writePair } from "../support/checkpoint-files.js";
import { MemorySource } from "../support/memory-source.js";
import { torchLegacy, torchZip } from "../support/pth-writer.js";
import { Random, randomStateDicts } from "../support/random-checkpoint.js";

const MILLISECONDS = Number(process.env.NEXTSCALE_FUZZ_MS ?? 1000);
const SEED = Number(process.env.NEXTSCALE_FUZZ_SEED ?? 1);
const MAX_CASE_MS = 2000;
/** What a test may take besides the time that it was told to spend. */
const TEST_MS = 60_000;

// Small weights: most bytes are structure.
const { var: transformer } = randomStateDicts({
  width: 2,
  heads: 1,
  depth: 1,
  codebookSize: 2,
  codeDim: 1,
  mlpWidth: 1,
  sides: [1, 2],
});

test.each<[string, () => Promise<Buffer> | Buffer]>([
  ["the zip archive", () => torchZip({ trainer: { var_wo_ddp: transformer } })],
  ["the ZIP64 archive", () => torchZip(transformer, { zip64: true })],
  ["the legacy stream", () => torchLegacy(transformer)],
  ["the pickle alone, with a right checksum", () => torchZip(transformer)],
  ["safetensors", safetensors],
])(
  "%s",
  async (name, make) => {
    const good = await make();
    const random = new Random(SEED);
    const outcomes = new Map<string, number>();
    const end = performance.now() + MILLISECONDS;
    let cases = 0;
    for (; performance.now() < end; cases++) {
      const bytes = name.startsWith("the pickle") ? mutatedPickle(random) : mutate(good, random);
      const start = performance.now();
      const outcome = await inspectSources([new MemorySource(bytes)]).then(
        (info) => checkRanges(info.tensors, bytes.length),
        (error: unknown) => codeOf(error, name, cases),
      );
      if (performance.now() - start > MAX_CASE_MS) expect.fail(`case ${cases} of seed ${SEED} took too long`);
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    }
    expect(cases).toBeGreaterThan(20);
    expect(outcomes.get("INVALID_CHECKPOINT") ?? 0, JSON.stringify([...outcomes])).toBeGreaterThan(0);
  },
  MILLISECONDS + TEST_MS,
);

function codeOf(error: unknown, name: string, index: number): string {
  if (error instanceof NextscaleError && error.code !== "INTERNAL" && error.code !== "IO") return error.code;
  throw new Error(`${name}: case ${index} of seed ${SEED} ended in an error that is not ours`, { cause: error });
}

/** What is accepted must lie inside the file. */
function checkRanges(
  tensors: { name: string; shape: number[]; offset: number; dtype: string }[],
  size: number,
): string {
  for (const { name, shape, offset, dtype } of tensors) {
    const bytes = shape.reduce((product, side) => product * side, dtype === "f32" ? 4 : 2);
    const inside = Number.isSafeInteger(offset) && offset >= 0 && Number.isSafeInteger(bytes) && offset + bytes <= size;
    if (!inside) throw new Error(`${name} lies at ${offset} + ${bytes} of ${size}`);
  }
  return "read";
}

const INTERESTING = [0, 1, 0x7f, 0x80, 0xff];

/** One to four changes: bytes, numbers, pieces moved, cut, repeated or removed. */
function mutate(good: Buffer, random: Random): Buffer {
  let bytes = Buffer.from(good);
  for (let changes = 1 + random.below(4); changes > 0 && bytes.length > 16; changes--) {
    const at = random.below(bytes.length);
    const length = Math.min(1 + random.below(16), bytes.length - at);
    switch (random.below(8)) {
      case 0:
        bytes[at] = random.below(256);
        break;
      case 1:
        bytes[at] = bytes[at]! ^ (1 << random.below(8));
        break;
      case 2:
        bytes.fill(INTERESTING[random.below(INTERESTING.length)]!, at, at + length);
        break;
      case 3:
        bytes.copy(bytes, at, random.below(bytes.length));
        break;
      case 4:
        bytes = bytes.subarray(0, at);
        break;
      case 5:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
        break;
      case 6:
        bytes = Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)]);
        break;
      default:
        if (at + 4 <= bytes.length) bytes.writeInt32LE((bytes.readInt32LE(at) + random.below(9) - 4) | 0, at);
    }
  }
  return bytes;
}

/** The checksum would refuse nearly every mutated pickle before it is interpreted: here it is always right. */
function mutatedPickle(random: Random): Buffer {
  return torchZip(transformer, {
    edit: ([pickle, ...rest]) => [{ name: pickle!.name, data: mutate(Buffer.from(pickle!.data), random) }, ...rest],
  });
}

async function safetensors(): Promise<Buffer> {
  const output = temporaryPath("fuzz.safetensors");
  await convertCheckpoint({ source: writePair("fuzz", { depth: 1, multipliers: [1] }), output });
  const bytes = readFileSync(output);
  return withoutTokenizer(bytes);
}

/** Only the transformer's tensors: the tokenizer's weights would be nearly all of the file. */
function withoutTokenizer(bytes: Buffer): Buffer {
  const length = Number(bytes.readBigUInt64LE(0));
  type Header = Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;
  const { __metadata__: metadata, ...header } = JSON.parse(bytes.toString("utf8", 8, 8 + length)) as Header;
  const parts: Buffer[] = [];
  const kept: Record<string, unknown> = { __metadata__: metadata };
  let position = 0;
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
    if (!name.startsWith("var.")) continue;
    const [begin, end] = data_offsets;
    parts.push(bytes.subarray(8 + length + begin, 8 + length + end));
    kept[name] = { dtype, shape, data_offsets: [position, position + end - begin] };
    position += end - begin;
  }
  const json = Buffer.from(JSON.stringify(kept));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([size, json, ...parts]);
}
