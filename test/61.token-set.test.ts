/** Token sets: reading by position, the order of epochs, what is refused, which tokenizer made them. */

import { createHash } from "node:crypto";
import { readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { philox, RandomStream } from "../lib/base/philox.js";
import { convertCheckpoint, inspectCheckpoint, tokenizerFingerprint } from "../lib/checkpoint/index.js";
import { readSafetensors } from "../lib/checkpoint/safetensors.js";
import { epochOrder, requireTokens, TokenSet } from "../lib/data/index.js";
import { type Manifest, parseManifest } from "../lib/data/manifest.js";
import { encodeShard, layoutOf } from "../lib/data/shard.js";
import { goldenPath } from "./support/golden.js";
import { MemorySource } from "./support/memory-source.js";
import { scratch, writeTokenSet } from "./support/token-files.js";

const refusal = (found: RegExp) => ({ code: "INVALID_TOKENS", message: expect.stringMatching(found) });

describe("random numbers", () => {
  // Known answers of the Random123 distribution (kat_vectors, philox4x32 with 10 rounds).
  test.each([
    [[0, 0, 0, 0], 0n, [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]],
    [
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      0xffffffff_ffffffffn,
      [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      0x299f31d0_a4093822n,
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ] as const)("Philox, known answer %#", (counter, key, expected) => {
    const out = new Uint32Array(4);
    philox(out, counter, key);
    expect([...out]).toEqual(expected);
  });

  test("a bounded draw has no bias: words beyond the last whole multiple are drawn again", () => {
    const bound = 3 * 2 ** 30; // a remainder would make the first third twice as likely
    const stream = new RandomStream(1, [0, 0, 0]);
    let low = 0;
    const draws = 20_000;
    for (let i = 0; i < draws; i++) if (stream.below(bound) < 2 ** 30) low++;
    expect(Math.abs(low / draws - 1 / 3)).toBeLessThan(0.02); // six standard errors; with the bias it is 1/2
  });
});

describe("order of an epoch", () => {
  test("property: a permutation, and a function of its arguments alone", () => {
    const seed = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
    fc.assert(
      fc.property(
        seed,
        fc.integer({ min: 0, max: 2 ** 32 - 1 }),
        fc.integer({ min: 0, max: 300 }),
        (s, epoch, length) => {
          const order = epochOrder(s, epoch, length);
          expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length }, (_, i) => i));
          expect(epochOrder(s, epoch, length)).toEqual(order);
        },
      ),
    );
  });

  test("recorded once: it must be the same for ever, on every platform", () => {
    expect([...epochOrder(42, 3, 12)]).toEqual(RECORDED);
    expect(
      createHash("sha256")
        .update(epochOrder(7n, 0, 60_000))
        .digest("hex"),
    ).toBe(RECORDED_HASH);
  });

  test("seeds and epochs differ, and every image comes first equally often", () => {
    const orders = [
      epochOrder(1, 0, 50),
      epochOrder(1, 1, 50),
      epochOrder(2, 0, 50),
      epochOrder(2n ** 32n + 1n, 0, 50),
    ];
    expect(new Set(orders.map((order) => order.join())).size).toBe(4);
    const first = new Float64Array(10);
    for (let epoch = 0; epoch < 5000; epoch++) first[epochOrder(9, epoch, 10)[0]!]! += 1;
    const chiSquare = first.reduce((sum, count) => sum + (count - 500) ** 2 / 500, 0);
    expect(chiSquare).toBeLessThan(27.9); // 9 degrees of freedom: one in a thousand is above
  });

  test("refuses what is no seed, epoch or length", () => {
    for (const [seed, epoch, length] of [
      [-1, 0, 1],
      [0, -1, 1],
      [0, 2 ** 32, 1],
      [0, 0, 1.5],
      [2n ** 64n, 0, 1],
      [0, 0, 2 ** 31 + 1],
    ] as const) {
      expect(() => epochOrder(seed, epoch, length)).toThrow(expect.objectContaining({ code: "INVALID_OPTION" }));
    }
  });
});

/** By an implementation of its own, in another language. */
const RECORDED = [11, 0, 9, 7, 5, 2, 8, 1, 3, 6, 10, 4];
const RECORDED_HASH = "e4104da3bb63b85138a35ea0e454754b645d75a6030e20b18c3aabec8cffef3e";

/** Sides 1, 2: five tokens per image. */
function numbers(count: number, codebookSize: number, seed = 1) {
  const stream = new RandomStream(seed, [count, 0, 0]);
  const tokens = Int32Array.from({ length: 5 * count }, () => stream.below(codebookSize));
  return { labels: Int32Array.from({ length: count }, (_, i) => i % 2), tokens };
}

