/** Pickles that want something: nothing is executed, and the message says what was asked for. */

import { describe, expect, test } from "vitest";
import { openCheckpoint } from "../../lib/checkpoint/index.js";
import { readPickle } from "../../lib/checkpoint/pickle.js";
import { type PickleDict, PickleList, PickleTuple } from "../../lib/checkpoint/pickle-values.js";
import { readStateDicts } from "../../lib/checkpoint/state-dict.js";
import { TorchHost } from "../../lib/checkpoint/torch.js";
import { InvalidCheckpointError, UnsafeCheckpointError } from "../../lib/errors.js";
import { writeTemporary } from "../support/checkpoint-files.js";
import { MemorySource } from "../support/memory-source.js";
import { PyCall, PyRaw, PyTuple, type PyValue, torchLegacy, torchZip } from "../support/pth-writer.js";
import { randomStateDicts } from "../support/random-checkpoint.js";

const read = async (bytes: Buffer | string) => {
  const buffer = typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes;
  return (await readPickle(buffer, new TorchHost("evil.pth"), "evil.pth")).value;
};

const open = (value: PyValue) => readStateDicts(new MemorySource(torchZip(value)), 0);

describe("values", () => {
  test.each<[string, string, unknown]>([
    ["None", "N.", null],
    ["bools", "\x88.", true],
    ["one byte", "K\xff.", 255],
    ["two bytes", "M\x34\x12.", 0x1234],
    ["four bytes, signed", "J\xfe\xff\xff\xff.", -2],
    ["a long", "\x8a\x02\x00\xff.", -256],
    ["an empty long", "\x8a\x00.", 0],
    ["a big long", "\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01.", 2n ** 64n],
    ["a float", "G\x3f\xf8\x00\x00\x00\x00\x00\x00.", 1.5],
    ["text", "X\x02\x00\x00\x00\xc3\xa9.", "é"],
    ["short text", "\x80\x04\x95\x07\x00\x00\x00\x00\x00\x00\x00\x8c\x03abc\x94.", "abc"],
    ["a memo", "\x80\x02X\x01\x00\x00\x00aq\x010h\x01.", "a"],
    ["a memo by count", "\x80\x04\x8c\x01a\x940\x8c\x01b\x940h\x00.", "a"],
    ["a dropped mark", "N(0.", null],
    ["a copy", "K\x01K\x0220.", undefined],
  ])("%s", async (_, bytes, expected) => {
    if (expected === undefined) await expect(read(bytes)).rejects.toThrow("2 values instead of one");
    else expect(await read(bytes)).toEqual(expected);
  });

  test("containers", async () => {
    expect(((await read("K\x01K\x02\x86.")) as PickleTuple).items).toEqual([1, 2]);
    expect(((await read("K\x01K\x02K\x03\x87.")) as PickleTuple).items).toEqual([1, 2, 3]);
    expect(((await read("(K\x01K\x02t.")) as PickleTuple).items).toEqual([1, 2]);
    expect(((await read("](K\x01K\x02e.")) as PickleList).items).toEqual([1, 2]);
    expect(((await read("]K\x01a.")) as PickleList).items).toEqual([1]);
    expect([...((await read("}K\x01K\x02s.")) as PickleDict).entries]).toEqual([[1, 2]]);
    expect([...((await read("(K\x01K\x02d.")) as PickleDict).entries]).toEqual([[1, 2]]);
    expect(((await read("\x80\x04\x8f(K\x07\x90.")) as PickleList).items).toEqual([7]);
  });
});

