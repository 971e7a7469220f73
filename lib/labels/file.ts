/**
 * A file of class names, in the shapes that people have: names line by line, numbered lines, JSON and Python literals
 * (a list, a table from numbers to names or from names to numbers), ImageNet's `synset_words.txt`, CSV. What is none of
 * these is refused by what it is: half of a foreign syntax must never become the names of a model.
 */

import { readFile } from "node:fs/promises";
import { extname } from "node:path";
import { InvalidOptionError, IoError } from "../errors.js";
import { parseLiteral } from "./literal.js";

const EXPECTED =
  "class names: one per line, a JSON or Python list, a table from numbers to names, synset_words.txt, or CSV with a column of names";

/** Names in the order of the class numbers. @throws IoError, InvalidOptionError */
export async function readLabelFile(path: string, option = "labels"): Promise<string[]> {
  const bytes = await readFile(path).catch((cause: Error) => {
    throw new IoError(`cannot read ${path}: ${cause.message}`, { cause });
  });
  return parseLabels(bytes, { option, path });
}

interface Place {
  option: string;
  path: string;
}

/** @throws InvalidOptionError that says what the file is and which line is at fault */
export function parseLabels(bytes: Uint8Array, place: Place): string[] {
  const text = decode(bytes, place);
  const names = namesIn(text, place);
  if (names.length === 0) refuse(place, "no name");
  const empty = names.findIndex((name) => name.trim() === "");
  if (empty >= 0) refuse(place, `an empty name for class ${empty}`);
  return names.map((name) => name.trim());
}

function refuse({ option, path }: Place, found: string): never {
  throw new InvalidOptionError(option, `${found} in ${path}`, EXPECTED);
}

function decode(bytes: Uint8Array, place: Place): string {
  if ((bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff)) {
    refuse(place, "UTF-16 text (save it as UTF-8)");
  }
  if (bytes[0] === 0x80 && (bytes[1] ?? 0) <= 5) refuse(place, "a pickle (nothing of it was executed)");
  if (bytes.includes(0)) refuse(place, "binary data");
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes); // takes a byte order mark away
  } catch {
    refuse(place, "text that is not UTF-8");
  }
}