describe("reading", () => {
  test("property: any rows in any order, with repeats, from memory and from the files", async () => {
    const counts = fc
      .array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 5 })
      .filter((all) => all.some(Boolean));
    const picks = fc.array(fc.nat(), { maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(counts, picks, fc.constantFrom(2, 512, 65_536, 65_537, 2_000_000), async (sizes, raw, V) => {
        const folder = scratchInside();
        const total = sizes.reduce((sum, count) => sum + count, 0);
        const { labels, tokens } = numbers(total, V);
        await writeTokenSet(folder, { counts: sizes, labels, tokens, codebookSize: V });
        const indices = raw.map((pick) => pick % total);
        const expected = indices.flatMap((index) => [...tokens.slice(5 * index, 5 * index + 5)]);
        for (const memoryBytes of [undefined, 0]) {
          const set = await TokenSet.open(folder, memoryBytes === undefined ? {} : { memoryBytes });
          expect(set.length).toBe(total);
          expect(set.labels).toEqual(labels);
          const batch = await set.read(memoryBytes === 0 ? Uint32Array.from(indices) : indices);
          expect([...batch.tokens]).toEqual(expected);
          expect([...batch.labels]).toEqual(indices.map((index) => labels[index]));
        }
      }),
      { numRuns: 40 },
    );
  });

  test("memory is what it says: all tokens, or the labels alone", async () => {
    const folder = scratch();
    await writeTokenSet(folder, { counts: [3, 4], ...numbers(7, 256) });
    expect((await TokenSet.open(folder)).heldBytes).toBe(7 * 4 + 7 * 5 * 2);
    expect((await TokenSet.open(folder, { memoryBytes: 69 })).heldBytes).toBe(7 * 4);
    expect((await TokenSet.open(folder, { memoryBytes: 70 })).heldBytes).toBe(7 * 4 + 70);
  });

  test("indices outside the set are refused", async () => {
    const folder = scratch();
    await writeTokenSet(folder, { counts: [3], ...numbers(3, 256) });
    for (const memoryBytes of [0, 1000]) {
      const set = await TokenSet.open(folder, { memoryBytes });
      for (const index of [-1, 3, 0.5, Number.NaN]) {
        await expect(set.read([0, index])).rejects.toMatchObject({ code: "INVALID_OPTION", option: "indices[1]" });
        expect(() => set.labelAt(index)).toThrow(expect.objectContaining({ code: "INVALID_OPTION" }));
      }
      expect(set.labelAt(2)).toBe(0);
    }
  });

  test("a shard is a safetensors file that others can read", async () => {
    for (const codebookSize of [512, 70_000]) {
      const { labels, tokens } = numbers(3, codebookSize);
      const shape = { count: 3, numTokens: 5, codebookSize };
      const bytes = Buffer.from(encodeShard(shape, labels, tokens));
      const { tensors } = await readSafetensors(new MemorySource(bytes), 0);
      const { labelsOffset, tokensOffset } = layoutOf(shape);
      const dtype = codebookSize === 512 ? "U16" : "I32";
      expect(tensors.get("labels")).toEqual({ dtype: "I32", shape: [3], file: 0, offset: labelsOffset });
      expect(tensors.get("tokens")).toEqual({ dtype, shape: [3, 5], file: 0, offset: tokensOffset });
      expect(labelsOffset % 8).toBe(0);
    }
  });
});

/** Inside a property a test has many runs: one folder for all of them. */
function scratchInside(): string {
  return join(scratch(), String(performance.now()));
}

