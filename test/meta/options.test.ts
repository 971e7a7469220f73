/**
 * The pages' tables of options are those of the commands and of lib/options: no flag or field is missing, none is
 * invented, defaults agree.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { rowsWithFlags } from "../../lib/cli/flags.js";
import { EDIT } from "../../lib/options/edit.js";
import { EVALUATE, SENSITIVITY } from "../../lib/options/evaluate.js";
import { GENERATE } from "../../lib/options/generate.js";
import { LOAD } from "../../lib/options/load.js";
import { OPTIMIZER } from "../../lib/options/recipe.js";
import { SAMPLE } from "../../lib/options/sample.js";
import type { Rows } from "../../lib/options/table.js";
import { TOKENIZE } from "../../lib/options/tokenize.js";
import { TRAIN } from "../../lib/options/train.js";
import { runCli } from "../support/cli.js";

const page = (name: string) => readFileSync(join(import.meta.dirname, "..", "..", "docs", name), "utf8");

/** Cells of the tables whose first column is headed `option`, row by row. */
function optionTable(text: string): string[][] {
  const rows: string[][] = [];
  let inside = false;
  for (const line of text.split("\n")) {
    const cells = line.startsWith("|")
      ? line
          .split("|")
          .slice(1, -1)
          .map((cell) => cell.trim())
      : null;
    if (cells === null) inside = false;
    else if (cells[0] === "option") inside = true;
    else if (inside && !/^-+$/.test(cells[0]!)) rows.push(cells);
  }
  return rows;
}

/** The part of a page under a heading that begins so. */
function section(text: string, heading: string): string {
  const from = text.indexOf(`\n## ${heading}`);
  expect(from, heading).toBeGreaterThan(0);
  const to = text.indexOf("\n## ", from + 4);
  return text.slice(from, to < 0 ? undefined : to);
}

const flagsIn = (text: string) => [...text.matchAll(/(?<![\w-])--[a-z][a-z-]*/g)].map(([flag]) => flag);

async function flagsOf(command: string): Promise<string[]> {
  const { stdout } = await runCli([command, "--help"]);
  const flags = [...stdout.matchAll(/^ {2}(?:-\w, )?(--[a-z-]+)/gm)].map(([, flag]) => flag!);
  expect(flags.length).toBeGreaterThan(1);
  return flags.filter((flag) => flag !== "--help");
}

/** A default as pages write it: `32`, `"cover"`, 0.1. */
function says(text: string, fallback: unknown): boolean {
  if (fallback === false) return true;
  return text.split(/[\s`"(),;]+/).some((word) => word.replace(/[.:]$/, "") === String(fallback));
}

describe("docs/cli.md", () => {
  test.each<[string, { rows: Rows }[]]>([
    ["generate", [GENERATE, LOAD]],
    ["convert", []],
    ["inspect", []],
    ["tokenize", [TOKENIZE]],
    ["evaluate", [EVALUATE, SENSITIVITY]],
    ["sample", [SAMPLE]],
    ["doctor", []],
  ])("the table of %s has its flags, and the defaults of its rows", async (command, tables) => {
    const rows = optionTable(section(page("cli.md"), `\`nextscale ${command}`));
    const documented = rows.flatMap(([names]) => flagsIn(names!));
    expect(documented.sort()).toEqual((await flagsOf(command)).sort());
    for (const { flag, default: fallback, otherwise } of tables.flatMap(rowsWithFlags)) {
      const [name] = flagsIn(flag!);
      const [, meaning] = rows.find(([names]) => flagsIn(names!).includes(name!))!;
      if (fallback === undefined || otherwise !== undefined || meaning!.startsWith("as for")) continue;
      expect(says(meaning!, fallback), `${name}: ${fallback} in "${meaning}"`).toBe(true);
    }
  });
});

describe("docs/training.md", () => {
  /** Of programs only, said at the functions. */
  const PROGRAM = ["onEvent", "signal", "resume"];
  const rows = optionTable(section(page("training.md"), "Options"));
  const named = (cell: string) => [...cell.matchAll(/`(\w+)`/g)].map(([, name]) => name!);

  test("the table has every option, and no other", () => {
    const documented = rows.flatMap(([names]) => named(names!));
    const options = Object.keys(TRAIN.rows).filter((name) => !PROGRAM.includes(name));
    expect(documented.sort()).toEqual(options.sort());
  });

  test("the section has every flag of the command, and no other", async () => {
    const flags = new Set(flagsIn(section(page("training.md"), "Options")));
    expect([...flags].sort()).toEqual((await flagsOf("train")).sort());
  });

  test("the table has their constant defaults", () => {
    const groups = [...Object.entries(TRAIN.rows), ...Object.entries(OPTIMIZER.rows)] as [string, Rows[string]][];
    for (const [name, { default: fallback, kind }] of groups) {
      if (PROGRAM.includes(name) || fallback === undefined) continue;
      const [, text] = rows.find(
        ([names]) => named(names!).includes(name) || (name in OPTIMIZER.rows && names === "`optimizer`"),
      )!;
      const inner = typeof fallback === "object" ? Object.values(kind.table?.rows ?? {}) : [{ default: fallback }];
      for (const { default: constant } of inner)
        if (constant !== undefined) expect(says(text!, constant), `${name}: ${constant} in "${text}"`).toBe(true);
    }
  });
});

describe("docs/editing.md", () => {
  const rows = optionTable(page("editing.md"));
  const own = Object.entries(EDIT.rows).filter(([name]) => !(name in GENERATE.rows) && name !== "image");

  test("the table has every option that edit adds, its flag and its constant default", () => {
    expect(rows.map(([name]) => name!).sort()).toEqual(own.map(([name]) => `\`${name}\``).sort());
    for (const [name, { flag, default: fallback }] of own as [string, Rows[string]][]) {
      const [, command, meaning] = rows.find(([first]) => first === `\`${name}\``)!;
      if (flag !== undefined) expect(flagsIn(command!)).toContain(flagsIn(flag)[0]);
      if (fallback !== undefined) expect(says(meaning!, fallback), `${name}: ${fallback} in "${meaning}"`).toBe(true);
    }
  });
});
