/**
 * The arrows of ARCHITECTURE.md: a room may use the rooms that stand above its line there, never those below it or
 * beside it, not even for a type; and no files use each other in a circle.
 */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const architecture = readFileSync(join(root, "ARCHITECTURE.md"), "utf8");

/** The lines of a block such as "```order of lib", lowest first: rooms and single files. */
function orderOf(text: string, folder: string): string[][] {
  const block = new RegExp(`^\`\`\`order of ${folder}\\n(.*?)^\`\`\``, "ms").exec(text)?.[1];
  if (block === undefined) throw new Error(`ARCHITECTURE.md states no order of ${folder}`);
  return block
    .trim()
    .split("\n")
    .map((line) => line.trim().split(/\s+/));
}

const NATIVE = orderOf(architecture, "native");
const LIB = orderOf(architecture, "lib");

function files(folder: string, ending: RegExp): string[] {
  if (!existsSync(join(root, folder))) return [];
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && ending.test(entry.name))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)));
}

interface Arrow {
  from: string;
  to: string;
}

function includes(path: string, text: string): Arrow[] {
  return [...text.matchAll(/^\s*#\s*include\s+"(native\/[^"]+)"/gm)].map((match) => ({ from: path, to: match[1]! }));
}

/** Types as well: who names a thing of another room depends on it. */
function imports(path: string, text: string): Arrow[] {
  const pattern = /^(?:import|export)\s[^;]*?from\s+"(\.[^"]+)"|\bimport\("(\.[^"]+)"\)/gms;
  return [...text.matchAll(pattern)].map((match) => ({
    from: path,
    to: normalize(join(dirname(path), (match[1] ?? match[2])!.replace(/\.js$/, ".ts"))),
  }));
}

interface Place {
  level: number;
  /** The room, or the file that has a place of its own. */
  name: string;
}

/** The entry with the longest matching path. */
function placeOf(order: readonly string[][], path: string): Place {
  const inside = path.slice(path.indexOf("/") + 1);
  let best: Place = { level: -1, name: "" };
  order.forEach((names, level) => {
    for (const name of names) {
      const matches = inside === name || inside.startsWith(`${name}/`);
      if (matches && name.length > best.name.length) best = { level, name };
    }
  });
  if (best.level < 0) throw new Error(`${path} is in no room: give it a place in ARCHITECTURE.md`);
  return best;
}

/** True for what points to a higher line, or to another room of the same line. */
function isWrong(order: readonly string[][], arrow: Arrow): boolean {
  const [from, to] = [placeOf(order, arrow.from), placeOf(order, arrow.to)];
  return to.level > from.level || (to.level === from.level && to.name !== from.name);
}

/**
 * Sets of files that use each other, directly or not (strongly connected components of more than one). Source: Tarjan,
 * 1972.
 */
function circles(arrows: readonly Arrow[]): string[][] {
  const next = new Map<string, string[]>();
  for (const { from, to } of arrows) {
    next.set(from, [...(next.get(from) ?? []), to]);
    if (!next.has(to)) next.set(to, []);
  }
  const found: string[][] = [];
  const number = new Map<string, number>();
  const lowest = new Map<string, number>();
  const stack: string[] = [];
  const visit = (file: string) => {
    number.set(file, number.size);
    lowest.set(file, number.get(file)!);
    stack.push(file);
    for (const other of next.get(file)!) {
      if (!number.has(other)) visit(other);
      if (stack.includes(other)) lowest.set(file, Math.min(lowest.get(file)!, lowest.get(other)!));
    }
    if (lowest.get(file) !== number.get(file)) return;
    const circle = stack.splice(stack.indexOf(file));
    if (circle.length > 1 || next.get(file)!.includes(file)) found.push(circle.sort());
  };
  for (const file of next.keys()) if (!number.has(file)) visit(file);
  return found;
}

const sources = /\.(h|cc|cu|cuh)$/;
const read = (path: string) => readFileSync(join(root, path), "utf8");

describe.each([
  { folder: "native", order: NATIVE, arrows: files("native", sources).flatMap((path) => includes(path, read(path))) },
  { folder: "lib", order: LIB, arrows: files("lib", /\.ts$/).flatMap((path) => imports(path, read(path))) },
])("$folder", ({ folder, order, arrows }) => {
  test("has arrows", () => expect(arrows.length).toBeGreaterThan(100));
  test("points to lower lines of its order only", () => {
    expect(arrows.filter((arrow) => isWrong(order, arrow))).toEqual([]);
  });
  test("has no circles", () => expect(circles(arrows)).toEqual([]));
  test("names only files that exist", () => {
    expect(arrows.filter(({ to }) => !existsSync(join(root, to)))).toEqual([]);
  });
  test("has every room of its order", () => {
    expect(order.flat().filter((name) => !existsSync(join(root, folder, name)))).toEqual([]);
  });
});

test("a contract knows no threads", () => {
  const arrows = files("native", sources).flatMap((path) => includes(path, read(path)));
  const threads = arrows.filter(({ to }) => /thread_pool|cpu\/context/.test(to));
  expect(threads.filter(({ from }) => from.startsWith("native/ops/"))).toEqual([]);
  expect(threads.length).toBeGreaterThan(0);
});

test("only the addon knows N-API", () => {
  const knowing = files("native", sources).filter((path) => /#\s*include\s+<(napi|node_api)/.test(read(path)));
  expect(knowing.filter((path) => !path.startsWith("native/addon/"))).toEqual([]);
});

describe("the test itself", () => {
  const wrong = (order: readonly string[][], arrows: readonly Arrow[]) =>
    arrows.filter((arrow) => isWrong(order, arrow)).length;

  test("finds a planted upward include and a planted include of a neighbour", () => {
    const text = '#include "native/model/config.h"\n  #include "native/io/mapped_file.h"\n';
    expect(wrong(NATIVE, includes("native/ops/norm.h", text))).toBe(2);
    expect(wrong(NATIVE, includes("native/model/block.h", '#include "native/ops/norm.h"'))).toBe(0);
  });

  test("finds a planted upward import, over several lines, dynamic, and of a type", () => {
    const text =
      'import {\n  a,\n  b,\n} from "../model/model.js";\nexport { c } from "../index.js";\nawait import("../model/load.js");\n';
    expect(wrong(LIB, imports("lib/options/depth.ts", text))).toBe(3);
    expect(wrong(LIB, imports("lib/options/depth.ts", 'import type { Model } from "../model/model.js";'))).toBe(1);
    expect(wrong(LIB, imports("lib/model/model.ts", 'import { a } from "../options/depth.js";'))).toBe(0);
  });

  test("finds a planted import of a neighbour", () => {
    expect(wrong(LIB, imports("lib/sample/work.ts", 'import { a } from "../train/train.js";'))).toBe(1);
    expect(wrong(LIB, imports("lib/sample/work.ts", 'import { a } from "./record.js";'))).toBe(0);
  });

  test("finds a planted circle, of two files, of three, and of a file with itself", () => {
    const arrow = (from: string, to: string): Arrow => ({ from, to });
    expect(circles([arrow("a", "b"), arrow("b", "a"), arrow("b", "c")])).toEqual([["a", "b"]]);
    expect(circles([arrow("d", "a"), arrow("a", "b"), arrow("b", "c"), arrow("c", "a")])).toEqual([["a", "b", "c"]]);
    expect(circles([arrow("a", "a")])).toEqual([["a"]]);
    expect(circles([arrow("a", "b"), arrow("a", "c"), arrow("b", "d"), arrow("c", "d")])).toEqual([]);
    const types = imports("lib/a.ts", 'import type { B } from "./b.js";').concat(
      imports("lib/b.ts", 'import { a } from "./a.js";'),
    );
    expect(circles(types)).toEqual([["lib/a.ts", "lib/b.ts"]]);
  });

  test("refuses files that are in no room, and a page without an order", () => {
    expect(() => placeOf(NATIVE, "native/misc/x.h")).toThrow(/no room/);
    expect(() => placeOf(LIB, "lib/misc.ts")).toThrow(/no room/);
    expect(() => orderOf("# Architecture\n", "lib")).toThrow(/no order/);
  });
});
