/** Every field of every table: what is refused and how, what its JSON schema accepts, where its flag is explained. */

import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { convertCheckpoint, openCheckpoint } from "../lib/checkpoint/index.js";
import { helpOf, long, rowsWithFlags } from "../lib/cli/flags.js";
import { InvalidOptionError } from "../lib/errors.js";
import { CONVERT, OPEN } from "../lib/options/checkpoint.js";
import { DEADLINE, resolveDepth, ZONES } from "../lib/options/depth.js";
import { EDIT, resolveEditOptions } from "../lib/options/edit.js";
import { EVALUATE, resolveEvaluateSettings, resolveSensitivitySettings, SENSITIVITY } from "../lib/options/evaluate.js";
import { GENERATE, resolveGenerateOptions, SCORE } from "../lib/options/generate.js";
import { LOAD, resolveLoadOptions, resolveTokenizerOptions, TOKENIZER } from "../lib/options/load.js";
import { resolveSampleSettings, SAMPLE } from "../lib/options/sample.js";
import { jsonSchemaOf, type Rows, type Table } from "../lib/options/table.js";
import { resolveTokenizeSettings, TOKENIZE } from "../lib/options/tokenize.js";
import { resolveTrainOptions, TRAIN } from "../lib/options/train.js";
import { temporaryPath, writePair } from "./support/checkpoint-files.js";
import { runCli } from "./support/cli.js";
import { fakeModel } from "./support/fake-engine.js";
import {
  type Field,
  fieldsOf,
  outOfRange,
  type Schema,
  valid,
  validatorOf,
  wrongType,
} from "./support/option-values.js";

const depthContext = { fullDepth: 8, numScales: 4, bridge: 0, trainedDepths: [2, 4, 8] };
const context = {
  ...depthContext,
  numClasses: 10,
  classNames: ["zero", "one"],
  codebookSize: 32,
  recommended: {},
  defaultDepth: resolveDepth(undefined, depthContext),
};
const pair = writePair("option-tables");
const { model } = fakeModel();
afterAll(() => model.dispose());

interface Case {
  name: string;
  table: Table<Rows>;
  /** What the table needs, beside the field that is tried. */
  needed: Record<string, unknown>;
  /** Checks options as the public function does. */
  check: (raw: unknown) => unknown;
  /** Whether the check opens files: fewer runs then. */
  slow?: true;
}

const CASES: Case[] = [
  { name: "load", table: LOAD, needed: {}, check: resolveLoadOptions },
  { name: "tokenizer", table: TOKENIZER, needed: {}, check: resolveTokenizerOptions },
  { name: "generate", table: GENERATE, needed: {}, check: (raw) => resolveGenerateOptions(raw, context) },
  {
    name: "score",
    table: SCORE,
    needed: { tokens: new Int32Array(30), labels: 0 },
    check: (raw) => model.score(raw as Parameters<typeof model.score>[0]),
  },
  { name: "edit", table: EDIT, needed: { image: "a.png" }, check: (raw) => resolveEditOptions(raw, context, 4) },
  {
    name: "sample",
    table: SAMPLE,
    needed: { output: "folder", perClass: 1 },
    check: (raw) => {
      const { generate } = resolveSampleSettings(raw, context);
      resolveGenerateOptions(generate, context); // as the first call of generate does, which knows the model
    },
  },
  {
    name: "tokenize",
    table: TOKENIZE,
    needed: { images: "images", output: "tokens" },
    check: (raw) => resolveTokenizeSettings(raw, 32),
  },
  {
    name: "evaluate",
    table: EVALUATE,
    needed: {},
    check: (raw) => resolveEvaluateSettings(raw, { ...depthContext, length: 5 }),
  },
  {
    name: "sensitivity",
    table: SENSITIVITY,
    needed: {},
    check: (raw) => resolveSensitivitySettings(raw, { ...depthContext, length: 5 }),
  },
  {
    name: "train",
    table: TRAIN,
    needed: { base: "base.safetensors", tokens: "tokens", output: "run" },
    check: resolveTrainOptions,
  },
  { name: "open", table: OPEN, needed: {}, check: (raw) => openCheckpoint(pair, raw as object), slow: true },
  {
    name: "convert",
    table: CONVERT,
    needed: { source: pair, output: temporaryPath("option-tables.safetensors") },
    check: (raw) => convertCheckpoint(raw as Parameters<typeof convertCheckpoint>[0]),
    slow: true,
  },
];

/** Rows that JSON has no words for: functions, signals, files' bytes. */
const unspeakable = ({ rows }: Table<Rows>): string[] =>
  Object.keys(rows).filter((name) => rows[name]!.kind.schema === null);

const schemaOf = (table: Table<Rows>) => jsonSchemaOf(table) as unknown as Schema;

async function refusalOf(check: Case["check"], raw: unknown): Promise<unknown> {
  try {
    await check(raw);
    return null;
  } catch (error) {
    return error;
  }
}