describe("names", () => {
  test.each<[string, PyValue, string]>([
    ["os.system", new PyCall("os.system", ["echo pwned"]), "os.system"],
    ["posix.system", new PyCall("posix.system", ["echo pwned"]), "posix.system"],
    ["builtins.eval", new PyCall("builtins.eval", ["1"]), "builtins.eval"],
    ["__builtin__.exec", new PyCall("__builtin__.exec", ["1"]), "__builtin__.exec"],
    [
      "deep in a state dict",
      new Map([["a", { b: [new PyTuple(new PyCall("subprocess.Popen", []))] }]]),
      "subprocess.Popen",
    ],
    ["in a trainer's args", { trainer: {}, args: new PyCall("argparse.Namespace", []) }, "argparse.Namespace"],
    [
      "an attribute of an allowed name",
      new PyCall("collections.OrderedDict.fromkeys", []),
      "collections.OrderedDict.fromkeys",
    ],
    [
      "a neighbour of an allowed name",
      new PyCall("torch._utils._rebuild_tensor_v2x", []),
      "torch._utils._rebuild_tensor_v2x",
    ],
    ["an inherited property", new PyCall("__proto__.constructor", []), "__proto__.constructor"],
    ["only named, never called", new PyRaw(Buffer.from("cos\nsystem\n")), "os.system"],
    ["an old instance", new PyRaw(Buffer.from("(ios\nsystem\n")), "os.system"],
    ["by the stack", new PyRaw(Buffer.from("\x8c\x02os\x8c\x06system\x93", "latin1")), "os.system"],
    ["new object", new PyRaw(Buffer.from("cshutil\nrmtree\n)\x81", "latin1")), "shutil.rmtree"],
  ])("refuses %s", async (_, value, name) => {
    for (const bytes of [torchZip(value), torchLegacy(value)]) {
      const reading = readStateDicts(new MemorySource(bytes), 0);
      await expect(reading).rejects.toThrow(UnsafeCheckpointError);
      await expect(reading).rejects.toThrow(`names ${name}, which is not on the list`);
      await expect(reading).rejects.toMatchObject({ code: "UNSAFE_CHECKPOINT" });
    }
  });

  test("control characters of a name do not reach the terminal", async () => {
    await expect(read("c\x1b[2J\nx\n.")).rejects.toThrow("names \\u001b[2J.x,");
  });

  test("a file on disk", async () => {
    const { var: transformer, vae } = randomStateDicts();
    transformer.set("blocks.0.hook", new PyCall("os.system", ["touch pwned"]));
    const path = writeTemporary("evil.pth", torchZip({ var_wo_ddp: transformer, vae_local: vae }));
    await expect(openCheckpoint(path)).rejects.toThrow(`${path}: the pickle names os.system`);
  });
});

describe("allowed names, misused", () => {
  test.each<[string, PyValue, string]>([
    ["OrderedDict with arguments", new PyCall("collections.OrderedDict", [[]]), "called with arguments"],
    ["a tensor of nothing", new PyCall("torch._utils._rebuild_tensor_v2", []), "made of nothing"],
    [
      "a tensor of text",
      new PyCall("torch._utils._rebuild_tensor_v2", ["x", 0, new PyTuple(), new PyTuple()]),
      "made of a string",
    ],
    ["a parameter of a number", new PyCall("torch._utils._rebuild_parameter", [1]), "made of an integer"],
    ["a called storage", new PyCall("torch.FloatStorage", [1]), "torch.FloatStorage is called"],
    ["a size of text", new PyCall("torch.Size", ["x"]), "made of a string"],
    ["a device of a number", new PyCall("torch.device", [1]), "made of an integer"],
    ["a call of text", new PyRaw(Buffer.from("X\x01\0\0\0x)R", "latin1")), "calls a string"],
    ["a call with a list", new PyRaw(Buffer.from("ccollections\nOrderedDict\n]R")), "with a list"],
    ["attributes of a tuple", new PyRaw(Buffer.from(")Nb")), "sets attributes of a tuple"],
    ["an instance of an allowed class", new PyRaw(Buffer.from("(icollections\nOrderedDict\n")), "makes an instance"],
    ["a persistent id of text", new PyRaw(Buffer.from("X\x01\0\0\0xQ", "latin1")), "persistent id is a string"],
    ["a persistent id of too little", new PyRaw(Buffer.from(")Q")), "does not describe a storage"],
    ["the opcode OBJ", new PyRaw(Buffer.from("(o")), "opcode 0x6f at byte"],
    ["an extension", new PyRaw(Buffer.from("\x82\x01", "latin1")), "opcode 0x82"],
    ["a textual persistent id", new PyRaw(Buffer.from("Px\n")), "opcode 0x50"],
    ["out-of-band buffers", new PyRaw(Buffer.from("\x97", "latin1")), "opcode 0x97"],
  ])("%s", async (_, value, message) => {
    const reading = open(value);
    await expect(reading).rejects.toThrow(InvalidCheckpointError);
    await expect(reading).rejects.toThrow(message);
  });

  const storage = (args: string) => `(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0k${args}tQ`;
  test.each<[string, string, string]>([
    ["a negative length", storage("NJ\xff\xff\xff\xff"), "does not describe a storage"],
    ["a float length", storage("NG\x3f\xf8\0\0\0\0\0\0"), "does not describe a storage"],
    ["a huge length", storage("N\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"), "does not describe a storage"],
    ["a view of a storage", storage("NK\x01(t"), "view of another storage"],
    ["two descriptions", `${storage("NK\x01")}0${storage("NK\x02")}`, "described in two ways"],
    [
      "a shape and strides of different rank",
      `ctorch._utils\n_rebuild_tensor_v2\n(${storage("NK\x01")}K\x00K\x01\x85)\x89NtR`,
      "no valid offset, shape and strides",
    ],
    [
      "a negative offset",
      `ctorch._utils\n_rebuild_tensor_v2\n(${storage("NK\x01")}J\xff\xff\xff\xff))\x89NtR`,
      "no valid offset, shape and strides",
    ],
  ])("%s", async (_, bytes, message) => {
    await expect(read(`${bytes}.`)).rejects.toThrow(message);
  });
});

