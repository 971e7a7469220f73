/**
 * What an editor shows at a field of options: tools/option-docs.mjs has written the rows' words into the built
 * declarations.
 */

import { join } from "node:path";
import ts from "typescript";
import { expect, test } from "vitest";

/** Types that are read off a table. */
const DERIVED = [
  "GenerateOptions",
  "LoadOptions",
  "TokenizerOptions",
  "EditOptions",
  "ScoreOptions",
  "TrainOptions",
  "ConvertOptions",
];

const root = join(import.meta.dirname, "..", "..");

test.each(["index.d.ts", "index.d.cts"])("every field of the option types in %s is explained", (name) => {
  const path = join(root, "dist", name);
  const program = ts.createProgram([path], { skipLibCheck: true, types: [] });
  const checker = program.getTypeChecker();
  const all = checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(path)!)!);
  const silent = DERIVED.flatMap((derived) => {
    const fields = checker.getDeclaredTypeOfSymbol(all.find((symbol) => symbol.name === derived)!).getProperties();
    expect(fields.length, derived).toBeGreaterThan(2);
    const without = fields.filter((field) => field.getDocumentationComment(checker).length === 0);
    return without.map((field) => `${derived}.${field.name}`);
  });
  expect(silent).toEqual([]);
});