describe("damage", () => {
  async function prepared() {
    const folder = scratch();
    const manifest = await writeTokenSet(folder, { counts: [3, 2], ...numbers(5, 256) });
    return { folder, manifest, shard: (index: number) => join(folder, manifest.shards[index]!.file) };
  }

  /** Changes one byte and makes the hash right again. */
  async function patch(folder: string, manifest: Manifest, index: number, at: number, value: number) {
    const path = join(folder, manifest.shards[index]!.file);
    const bytes = readFileSync(path);
    bytes[at < 0 ? bytes.length + at : at] = value;
    writeFileSync(path, bytes);
    manifest.shards[index]!.sha256 = createHash("sha256").update(bytes).digest("hex");
    writeFileSync(join(folder, "tokens.json"), JSON.stringify(manifest));
  }

  test.each([0, 1 << 20])("a truncated, a longer and a missing shard (%i bytes of memory)", async (memoryBytes) => {
    const { folder, shard } = await prepared();
    const whole = readFileSync(shard(1));
    truncateSync(shard(1), whole.length - 1);
    const cut = refusal(new RegExp(`00001.*expected ${whole.length} bytes, found ${whole.length - 1} bytes`));
    await expect(TokenSet.open(folder, { memoryBytes })).rejects.toMatchObject(cut);
    writeFileSync(shard(1), Buffer.concat([whole, Buffer.of(0)]));
    await expect(TokenSet.open(folder, { memoryBytes })).rejects.toMatchObject(refusal(/00001/));
    rmSync(shard(1));
    await expect(TokenSet.open(folder, { memoryBytes })).rejects.toMatchObject(refusal(/00001.*no such file/));
  });

  test("a shard that is cut while the set is open", async () => {
    const { folder, shard } = await prepared();
    const set = await TokenSet.open(folder, { memoryBytes: 0 });
    truncateSync(shard(1), 100);
    await expect(set.read([4])).rejects.toMatchObject(refusal(/00001.*an end at byte/));
    expect((await set.read([0])).labels.length).toBe(1);
  });

  test("a token beyond the codebook, when it is opened or when it is read", async () => {
    const { folder, manifest } = await prepared();
    await patch(folder, manifest, 1, -1, 1); // the upper byte of the last token: 256 and more
    await expect(TokenSet.open(folder)).rejects.toMatchObject(
      refusal(/00001.*expected tokens in 0\.\.255, found the token/),
    );
    const set = await TokenSet.open(folder, { memoryBytes: 0 });
    await expect(set.read([4])).rejects.toMatchObject(refusal(/tokens in 0\.\.255/));
    expect((await set.read([3])).tokens.length).toBe(5);
  });

  test.each([0, 1 << 20])("a label without a class (%i bytes of memory)", async (memoryBytes) => {
    const { folder, manifest } = await prepared();
    const { labelsOffset } = layoutOf({ count: 3, numTokens: 5, codebookSize: 256 });
    await patch(folder, manifest, 0, labelsOffset, 2);
    await expect(TokenSet.open(folder, { memoryBytes })).rejects.toMatchObject(
      refusal(/labels in 0\.\.1, found the label 2/),
    );
  });

  test.each([0, 1 << 20])("another header (%i bytes of memory)", async (memoryBytes) => {
    const { folder, manifest } = await prepared();
    await patch(folder, manifest, 0, 12, 65);
    await expect(TokenSet.open(folder, { memoryBytes })).rejects.toMatchObject(refusal(/another header/));
  });

  test("a changed byte that is a valid token: the hash tells", async () => {
    const { folder, shard } = await prepared();
    const bytes = readFileSync(shard(0));
    bytes[bytes.length - 2]! ^= 1;
    writeFileSync(shard(0), bytes);
    await expect(TokenSet.open(folder)).rejects.toMatchObject(refusal(/SHA-256/));
  });

  test("no set, an unfinished one, an empty one", async () => {
    const folder = scratch();
    await expect(TokenSet.open(folder)).rejects.toMatchObject(refusal(/without tokens\.json/));
    await expect(TokenSet.open(join(folder, "nowhere"))).rejects.toMatchObject(refusal(/without tokens\.json/));
    const { folder: cut, manifest } = await prepared();
    manifest.entries = 9;
    writeFileSync(join(cut, "tokens.json"), JSON.stringify(manifest));
    await expect(TokenSet.open(cut)).rejects.toMatchObject(refusal(/unfinished one \(5 of 9 images\)/));
    const empty = scratch();
    await writeTokenSet(empty, { counts: [0], labels: new Int32Array(0), tokens: new Int32Array(0) });
    await expect(TokenSet.open(empty)).rejects.toMatchObject(refusal(/no images/));
    await expect(TokenSet.open(7 as never)).rejects.toMatchObject({ code: "INVALID_OPTION" });
    await expect(TokenSet.open(folder, { memoryBytes: -1 })).rejects.toMatchObject({ code: "INVALID_OPTION" });
  });

  test("tokens.json: every field is checked", async () => {
    const { manifest } = await prepared();
    const good = JSON.stringify(manifest);
    expect(parseManifest("p", good)).toEqual(manifest);
    const changes: [string, (raw: Manifest) => unknown][] = [
      ["version", (raw) => ({ ...raw, version: 2 })],
      ["sides", (raw) => ({ ...raw, sides: [] })],
      ["sides[1]", (raw) => ({ ...raw, sides: [1, 0] })],
      ["codebookSize", (raw) => ({ ...raw, codebookSize: 0 })],
      ["codeDim", (raw) => ({ ...raw, codeDim: "4" })],
      ["fingerprint", (raw) => ({ ...raw, fingerprint: "abc" })],
      ["classes", (raw) => ({ ...raw, classes: "ab" })],
      ["classes[0]", (raw) => ({ ...raw, classes: [""] })],
      ["pictures", (raw) => ({ ...raw, pictures: null })],
      ["pictures.flip", (raw) => ({ ...raw, pictures: { ...raw.pictures, flip: 1 } })],
      ["pictures.fit", (raw) => ({ ...raw, pictures: { ...raw.pictures, fit: "x" } })],
      ["plan", (raw) => ({ ...raw, plan: 0 })],
      ["entries", (raw) => ({ ...raw, entries: -1 })],
      ["shards", (raw) => ({ ...raw, entries: 4 })],
      ["shards[0].file", (raw) => ({ ...raw, shards: [{ ...raw.shards[0], file: "../shard-00000.safetensors" }] })],
      ["shards[0].count", (raw) => ({ ...raw, shards: [{ ...raw.shards[0], count: 4 }] })],
      ["shards[0].sha256", (raw) => ({ ...raw, shards: [{ ...raw.shards[0], sha256: null }] })],
      ["skipped", (raw) => ({ ...raw, skipped: undefined })],
      ["skipped[0].path", (raw) => ({ ...raw, skipped: [{}] })],
      ["the file", () => []],
    ];
    for (const [field, change] of changes) {
      const text = JSON.stringify(change(JSON.parse(good)));
      expect(() => parseManifest("p", text), field).toThrow(
        expect.objectContaining({ code: "INVALID_TOKENS", found: expect.stringContaining(`${field}: `) }),
      );
    }
    expect(() => parseManifest("p", "{")).toThrow(expect.objectContaining(refusal(/no JSON/)));
  });

  test("property: a damaged tokens.json is refused or read, never anything else", async () => {
    const { manifest } = await prepared();
    const good = JSON.stringify(manifest);
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.string({ maxLength: 3 }), fc.nat(4), (at, text, cut) => {
        try {
          parseManifest("p", good.slice(0, at) + text + good.slice(at + cut));
        } catch (error) {
          expect(error).toMatchObject({ code: "INVALID_TOKENS" });
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe("which tokenizer", () => {
  test("the same for a .pth file and what is converted from it, in any format; another for another", async () => {
    const fingerprint = async (source: Parameters<typeof inspectCheckpoint>[0]) =>
      tokenizerFingerprint(await inspectCheckpoint(source));
    const digits = await fingerprint(goldenPath("digits", "vae.pth"));
    expect(digits).toMatch(/^[0-9a-f]{64}$/);
    expect(await fingerprint(goldenPath("tiny", "vae.pth"))).not.toBe(digits);
    const folder = scratch();
    for (const dtype of ["f32", "bf16", "f16", undefined] as const) {
      const output = join(folder, `${dtype}.safetensors`);
      const source = { var: goldenPath("digits", "var.pth"), tokenizer: goldenPath("digits", "vae.pth") };
      await convertCheckpoint({ source, output, dtype });
      expect(await fingerprint(output)).toBe(digits);
    }
  });

  test("a changed code vector changes it; a transformer has none", async () => {
    const info = await inspectCheckpoint(goldenPath("digits", "vae.pth"));
    const codebook = info.tensors.find(({ name }) => name === "vae.quantize.embedding.weight")!;
    const copy = join(scratch(), "vae.pth");
    const bytes = readFileSync(info.files[0]!);
    bytes[codebook.offset + 400]! ^= 1;
    writeFileSync(copy, bytes);
    expect(await tokenizerFingerprint({ ...info, files: [copy] })).not.toBe(await tokenizerFingerprint(info));
    const transformer = await inspectCheckpoint(goldenPath("digits", "var.pth"));
    await expect(tokenizerFingerprint(transformer)).rejects.toMatchObject({ code: "INVALID_CHECKPOINT" });
  });

  const architecture = { sides: [1, 2], codebookSize: 256, numClasses: 3 };
  const set = { folder: "t", sides: [1, 2], codebookSize: 256, fingerprint: "aa", classes: ["x"] };

  test("tokens of another tokenizer, codebook or pyramid are refused, with both sides named", () => {
    const model = { architecture, tokenizerFingerprint: "aa" };
    expect(() => requireTokens("t", set, model, "the model")).not.toThrow();
    const refused = (parts: object, found: string, expected: string) =>
      expect(() => requireTokens("t", { ...set, ...parts }, model, "the model")).toThrow(
        expect.objectContaining({
          code: "INVALID_TOKENS",
          found: expect.stringContaining(found),
          expected: expect.stringContaining(expected),
        }),
      );
    refused({ codebookSize: 512 }, "512", "256");
    refused({ sides: [1, 3] }, "1, 3", "1, 2");
    refused({ fingerprint: "bb" }, "bb", "aa");
  });
});