function namesIn(text: string, place: Place): string[] {
  const start = text.trimStart();
  if (/^(\w+\s*=\s*)?[[{(]/.test(start)) return fromLiteral(start.replace(/^\w+\s*=\s*/, ""), place);
  if (start.startsWith("<")) refuse(place, "XML or HTML");
  if (/^item\s*\{/.test(start)) refuse(place, "a protocol buffer's text (a label map)");
  if (/^(import|export|module|const|let|var|def|class|from)\s.*[=:({]/.test(start)) refuse(place, "a program");
  const lines = text.split(/\r\n|\n|\r/);
  while (lines.length > 0 && lines.at(-1)!.trim() === "") lines.pop();
  const extension = extname(place.path).toLowerCase();
  if (extension === ".csv" || extension === ".tsv" || hasHeader(lines)) return fromTable(lines, place, extension);
  if (/^names:\s*$/.test(lines[0] ?? "")) lines.shift(); // YAML, as detectors keep it
  const hole = lines.findIndex((line) => line.trim() === "");
  if (hole >= 0) refuse(place, `an empty line ${hole + 1}`);
  return fromListItems(lines) ?? fromSynsets(lines) ?? fromNumbered(lines, place) ?? lines;
}

// Literals

function fromLiteral(text: string, place: Place): string[] {
  let value: unknown;
  try {
    value = parseLiteral(text);
  } catch (error) {
    refuse(place, `neither JSON nor a Python literal (${(error as Error).message})`);
  }
  return fromValue(value, place);
}

function fromValue(value: unknown, place: Place): string[] {
  if (Array.isArray(value)) return value.map((item, index) => nameOf(item, `entry ${index}`, place));
  if (!(value instanceof Map)) refuse(place, "a single value");
  for (const key of ["id2label", "label2id", "class_to_idx", "idx_to_class", "names", "labels", "classes"]) {
    const inner = value.get(key); // a configuration that holds the table among other things
    if (inner instanceof Map || Array.isArray(inner)) return fromValue(inner, place);
  }
  const entries = [...value];
  if (entries.every(([key]) => isNumber(key))) {
    return byNumber(
      entries.map(([key, item]) => [Number(key), nameOf(item, `class ${key}`, place)]),
      place,
    );
  }
  if (entries.every(([, item]) => isNumber(item))) {
    return byNumber(
      entries.map(([key, item]) => [Number(item), String(key)]),
      place,
    );
  }
  refuse(
    place,
    `a table whose keys are neither numbers nor names of numbers (such as ${JSON.stringify(entries[0]?.[0])})`,
  );
}

/** A name, or the last text of a pair such as `["n01440764", "tench"]`. */
function nameOf(item: unknown, where: string, place: Place): string {
  if (typeof item === "string") return item;
  if (Array.isArray(item) && item.length > 0 && item.every((part) => typeof part === "string")) return item.at(-1)!;
  refuse(place, `no name for ${where}`);
}

function isNumber(value: unknown): boolean {
  return (typeof value === "number" && Number.isInteger(value)) || (typeof value === "string" && /^\d+$/.test(value));
}

/** Names by their numbers, which are 0 .. N-1, each once. */
function byNumber(entries: [number: number, name: string][], place: Place): string[] {
  const names = new Array<string | undefined>(entries.length);
  for (const [number, name] of entries) {
    if (number < 0 || number >= entries.length) {
      refuse(
        place,
        `${entries.length} names with a number ${number} (numbers of classes are 0..${entries.length - 1})`,
      );
    }
    if (names[number] !== undefined) refuse(place, `two names for class ${number}`);
    names[number] = name;
  }
  return names as string[];
}

// Lines

function fromListItems(lines: string[]): string[] | null {
  const items = lines.map((line) => /^\s*-\s+(.+)$/.exec(line)?.[1]);
  return items.every((item) => item !== undefined) ? items.map((item) => unquote(item!)) : null;
}

/** `n01440764 tench, Tinca tinca` */
function fromSynsets(lines: string[]): string[] | null {
  const names = lines.map((line) => /^n\d{8}\s+(.+)$/.exec(line.trim())?.[1]);
  return names.every((name) => name !== undefined) ? (names as string[]) : null;
}

/** `0: tench`, `0 tench`, `0,tench` on every line; null when the lines are not numbered. */
function fromNumbered(lines: string[], place: Place): string[] | null {
  const entries = lines.map((line) => /^\s*["']?(\d{1,9})["']?(?:\s*[:=,;\t]\s*|\s+)(\S.*?),?\s*$/.exec(line));
  if (!entries.every((entry) => entry !== null)) return null;
  const numbers = new Set(entries.map((entry) => entry![1]));
  if (numbers.size < entries.length) return null; // numbers in names, such as "2 cents" and "2 euros"
  return byNumber(
    entries.map((entry) => [Number(entry![1]), unquote(entry![2]!)]),
    place,
  );
}

function unquote(text: string): string {
  return /^\s*(["'])(.*)\1\s*$/.exec(text)?.[2] ?? text;
}

// Tables

const NAME_COLUMNS =
  /^(label|labels|name|names|class|class[ _-]?name|label[ _-]?name|display[ _-]?name|category|text)$/i;
const NUMBER_COLUMNS = /^(id|idx|index|number|label[ _-]?id|class[ _-]?(id|idx|index|number)|target|)$/i;

/** A first line of column names: a table, whatever the file's ending. */
function hasHeader(lines: string[]): boolean {
  const cells = cellsOf(lines[0] ?? "", separatorOf(lines[0] ?? ""));
  return (
    cells.length > 1 && cells.some((cell) => NAME_COLUMNS.test(cell)) && cells.some((cell) => NUMBER_COLUMNS.test(cell))
  );
}

function separatorOf(line: string): string {
  return [",", "\t", ";"].reduce((best, one) => (line.split(one).length > line.split(best).length ? one : best));
}

function fromTable(lines: string[], place: Place, extension: string): string[] {
  const separator = extension === ".tsv" ? "\t" : separatorOf(lines[0] ?? "");
  const rows = lines.filter((line) => line.trim() !== "").map((line) => cellsOf(line, separator));
  const width = rows[0]?.length ?? 0;
  const odd = rows.findIndex((row) => row.length !== width);
  if (odd >= 0) refuse(place, `a CSV file whose row ${odd + 1} has ${rows[odd]!.length} columns, not ${width}`);
  const first = rows[0] ?? [];
  const nameColumn = first.findIndex((cell) => NAME_COLUMNS.test(cell));
  const isHeader = nameColumn >= 0;
  const body = isHeader ? rows.slice(1) : rows;
  const numeric = (column: number) => body.length > 0 && body.every((row) => /^\d{1,9}$/.test(row[column]!));
  const named = first.findIndex((cell) => NUMBER_COLUMNS.test(cell));
  const numberColumn = isHeader && named >= 0 ? named : first.findIndex((_, column) => numeric(column) && width > 1);
  const others = first.flatMap((_, column) => (column === numberColumn ? [] : [column]));
  const column = isHeader ? nameColumn : others.length === 1 ? others[0]! : -1;
  if (column < 0) refuse(place, `a CSV file of ${width} columns, none of which is called label, name or class,`);
  if (numberColumn < 0) return body.map((row) => row[column]!);
  if (!numeric(numberColumn)) refuse(place, `a CSV file whose column ${numberColumn + 1} holds more than numbers`);
  return byNumber(
    body.map((row) => [Number(row[numberColumn]), row[column]!]),
    place,
  );
}

/** Cells of a line, quotes as in RFC 4180 (but for line breaks inside them). */
function cellsOf(line: string, separator: string): string[] {
  const cells: string[] = [];
  let cell = "";
  let quoted = false;
  for (let at = 0; at < line.length; at++) {
    const character = line[at]!;
    if (quoted && character === '"' && line[at + 1] === '"') {
      cell += '"';
      at++;
    } else if (character === '"' && (quoted || cell.trim() === "")) {
      quoted = !quoted;
    } else if (character === separator && !quoted) {
      cells.push(cell.trim());
      cell = "";
    } else cell += character;
  }
  return [...cells, cell.trim()];
}
