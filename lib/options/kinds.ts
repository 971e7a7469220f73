/** Kinds of options: what a value may be, as a check, as a JSON schema and as a text on the command line. */

import { type Static, type TSchema, Type } from "@sinclair/typebox";
import { listener } from "../base/listener.js";
import {
  checkBoolean,
  checkFunction,
  checkInteger,
  checkNumber,
  checkOneOf,
  checkPath,
  checkSeed,
  checkSignal,
  checkString,
  fail,
} from "./check.js";
import type { Input, Kind, Output, Rows, Table } from "./table.js";

export const MANY = Number.MAX_SAFE_INTEGER;

type Check<T> = (option: string, value: unknown) => T;

function kind<S extends TSchema>(
  schema: S,
  check: Check<Static<S>>,
  parse?: Kind<unknown>["parse"],
): Kind<Static<S>> & { schema: S } {
  return { schema, check, parse };
}

const integerOf = (_: string, text: string) => (/^-?\d+$/.test(text) ? Number(text) : Number.NaN);
const numberOf = (_: string, text: string) => (text.trim() === "" ? Number.NaN : Number(text));

export function integer(minimum: number, maximum = MANY) {
  const range = maximum === MANY ? { minimum } : { minimum, maximum };
  return kind(Type.Integer(range), (option, value) => checkInteger(option, value, minimum, maximum), integerOf);
}

export function number(minimum: number, maximum: number) {
  const check: Check<number> = (option, value) => checkNumber(option, value, minimum, maximum);
  return kind(Type.Number({ minimum, maximum }), check, numberOf);
}

/** 0 < value <= most */
export function above0(maximum = 1e9) {
  const check: Check<number> = (option, value) => {
    if (typeof value !== "number" || !(value > 0) || value > maximum)
      fail(option, value, `a number above 0, at most ${maximum}`);
    return value;
  };
  return kind(Type.Number({ exclusiveMinimum: 0, maximum }), check, numberOf);
}

/** 0 <= value < 1 */
export function share() {
  const check: Check<number> = (option, value) => {
    if (typeof value !== "number" || !(value >= 0 && value < 1)) fail(option, value, "a number of 0 or more, below 1");
    return value;
  };
  return kind(Type.Number({ minimum: 0, exclusiveMaximum: 1 }), check, numberOf);
}

export function boolean() {
  return kind(Type.Boolean(), checkBoolean);
}

export function text() {
  return kind(Type.String({ minLength: 1 }), checkString, (_, word) => word);
}

/** A file or folder: a path, or a `file:` URL. As a text of the command line it is a path. */
export function path(): Kind<string | URL, string> & { schema: TSchema } {
  const schema = Type.Unsafe<string | URL>(Type.String({ minLength: 1 }));
  return { ...checkedBy<string | URL, string>(schema, checkPath, (_, word) => word), schema };
}

export function oneOf<const T extends string>(...choices: T[]): Kind<T> {
  const schema = Type.Unsafe<T>({ type: "string", enum: choices });
  return {
    ...kind(
      schema,
      (option, value) => checkOneOf(option, value, choices),
      (_, word) => word,
    ),
    choices,
  };
}

/** @param expected what the whole is, for the refusal of anything else than a list */
export function listOf<T>(one: Kind<T> & { schema: TSchema }, expected: string, least = 1) {
  const check: Check<T[]> = (option, value) => {
    if (!Array.isArray(value) || value.length < least) fail(option, value, expected);
    return value.map((item, index) => one.check(`${option}[${index}]`, item));
  };
  const schema = Type.Unsafe<T[]>(Type.Array(one.schema, { minItems: least }));
  return kind(schema, check, (option, words) => words.split(",").map((word) => one.parse?.(option, word.trim())));
}

/** One value, or a list of them: in a text, commas make the list. */
export function oneOrMore<T>(one: Kind<T> & { schema: TSchema }, expected: string) {
  const many = listOf(one, expected);
  const check: Check<T | T[]> = (option, value) => (Array.isArray(value) ? many : one).check(option, value);
  const schema = Type.Unsafe<T | T[]>(Type.Union([one.schema, many.schema]));
  return kind(schema, check, (option, word) => (word.includes(",") ? many : one).parse?.(option, word));
}

/** 0 .. 2^64-1: beyond 2^53-1 as a bigint, which JSON has no word for. */
export function seed() {
  const schema = Type.Unsafe<number | bigint>(Type.Integer({ minimum: 0, maximum: MANY }));
  return kind(schema, checkSeed, (option, word) => {
    const value = /^\d+$/.test(word) ? BigInt(word) : -1n;
    if (value < 0n || value > 2n ** 64n - 1n) fail(option, word, "an integer in 0..2^64-1");
    return value <= BigInt(MANY) ? Number(value) : value;
  });
}

const UNITS: Record<string, number> = { "": 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** A number of bytes; as a text `8GiB`, `500M`, `123456`. */
export function bytes() {
  return kind(integer(1).schema, integer(1).check, (option, word) => {
    const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?$/i.exec(word.trim());
    const value = match === null ? 0 : Math.floor(Number(match[1]) * UNITS[match[2]!.toLowerCase()]!);
    if (value < 1) fail(option, word, "a size such as 8GiB");
    return value;
  });
}

export function callback<T extends (...words: never[]) => unknown>(): Kind<T> {
  return { schema: null, check: (option, value) => checkFunction<T>(option, value) };
}

/** A callback that can break nothing, in the asynchronous context of the call. */
export function listening<A extends unknown[]>(): Kind<(...words: A) => void> {
  return {
    schema: null,
    check: (option, value) => listener(option, checkFunction<(...words: A) => void>(option, value)),
  };
}

export function signal(): Kind<AbortSignal> {
  return { schema: null, check: checkSignal };
}

/** Fields of their own, called `option.field`. */
export function nested<R extends Rows>(inner: Table<R>): Kind<Input<R>, Output<R>> {
  return {
    get schema() {
      return inner.schema;
    },
    check: (option, value) => inner.read(value, option),
    table: inner as unknown as Table<Rows>,
  };
}

/**
 * What only a resolver can check, because it needs the model or another option. @param schema null for what JSON cannot
 * say
 */
export function checkedLater<T>(schema: TSchema | null, parse?: Kind<T>["parse"]): Kind<T, unknown> {
  return { schema, check: (_, value) => value, parse };
}

/** A kind with a check of its own. */
export function checkedBy<In, Out = In, S extends TSchema | null = TSchema | null>(
  schema: S,
  check: Check<Out>,
  parse?: Kind<In>["parse"],
): Kind<In, Out> & { schema: S } {
  return { schema, check, parse };
}
