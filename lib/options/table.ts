/**
 * An option is said once: in a row of a table, with its kind (type, range, JSON schema, text form), its words, its
 * default and its flag. The TypeScript type, the check with its refusals, the command line with its help, the JSON
 * schema of an HTTP route and the tables of the documentation are read off the rows.
 *
 * Who validates what: this room explains. It refuses every wrong value by the option's name, with what was found and
 * what was expected; what depends on a model is checked by the resolver beside the table. The core below protects
 * itself: it checks what it gets once more, in words for developers, because nothing that a caller writes may crash the
 * process.
 */

import { type TObject, type TSchema, Type } from "@sinclair/typebox";
import { InvalidOptionError } from "../errors.js";
import { fail, nearest } from "./check.js";

/** What a value may be. @typeParam In what a caller writes @typeParam Out what the check returns */
export interface Kind<In, Out = In> {
  /** null for what JSON cannot say. */
  schema: TSchema | null;
  /** @throws InvalidOptionError that names `option` */
  check(option: string, value: unknown): Out;
  /**
   * A word of the command line as a value, unchecked; `before` is what the flag gave before. Missing: it is a flag
   * without a word.
   */
  parse?: ((option: string, text: string, before?: unknown) => unknown) | undefined;
  /** All values, when they are few words. */
  choices?: readonly string[];
  /** Fields of a nested table. */
  table?: Table<Rows>;
  /** For the compiler only. */
  readonly in?: In;
}

/** What a row says beside its kind and its words. */
export interface More<T> {
  /** Refused when it is missing. */
  needed?: true;
  /** Used when it is missing. */
  default?: T;
  /** The default in words, where it is no constant: it depends on the model, the machine or another option. */
  otherwise?: string;
  /** As commander writes it: `-s, --seed <n>`. */
  flag?: string;
  /** Of another flag, by its attribute, that this one cannot stand beside. */
  conflicts?: string;
  /** Environment variable that stands in when the option is missing. */
  environment?: string;
}

export type Row<In = unknown, Out = unknown, M = More<In>> = M & { kind: Kind<In, Out>; words: string };

// biome-ignore lint/suspicious/noExplicitAny: rows of all types stand in one record; `unknown` fits only results
export type Rows = Record<string, { kind: Kind<any, any>; words: string } & More<any>>;

/** @param words a sentence without its full stop, as a help text has it */
export function row<In, Out>(kind: Kind<In, Out>, words: string): Row<In, Out, object>;
export function row<In, Out, const M extends More<In>>(kind: Kind<In, Out>, words: string, more: M): Row<In, Out, M>;
export function row<In, Out>(kind: Kind<In, Out>, words: string, more: More<In> = {}): Row<In, Out, object> {
  return { ...more, kind, words };
}

type InputOf<R> = R extends { kind: Kind<infer In, unknown> } ? In : never;
type OutputOf<R> = R extends { kind: Kind<infer _, infer Out> } ? Out : never;
type Needed<R> = { [K in keyof R]: R[K] extends { needed: true } ? K : never }[keyof R];
type Present<R> = { [K in keyof R]: R[K] extends { needed: true } | { default: unknown } ? K : never }[keyof R];

/** What a caller writes. */
export type Input<R> = { [K in keyof Pick<R, Needed<R>>]: InputOf<R[K]> } & {
  [K in keyof Omit<R, Needed<R>>]?: InputOf<R[K]> | undefined;
};
/** What has been checked, with constant defaults filled in. */
export type Output<R> = { [K in keyof R]: OutputOf<R[K]> | (K extends Present<R> ? never : undefined) };

/** The type of a table's options: `interface X extends OptionsOf<typeof x> {}`. */
export type OptionsOf<T> = T extends Table<infer R> ? { [K in keyof Input<R>]: Input<R>[K] } : never;
/** What a resolver makes of a table's options: the checked ones, some of them replaced. */
export type Resolved<T, More = unknown> = T extends Table<infer R> ? Omit<Output<R>, keyof More> & More : never;

export class Table<R extends Rows> {
  readonly #entries: [name: string, row: Rows[string]][];
  /**
   * What nobody gave: defaults that need no check, and undefined. Copied, so that all options of a table are objects of
   * one shape.
   */
  readonly #constants: Record<string, unknown>;
  #schema: TObject | undefined;

