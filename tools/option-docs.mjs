// Writes the words of lib/options' rows above the fields of the tables in dist/index.d.ts and .d.cts, where an editor
// finds them: the types of options are read off the rows, and a declaration file has a row's type, but not its words.

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

/** @param built folder of lib/options' modules in JavaScript */
export async function documentOptions(built, declarations) {
  const tables = await tablesIn(built);
  for (const file of declarations) writeFileSync(file, withWords(readFileSync(file, "utf8"), tables));
}

/** Tables by the names that their modules export. */
async function tablesIn(folder) {
  const files = readdirSync(folder).filter((name) => name.endsWith(".js"));
  const modules = await Promise.all(files.map((name) => import(pathToFileURL(join(folder, name)).href)));
  const named = modules.flatMap((one) => Object.entries(one));
  return new Map(named.filter(([name, value]) => /^[A-Z_]+$/.test(name) && typeof value?.rows === "object"));
}

/** `declare const X: Table<{` begins a table, its rows are the lines with four spaces before a name. */
function withWords(text, tables) {
  let rows = null;
  const lines = text.split("\n").flatMap((line) => {
    const begin = /^declare const ([A-Z_]+): Table<(?:Pick<)?\{$/.exec(line);
    if (begin !== null) rows = tables.get(begin[1])?.rows ?? null;
    else if (line.startsWith("}")) rows = null;
    const row = rows?.[/^ {4}(\w+): /.exec(line)?.[1]];
    return row === undefined || row === null ? [line] : [`    /** ${sentence(row)} */`, line];
  });
  return lines.join("\n");
}

function sentence({ words, default: fallback, otherwise }) {
  const constant = fallback === undefined || typeof fallback === "object" ? undefined : JSON.stringify(fallback);
  const missing = otherwise ?? constant;
  const text = `${words[0].toUpperCase()}${words.slice(1)}.${missing === undefined ? "" : ` Default: ${missing}.`}`;
  return text.replaceAll("*/", "* /");
}
