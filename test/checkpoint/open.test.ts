/** Files that are not what they should be, sources, options. */

import { mkdirSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { inspectCheckpoint, openCheckpoint } from "../../lib/checkpoint/index.js";
import { AbortError, InvalidCheckpointError, InvalidOptionError, IoError } from "../../lib/errors.js";
import type { OpenOptions } from "../../lib/options/checkpoint.js";
import { temporaryPath, writePair, writeTemporary } from "../support/checkpoint-files.js";
import { torchZip } from "../support/pth-writer.js";
import { randomStateDicts } from "../support/random-checkpoint.js";

describe("detection", () => {
  test.each<[string, string | Buffer, RegExp]>([
    ["a web page", "<!DOCTYPE html><html><head>", /web page/],
    ["a web page after white space", "\n\n  <html>", /web page/],
    ["a Git LFS pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", /Git LFS pointer/],
    ["an empty file", "", /only 0 bytes/],
    ["a short file", "PK\x03\x04", /only 4 bytes/],
    ["zeros", Buffer.alloc(1000), /zeros/],
    ["JSON", '{"depth": 16, "width": 1024}', /JSON text/],
    ["GGUF", "GGUF\x03\0\0\0\0\0\0\0", /GGUF/],
    ["gzip", Buffer.concat([Buffer.from("1f8b0800", "hex"), Buffer.alloc(20)]), /gzip/],
    ["cut safetensors", Buffer.concat([Buffer.from("0010000000000000", "hex"), Buffer.from('{"a":')]), /truncated/],
    ["something else", "Hello, I am a text file.", /bytes 48656c6c6f2c2049/],
  ])("%s", async (name, bytes, message) => {
    const path = writeTemporary(`${name.replaceAll(" ", "-")}.pth`, bytes);
    const opening = openCheckpoint(path);
    await expect(opening).rejects.toThrow(InvalidCheckpointError);
    await expect(opening).rejects.toThrow(message);
    await expect(opening).rejects.toThrow(path);
  });
});

describe("system errors", () => {
  test("a missing file", async () => {
    const opening = openCheckpoint(temporaryPath("nowhere.pth"));
    await expect(opening).rejects.toThrow(IoError);
    await expect(opening).rejects.toThrow(/nowhere\.pth: no such file or folder/);
    await expect(opening).rejects.toMatchObject({ code: "IO", cause: { code: "ENOENT" } });
  });

  test("a folder", async () => {
    const path = temporaryPath("folder.pth");
    mkdirSync(path);
    await expect(openCheckpoint(path)).rejects.toThrow(/it is a folder/);
  });

  test.skipIf(process.platform === "win32")("a device is refused, and not waited for", async () => {
    await expect(openCheckpoint("/dev/null")).rejects.toThrow(/not a regular file/);
  });

  test("files are closed after a failure", async () => {
    const { readdirSync } = await import("node:fs");
    const path = writeTemporary("open.pth", "not a checkpoint at all");
    const count = () => (process.platform === "linux" ? readdirSync("/proc/self/fd").length : 0);
    const before = count();
    for (let i = 0; i < 20; i++) await openCheckpoint([path, path]).catch(() => undefined);
    expect(count()).toBeLessThan(before + 10);
  });
});

describe("sources", () => {
  const pair = writePair("sources");

  test("swapped files are recognised", async () => {
    const swapped = { var: pair.tokenizer, tokenizer: pair.var };
    await expect(openCheckpoint(swapped)).rejects.toThrow(
      /was given as the transformer, but holds only a tokenizer: .*swapped/,
    );
  });

  test("half a model", async () => {
    await expect(openCheckpoint(pair.var)).rejects.toThrow(/holds a transformer but no tokenizer/);
    await expect(openCheckpoint(pair.tokenizer)).rejects.toThrow(/holds a tokenizer but no transformer/);
    await expect(openCheckpoint({ var: pair.var })).rejects.toThrow(/no tokenizer/);
    expect((await inspectCheckpoint({ tokenizer: pair.tokenizer })).tokenizer?.codebookSize).toBe(24);
  });

  test("two transformers", async () => {
    const other = writePair("other").var;
    await expect(openCheckpoint([pair.var, other])).rejects.toThrow(/both hold a transformer/);
  });

  test.each([[[]], [["a", "b", "c"]], [{}]])("%j is no source", async (source) => {
    await expect(openCheckpoint(source)).rejects.toThrow(InvalidOptionError);
  });

  test("a dict without tensors, and other things", async () => {
    const write = (name: string, value: Parameters<typeof torchZip>[0]) => writeTemporary(name, torchZip(value));
    await expect(openCheckpoint(write("empty.pth", {}))).rejects.toThrow(/dict in it is empty/);
    await expect(openCheckpoint(write("text.pth", "hi"))).rejects.toThrow(
      /a dict of tensors was expected, the file holds a string/,
    );
    await expect(openCheckpoint(write("notes.pth", { a: 1, b: 2 }))).rejects.toThrow(
      /no tensors were found in it, only a, b/,
    );
    const { vae } = randomStateDicts();
    const foreign = new Map([["unet.weight", vae.get("quant_conv.weight")!]]);
    await expect(openCheckpoint(write("foreign.pth", foreign))).rejects.toThrow(/none of its tensors belongs to a VAR/);
  });

  test("two names that become one", async () => {
    const { var: transformer } = randomStateDicts();
    transformer.set("module.head.bias", transformer.get("head.bias")!);
    const path = writeTemporary("twice.pth", torchZip(transformer));
    await expect(inspectCheckpoint(path)).rejects.toThrow(
      /module\.head\.bias and another tensor have the same name head\.bias/,
    );
  });

  test.each<[string, unknown, unknown, RegExp]>([
    ["no source", undefined, {}, /option "source"/],
    ["a number as source", 7, {}, /option "source"/],
    ["a number as file", { var: 7, tokenizer: "x" }, {}, /option "source.var"/],
    ["an unknown part", { var: "x", vae: "y" }, {}, /option "source.vae"/],
    ["a misspelt option", "x", { head: 4 }, /did you mean "heads"/],
    ["text as heads", "x", { heads: "4" }, /option "heads"/],
    ["a number as sides", "x", { sides: 4 }, /option "sides"/],
    ["a fraction in sides", "x", { sides: [1, 2.5] }, /option "sides\[1\]"/],
    ["too much mix", "x", { residualMix: 2 }, /option "residualMix"/],
    ["no signal", "x", { signal: {} }, /option "signal"/],
  ])("%s is refused before anything is read", async (_, source, options, message) => {
    const opening = openCheckpoint(source as string, options as OpenOptions);
    await expect(opening).rejects.toThrow(InvalidOptionError);
    await expect(opening).rejects.toThrow(message);
  });

  test("an aborted signal", async () => {
    const opening = openCheckpoint(pair, { signal: AbortSignal.abort("enough") });
    await expect(opening).rejects.toThrow(AbortError);
    await expect(opening).rejects.toMatchObject({ code: "ABORTED", cause: "enough" });
  });
});
