/**
 * Lists, tables, texts and numbers as JSON and Python write them: `{0: 'tench', 1: "goldfish",}`. Nothing is evaluated:
 * anything but these is an error that says where.
 */

/** A table, in the order of the text. */
export type Literal = string | number | boolean | null | Literal[] | Map<string | number, Literal>;

const MAX_DEPTH = 32;

/** @throws SyntaxError */
export function parseLiteral(text: string): Literal {
  const parser = new Parser(text);
  const value = parser.value(0);
  parser.end();
  return value;
}

const ESCAPES: Record<string, string> = { n: "\n", t: "\t", r: "\r", b: "\b", f: "\f", "0": "\0", a: "\x07", v: "\v" };
const WORDS: Record<string, boolean | null> = {
  true: true,
  True: true,
  false: false,
  False: false,
  null: null,
  None: null,
};

class Parser {
  #at = 0;

  constructor(readonly text: string) {}

  value(depth: number): Literal {
    if (depth > MAX_DEPTH) this.#fail("too many levels");
    const next = this.#next();
    if (next === "{") return this.#table(depth);
    if (next === "[") return this.#list("]", depth);
    if (next === "(") return this.#list(")", depth);
    if (next === '"' || next === "'") return this.#string();
    if (/^[uUbB]["']/.test(this.text.slice(this.#at, this.#at + 2))) {
      this.#at++;
      return this.#string();
    }
    const word = /[-+\w.]*/y;
    word.lastIndex = this.#at;
    const found = word.exec(this.text)![0];
    if (found in WORDS) {
      this.#at += found.length;
      return WORDS[found]!;
    }
    if (!/^[-+]?\d+(\.\d+)?([eE][-+]?\d+)?$/.test(found)) this.#fail(`${JSON.stringify(found || next)} is not a value`);
    this.#at += found.length;
    return Number(found);
  }

  end(): void {
    this.#next();
    if (this.text[this.#at] === ";") this.#at++;
    if (this.#next() !== "") this.#fail("something follows the value");
  }

  #table(depth: number): Literal {
    const table = new Map<string | number, Literal>();
    this.#at++;
    while (this.#next() !== "}") {
      const key = this.value(depth + 1);
      if (typeof key !== "string" && typeof key !== "number") this.#fail("a key is a text or a number");
      if (table.has(key)) this.#fail(`the key ${JSON.stringify(key)} stands twice`);
      if (this.#next() !== ":") this.#fail("a colon was expected");
      this.#at++;
      table.set(key, this.value(depth + 1));
      if (!this.#comma("}")) break;
    }
    this.#close("}");
    return table;
  }

  #list(close: string, depth: number): Literal[] {
    const list: Literal[] = [];
    this.#at++;
    while (this.#next() !== close) {
      list.push(this.value(depth + 1));
      if (!this.#comma(close)) break;
    }
    this.#close(close);
    return list;
  }

  /** True when another entry may follow. */
  #comma(close: string): boolean {
    const next = this.#next();
    if (next === ",") {
      this.#at++;
      return true;
    }
    if (next !== close) this.#fail(`a comma or ${close} was expected`);
    return false;
  }

  #close(bracket: string): void {
    if (this.#next() !== bracket) this.#fail(`${bracket} was expected`);
    this.#at++;
  }

  #string(): string {
    const quote = this.text[this.#at++]!;
    let value = "";
    for (;;) {
      const character = this.text[this.#at++];
      if (character === undefined || character === "\n") this.#fail("a text has no end");
      if (character === quote) return value;
      value += character === "\\" ? this.#escape() : character;
    }
  }

  #escape(): string {
    const letter = this.text[this.#at++] ?? this.#fail("a text has no end");
    const length = { x: 2, u: 4, U: 8 }[letter];
    if (length === undefined) return ESCAPES[letter] ?? letter;
    const digits = this.text.slice(this.#at, this.#at + length);
    if (!new RegExp(`^[0-9a-fA-F]{${length}}$`).test(digits)) this.#fail("an escape is not valid");
    this.#at += length;
    const code = Number.parseInt(digits, 16);
    if (code > 0x10ffff) this.#fail("an escape is not valid");
    return length === 8 ? String.fromCodePoint(code) : String.fromCharCode(code);
  }

  /** The next character that is not space or a comment; empty at the end. */
  #next(): string {
    const space = /\s*(?:#[^\n]*\s*)*/y;
    space.lastIndex = this.#at;
    this.#at += space.exec(this.text)![0].length;
    return this.text[this.#at] ?? "";
  }

  #fail(what: string): never {
    const line = this.text.slice(0, this.#at).split("\n").length;
    throw new SyntaxError(`line ${line}: ${what}`);
  }
}
