/** The arrows of ARCHITECTURE.md: a room may use the rooms below it, never those above or beside it. */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");

/** Rooms of native/, lowest first; io sits beside ops. */
const NATIVE: Record<string, number> = {
  base: 0,
  tensor: 1,
  ops: 2,
  io: 2,
  backend: 3,
  cache: 4,
  model: 5,
  generate: 6,
  train: 6,
  addon: 7,
};

/** Files and folders of lib/, lowest first. Those of one level do not use each other. */
const LIB: string[][] = [
  ["errors.ts", "native/contract.ts", "native/explain.ts", "base", "model/internal.ts", "model/lifecycle.ts", "plot"],
  ["native", "options/check.ts", "files"],
  ["image", "values", "options/load.ts", "model/types.ts"],
  ["options/depth.ts", "model/device.ts", "checkpoint"],
  ["options/generate.ts", "options/tokenize.ts", "options/evaluate.ts", "options/sample.ts", "options/train.ts"],
  ["data"],
  ["model/preview.ts", "model/score.ts", "model/observer.ts", "model/generation.ts"],
  ["model/model.ts", "model/tokenizer.ts"],
  ["model/load.ts"],
  ["evaluate", "sample", "train"],
  ["index.ts"],
  ["server"],
  ["cli"],
];

function files(folder: string, ending: RegExp): string[] {
  if (!existsSync(join(root, folder))) return [];
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && ending.test(entry.name))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)));
}

interface Arrow {
  from: string;
  to: string;
  typeOnly: boolean;
}

function includes(path: string, text: string): Arrow[] {
  return [...text.matchAll(/^\s*#\s*include\s+"(native\/[^"]+)"/gm)].map((match) => ({
    from: path,
    to: match[1]!,
    typeOnly: false,
  }));
}

function imports(path: string, text: string): Arrow[] {
  const pattern = /^(?:import|export)(\s+type)?\s[^;]*?from\s+"(\.[^"]+)"|\bimport\("(\.[^"]+)"\)/gms;
  return [...text.matchAll(pattern)].map((match) => ({
    from: path,
    to: normalize(join(dirname(path), (match[2] ?? match[3])!.replace(/\.js$/, ".ts"))),
    typeOnly: match[1] !== undefined,
  }));
}

function nativeRoom(path: string): number {
  const level = NATIVE[path.split("/")[1]!];
  if (level === undefined) throw new Error(`${path} is in no room: add it to ARCHITECTURE.md and to this test`);
  return level;
}

/** The entry with the longest matching path. */
function libLevel(path: string): number {
  const inside = path.replace(/^lib\//, "");
  let best = { level: -1, length: -1 };
  LIB.forEach((rooms, level) => {
    for (const room of rooms) {
      const matches = inside === room || inside.startsWith(`${room}/`);
      if (matches && room.length > best.length) best = { level, length: room.length };
    }
  });
  if (best.level < 0) throw new Error(`${path} is in no room: add it to ARCHITECTURE.md and to this test`);
  return best.level;
}

const nativeUp = ({ from, to }: Arrow) =>
  nativeRoom(to) > nativeRoom(from) || (nativeRoom(to) === nativeRoom(from) && from.split("/")[1] !== to.split("/")[1]);
// A type may name what stands above it (types.ts describes everything); code may not.
const libUp = ({ from, to, typeOnly }: Arrow) => !typeOnly && libLevel(to) > libLevel(from);

describe("native", () => {
  const arrows = files("native", /\.(h|cc|cu|cuh)$/).flatMap((path) =>
    includes(path, readFileSync(join(root, path), "utf8")),
  );

  test("has arrows", () => expect(arrows.length).toBeGreaterThan(10));
  test("points downward only", () => expect(arrows.filter(nativeUp)).toEqual([]));
  test("only the addon knows N-API", () => {
    const knowing = files("native", /\.(h|cc|cu|cuh)$/).filter((path) =>
      /#\s*include\s+<(napi|node_api)/.test(readFileSync(join(root, path), "utf8")),
    );
    expect(knowing.filter((path) => !path.startsWith("native/addon/"))).toEqual([]);
  });
});

describe("lib", () => {
  const arrows = files("lib", /\.ts$/).flatMap((path) => imports(path, readFileSync(join(root, path), "utf8")));

  test("has arrows", () => expect(arrows.length).toBeGreaterThan(30));
  test("points downward only", () => expect(arrows.filter(libUp)).toEqual([]));
  test("every import names a file that exists", () => {
    expect(arrows.filter(({ to }) => !existsSync(join(root, to)))).toEqual([]);
  });
});

describe("the test itself", () => {
  test("finds a planted upward include and a planted include of a neighbour", () => {
    const planted = includes(
      "native/ops/norm.h",
      '#include "native/model/config.h"\n  #include "native/io/mapped_file.h"\n',
    );
    expect(planted.filter(nativeUp).length).toBe(2);
    expect(includes("native/model/vae.h", '#include "native/ops/norm.h"').filter(nativeUp)).toEqual([]);
  });

  test("finds a planted upward import, over several lines, dynamic, and lets types pass", () => {
    const text =
      'import {\n  a,\n  b,\n} from "../model/model.js";\nexport { c } from "../index.js";\nawait import("../model/load.js");\n';
    expect(imports("lib/options/depth.ts", text).filter(libUp).length).toBe(3);
    expect(imports("lib/options/depth.ts", 'import type { Model } from "../model/model.js";').filter(libUp)).toEqual(
      [],
    );
    expect(imports("lib/model/model.ts", 'import { a } from "../options/depth.js";').filter(libUp)).toEqual([]);
  });

  test("refuses files that are in no room", () => {
    expect(() => nativeRoom("native/misc/x.h")).toThrow(/no room/);
    expect(() => libLevel("lib/misc.ts")).toThrow(/no room/);
  });
});