/** That the refusal of any such value names the option, what was found and what was expected. */
async function expectRefused(
  { check, needed, slow }: Case,
  path: string,
  options: fc.Arbitrary<object>,
): Promise<void> {
  await fc.assert(
    fc.asyncProperty(options, async (given) => {
      const error = await refusalOf(check, { ...needed, ...given });
      expect(error).toBeInstanceOf(InvalidOptionError);
      const { code, option, found, expected, message } = error as InvalidOptionError;
      expect(code).toBe("INVALID_OPTION");
      // Of a list it may be an item, of a group a field.
      expect(option === path || option.startsWith(`${path}[`) || option.startsWith(`${path}.`), option).toBe(true);
      expect(found).not.toBe("");
      expect(expected).not.toBe("");
      for (const part of [option, found, expected]) expect(message).toContain(part);
    }),
    { numRuns: slow ? 8 : 40 },
  );
}

describe.each(CASES)("$name refuses", (group) => {
  const fields = fieldsOf(schemaOf(group.table));
  const reachable = fields.map((field): [string, Field] => [field.path, field]);

  test.each(reachable)("%s of a wrong type", (path, { schema, put }) =>
    expectRefused(group, path, wrongType(schema).map(put)),
  );

  test.each(reachable.filter(([, { schema }]) => outOfRange(schema) !== null))("%s out of range", (path, field) =>
    expectRefused(group, path, outOfRange(field.schema)!.map(field.put)),
  );

  test.each(unspeakable(group.table))("%s of a wrong type, which JSON has no words for", (path) =>
    expectRefused(
      group,
      path,
      wrongType(null).map((value) => ({ [path]: value })),
    ),
  );

  test("null by the name of the option", async () => {
    for (const { path, put } of fields) await expectRefused(group, path, fc.constant(put(null)));
  });
});

/** What a check knows beside types and ranges. */
const SPECIAL: Record<string, fc.Arbitrary<unknown>> = {
  sides: fc
    .uniqueArray(fc.integer({ min: 1, max: 1024 }), { minLength: 1, maxLength: 6 })
    .map((sides) => sides.sort((a, b) => a - b)),
  shard: fc.integer({ min: 1, max: 9 }).chain((of) => fc.record({ of: fc.constant(of), index: fc.nat(of - 1) })),
  phases: fc.record(
    { joint: fc.double({ min: 0.1, max: 9, noNaN: true }), subnet: fc.nat(9) },
    { requiredKeys: ["joint"] },
  ),
  expand: fc.oneof(
    fc.integer({ min: 1, max: 99 }),
    fc.record({ left: fc.integer({ min: 1, max: 99 }), top: fc.nat(9) }),
  ),
};

/** Values of rows that JSON has no words for, so that the rest can be tried. */
function withUnspeakable({ table, needed }: Case, given: Record<string, unknown>): Record<string, unknown> {
  const names = unspeakable(table).filter((name) => name in needed);
  return { ...Object.fromEntries(names.map((name) => [name, needed[name]])), ...given };
}

describe.each(CASES)("the JSON schema of $name", (group) => {
  const schema = schemaOf(group.table);
  const accepts = validatorOf(schema);
  const good = Object.fromEntries(Object.entries(group.needed).filter(([name]) => name in (schema.properties ?? {})));

  test("and the check accept the same right values", () => {
    fc.assert(
      fc.property(valid(schema, "", SPECIAL), (value) => {
        const given = value as Record<string, unknown>;
        expect(() => group.table.read(withUnspeakable(group, given))).not.toThrow();
        expect(accepts(given)).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  test("refuses values out of range, and fields that do not exist", () => {
    expect(accepts(good)).toBe(true);
    for (const { schema: field, put } of fieldsOf(schema)) {
      const beyond = outOfRange(field);
      if (beyond === null) continue;
      fc.assert(fc.property(beyond, (value) => !accepts({ ...good, ...put(value) })));
    }
    expect(accepts({ ...good, zebra: 1 })).toBe(false);
  });

  test("says every field in words, and the constant defaults", () => {
    for (const [name, { words, kind, default: fallback }] of Object.entries(group.table.rows)) {
      if (kind.schema === null) continue;
      expect(schema.properties![name]!.description).toBe(words);
      if (fallback !== undefined && typeof fallback !== "object")
        expect(schema.properties![name]!.default).toBe(fallback);
    }
  });
});

describe("the help of", () => {
  test.each<[string, { rows: Rows }[]]>([
    ["generate", [GENERATE, DEADLINE, LOAD]],
    ["edit", [EDIT, DEADLINE, LOAD]],
    ["convert", [CONVERT]],
    ["inspect", [OPEN]],
    ["tokenize", [TOKENIZE, TOKENIZER]],
    ["evaluate", [EVALUATE, SENSITIVITY, LOAD]],
    ["sample", [SAMPLE, ZONES, LOAD]],
    ["train", [TRAIN]],
  ])("%s lists every flag of its tables, with its words", async (command, tables) => {
    const { stdout } = await runCli([command, "--help"]);
    const text = stdout.replace(/\s+/g, " ");
    for (const row of tables.flatMap(rowsWithFlags)) {
      expect(stdout).toMatch(new RegExp(`^  (-\\w, )?${long(row)}\\b`, "m"));
      expect(text).toContain(`${row.flag} ${helpOf(row).replace(/\s+/g, " ")}`);
    }
  });
});
