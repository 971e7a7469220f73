/**
 * Predicates and messages of option checking. Each check takes the option's path and the raw value, and returns the
 * value with its type, or throws an InvalidOptionError that names the option, what was found and what was expected.
 */

import { fileURLToPath } from "node:url";
import { InvalidOptionError } from "../errors.js";

/** A value as a person would write it, short enough for one line. */
export function describe(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return "a function";
  if (typeof value === "symbol") return "a symbol";
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === "object" && value !== null) {
    const name: unknown = Object.getPrototypeOf(value)?.constructor?.name;
    return typeof name === "string" && name !== "Object" ? `an instance of ${name}` : "an object";
  }
  return String(value);
}

export function fail(option: string, value: unknown, expected: string): never {
  const error = new InvalidOptionError(option, describe(value), expected);
  Error.captureStackTrace?.(error, fail); // of the ten lines of a stack, the caller's own shall be one
  throw error;
}

/** An object whose keys are all known; misspelt keys and nulls are refused by name. `undefined` counts as empty. */
export function checkObject(option: string, value: unknown, keys: readonly string[]): Record<string, unknown> {
  if (value === undefined) return {};
  if (typeof value !== "object" || value === null || Array.isArray(value)) fail(option, value, "an object");
  for (const key of Object.keys(value)) {
    if (keys.includes(key)) {
      if ((value as Record<string, unknown>)[key] !== null) continue;
      fail(option === "options" ? key : `${option}.${key}`, null, "a value, or undefined for the default");
    }
    const near = nearest(key, keys);
    const hint = near === null ? `one of ${keys.join(", ")}` : `a known option (did you mean "${near}"?)`;
    throw new InvalidOptionError(option === "options" ? key : `${option}.${key}`, "an unknown option", hint);
  }
  return value as Record<string, unknown>;
}

export function checkInteger(option: string, value: unknown, min: number, max: number): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < min || value > max) {
    fail(
      option,
      value,
      max === Number.MAX_SAFE_INTEGER ? `an integer of ${min} or more` : `an integer in ${min}..${max}`,
    );
  }
  return value;
}

export function checkNumber(option: string, value: unknown, min: number, max: number): number {
  if (typeof value !== "number" || !Number.isFinite(value) || value < min || value > max) {
    fail(option, value, max === Number.MAX_VALUE ? `a number of ${min} or more` : `a number in ${min}..${max}`);
  }
  return value;
}

export function checkBoolean(option: string, value: unknown): boolean {
  if (typeof value !== "boolean") fail(option, value, "true or false");
  return value;
}

export function checkString(option: string, value: unknown): string {
  if (typeof value !== "string" || value === "") fail(option, value, "a non-empty string");
  return value;
}

/** A path or a `file:` URL, as a path. */
export function checkPath(option: string, value: unknown): string {
  const text = isUrl(value) ? pathOfUrl(option, value) : checkString(option, value);
  if (text.includes("\0")) fail(option, value, "a path without a zero byte");
  return text;
}

/** Duck-typed, so that URLs of other realms pass. */
export function isUrl(value: unknown): value is URL {
  return typeof value === "object" && value !== null && "protocol" in value && "href" in value;
}

function pathOfUrl(option: string, url: URL): string {
  try {
    return fileURLToPath(String(url.href));
  } catch (cause) {
    throw new InvalidOptionError(option, describe(String(url.href)), "a path, or a file: URL of this machine", {
      cause,
    });
  }
}

export function checkOneOf<T extends string>(option: string, value: unknown, allowed: readonly T[]): T {
  if (!allowed.includes(value as T)) fail(option, value, allowed.map((word) => `"${word}"`).join(", "));
  return value as T;
}

export function checkFunction<T>(option: string, value: unknown): T {
  if (typeof value !== "function") fail(option, value, "a function");
  return value as T;
}

const MAX_SEED = 2n ** 64n - 1n;

export function checkSeed(option: string, value: unknown): number | bigint {
  const ok =
    (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) ||
    (typeof value === "bigint" && value >= 0n && value <= MAX_SEED);
  if (!ok) fail(option, value, "an integer in 0..2^53-1, or a bigint in 0..2^64-1");
  return value as number | bigint;
}

/** Duck-typed, so that signals of other realms and polyfills pass. */
export function checkSignal(option: string, value: unknown): AbortSignal {
  const signal = value as AbortSignal | null;
  const ok =
    typeof signal === "object" &&
    signal !== null &&
    typeof signal.aborted === "boolean" &&
    typeof signal.addEventListener === "function";
  if (!ok) fail(option, value, "an AbortSignal");
  return signal;
}

/** Applies `check` unless the value is absent. */
export function optional<T>(value: unknown, check: (value: unknown) => T): T | undefined {
  return value === undefined ? undefined : check(value);
}

/** The candidate within an edit distance that a slip of the fingers explains, or null. */
export function nearest(word: string, candidates: readonly string[]): string | null {
  let best: string | null = null;
  let bestDistance = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = a[i - 1] === b[j - 1] ? 0 : 1;
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + change));
    }
    row = next;
  }
  return row[b.length]!;
}
