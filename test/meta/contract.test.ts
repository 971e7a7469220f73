/** lib/native/contract.ts against the real addon: every member there, and none that is not described. */

import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { afterAll, beforeAll, expect, test } from "vitest";
import { internal } from "../../lib/model/internal.js";
import type { Model } from "../../lib/model/model.js";
import { loadBinding } from "../../lib/native/binding.js";
import { openGolden } from "../support/golden.js";

const path = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "lib", "native", "contract.ts");
const source = ts.createSourceFile(path, ts.sys.readFile(path)!, ts.ScriptTarget.ES2022, true);

/** Members of an interface of the contract. */
function members(name: string): string[] {
  const found = source.statements.find((node) => ts.isInterfaceDeclaration(node) && node.name.text === name);
  if (found === undefined || !ts.isInterfaceDeclaration(found)) throw new Error(`the contract has no ${name}`);
  return found.members.map((member) => (member.name as ts.Identifier).text).sort();
}

/** Own properties and methods of the class of an addon object. */
function properties(object: object): string[] {
  const prototype = Object.getPrototypeOf(object);
  const inherited = prototype === Object.prototype ? [] : Object.getOwnPropertyNames(prototype);
  return [...new Set([...Object.getOwnPropertyNames(object), ...inherited])]
    .filter((name) => name !== "constructor")
    .sort();
}

let model: Model;
beforeAll(async () => {
  model = await openGolden("tiny");
});
afterAll(() => model.dispose());

test("the addon exports what the contract says", () => {
  expect(properties(loadBinding())).toEqual(members("NativeAddon"));
});

test("cpuInfo", () => {
  expect(properties(loadBinding().cpuInfo())).toEqual(members("NativeCpuInfo"));
});

test("a model, its statistics and its pool", () => {
  const { native } = model[internal];
  expect(properties(native)).toEqual(members("NativeModel"));
  expect(properties(native.tokenizer)).toEqual(members("NativeTokenizer"));
  expect(properties(native.stats())).toEqual(members("NativeStats"));
  expect(properties(native.stats().pool)).toEqual(members("NativePoolStats"));
});

test("a generation, its scale events and its end", async () => {
  const { native } = model[internal];
  const { numScales } = model.architecture;
  const events: object[] = [];
  await new Promise<void>((resolve) => {
    const request = {
      numMixed: 1,
      labels: Int32Array.of(0),
      weights: null,
      seed: 1n,
      firstImage: 0,
      guidance: new Float32Array(numScales),
      topK: 1,
      topP: 0,
      depths: new Int32Array(numScales).fill(model.architecture.depth),
      deadlineMs: 0,
      deadlineDepths: new Int32Array(0),
      keepDroppedCache: false,
      wait: true,
      preview: "none" as const,
      givenTokens: null,
      losses: false,
      capture: false,
    };
    expect(Object.keys(request).sort()).toEqual(members("NativeRequest"));
    const generation = native.generate(request, (event) => {
      events.push(event);
      if (event.type === "end") resolve();
    });
    expect(properties(generation)).toEqual(members("NativeGeneration"));
  });
  expect(events.length).toBe(numScales + 1);
  for (const event of events.slice(0, -1)) expect(properties(event)).toEqual(members("NativeScaleEvent"));
  expect(properties(events.at(-1)!)).toEqual(members("NativeEndEvent"));
});