describe("damage", () => {
  test.each([
    ["nothing", "", "ends at byte 0"],
    ["a cut value", "J\x01", "in the middle of a value"],
    ["a long text", "X\xff\xff\xff\xffabc.", "in the middle of a value"],
    ["an endless line", `c${"a".repeat(10_000)}`, "does not end"],
    ["an empty stack", ".", "takes a value that is not there"],
    ["a value below a mark", "N(\x85.", "takes a value that is not there"],
    ["no mark", "t.", "takes a mark that is not there"],
    ["an unknown memo", "h\x05.", "recalls entry 5"],
    ["a key without value", "}(K\x01u.", "key has no value"],
    ["an item of a number", "K\x01K\x02K\x03s.", "sets items of an integer"],
    ["an append to a dict", "}K\x01a.", "appends to a dict"],
    ["a new protocol", "\x80\x09N.", "protocol 9"],
    ["a number without end", "\x8b\x00\x00\x00\x10", "an integer of"],
    ["a value of terabytes", "\x8d\x00\x00\x00\x00\x00\x10\x00\x00.", "holds a value of"],
  ])("%s", async (_, bytes, message) => {
    await expect(read(bytes)).rejects.toThrow(InvalidCheckpointError);
    await expect(read(bytes)).rejects.toThrow(message);
  });
});

describe("bombs", () => {
  test("a billion laughs stay one tuple each", async () => {
    let bytes = "X\x03\0\0\0lolq\x000"; // ten of the level below, sixty times over
    for (let level = 0; level < 60; level++) {
      const below = `h${String.fromCharCode(level)}`;
      bytes += `(${below.repeat(10)}tq${String.fromCharCode(level + 1)}0`;
    }
    const value = (await read(`${bytes}h\x3c.`)) as PickleTuple;
    expect(value.items.length).toBe(10);
    expect(value.items[0]).toBe(value.items[9]);
  });

  test("deep nesting does not exhaust the stack", async () => {
    const depth = 200_000;
    expect(await read(`${"]".repeat(depth)}${"a".repeat(depth - 1)}.`)).toBeInstanceOf(PickleList);
    expect(await read(`N${"\x85".repeat(depth)}.`)).toBeInstanceOf(PickleTuple);
  });

  test("a list that holds itself", async () => {
    const list = (await read("]q\x00h\x00a.")) as PickleList;
    expect(list.items[0]).toBe(list);
    await expect(open(new PyRaw(Buffer.from("}q\x00X\x05\0\0\0modelh\x00s", "latin1")))).rejects.toThrow(
      "no tensors were found",
    );
  });

  test("the number of operations is limited", async () => {
    await expect(read(`${"}0".repeat(600_000)}N.`)).rejects.toThrow("more than 1000000 operations");
  });

  test("an entry that is too large for a pickle is not read", async () => {
    const bytes = torchZip(
      {},
      {
        edit: (files) =>
          files.map((file) => (file.name.endsWith("data.pkl") ? { ...file, data: Buffer.alloc(2 ** 24 + 1) } : file)),
      },
    );
    await expect(readStateDicts(new MemorySource(bytes), 0)).rejects.toThrow(
      /data\.pkl" has 16777217 bytes, more than/,
    );
  });
});