  constructor(readonly rows: R) {
    this.#entries = Object.entries(rows);
    this.#constants = Object.fromEntries(
      this.#entries.map(([name, { default: fallback }]) => [name, isConstant(fallback) ? fallback : undefined]),
    );
  }

  /**
   * Checks raw options. Misspelt names and nulls are refused by name; `undefined` counts as missing.
   *
   * @param option where the object stands: its fields are called `option.field`
   * @throws InvalidOptionError
   */
  read(raw: unknown, option = "options"): Output<R> {
    const place = option === "options" ? "" : `${option}.`;
    if (raw === undefined) this.#requireSomething(option);
    else this.#checkNames(raw, option, place);
    const given = (raw ?? {}) as Record<string, unknown>;
    const checked = { ...this.#constants };
    for (const [name, { kind, needed, default: fallback }] of this.#entries) {
      const value = given[name];
      if (value !== undefined) checked[name] = kind.check(place + name, value);
      else if (needed || !isConstant(fallback)) checked[name] = kind.check(place + name, fallback);
    }
    return checked as Output<R>;
  }

  /** The options of this table out of those of a larger one. */
  of(options: Output<R>): Output<R> {
    const given: Record<string, unknown> = options;
    return Object.fromEntries(this.#entries.map(([name]) => [name, given[name]])) as Output<R>;
  }

  /** Some of the rows, as a table of their own. */
  pick<K extends keyof R>(...names: K[]): Table<Pick<R, K>> {
    return new Table(Object.fromEntries(names.map((name) => [name, this.rows[name]])) as Pick<R, K>);
  }

  /** JSON schema of what JSON can say: functions, signals and opened things are left out. */
  get schema(): TObject {
    this.#schema ??= Type.Object(
      Object.fromEntries(
        this.#entries.flatMap(([name, { kind, words, needed, default: fallback }]) => {
          if (kind.schema === null) return [];
          const plain = typeof fallback !== "object" && typeof fallback !== "bigint";
          const schema = { ...kind.schema, description: words, ...(plain && { default: fallback }) } as TSchema;
          return [[name, needed ? schema : Type.Optional(schema)]];
        }),
      ),
      { additionalProperties: false },
    );
    return this.#schema;
  }

  #requireSomething(option: string): void {
    const needed = this.#entries.filter(([, row]) => row.needed).map(([name]) => name);
    if (needed.length > 0) fail(option, undefined, `{ ${needed.join(", ")} }`);
  }

  #checkNames(raw: unknown, option: string, place: string): void {
    if (typeof raw !== "object" || raw === null || Array.isArray(raw)) fail(option, raw, "an object");
    for (const name of Object.keys(raw)) {
      if (!Object.hasOwn(this.rows, name)) refuseName(place + name, name, Object.keys(this.rows));
      if ((raw as Record<string, unknown>)[name] !== null) continue;
      fail(place + name, null, "a value, or undefined for the default");
    }
  }
}

/** A default that is the same for all callers; objects are made anew for each. */
function isConstant(fallback: unknown): boolean {
  return typeof fallback !== "object";
}

function refuseName(option: string, name: string, known: readonly string[]): never {
  const near = nearest(name, known);
  const hint = near === null ? `one of ${known.join(", ")}` : `a known option (did you mean "${near}"?)`;
  throw new InvalidOptionError(option, "an unknown option", hint);
}

export function table<R extends Rows>(rows: R): Table<R> {
  return new Table(rows);
}

/** Schema of a group of options, for a route. */
export function jsonSchemaOf(group: Table<Rows>): TObject {
  return group.schema;
}

/** Whether a value is one of a row's. */
export function accepts({ kind }: Rows[string], value: unknown): boolean {
  try {
    kind.check("", value);
    return true;
  } catch {
    return false;
  }
}

/** The default as people read it, or null. */
export function defaultText({ default: fallback, otherwise }: Row): string | null {
  if (otherwise !== undefined) return otherwise;
  if (fallback === undefined || fallback === false || typeof fallback === "object") return null;
  return typeof fallback === "string" ? fallback : String(fallback);
}
