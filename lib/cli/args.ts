/** Words of the command line -> values. Ranges that depend on a model are checked by lib/options, once it is open. */

import { InvalidArgumentError } from "commander";
import type { Label } from "../labels/index.js";

/** An integer of `min` or more. */
export function integer(min: number, max = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^-?\d+$/.test(text) || value < min || value > max) {
      const range = max === Number.MAX_SAFE_INTEGER ? `${min} or more` : `${min}..${max}`;
      throw new InvalidArgumentError(`Expected an integer of ${range}.`);
    }
    return value;
  };
}

/** A finite number of `min` or more. */
export function number(min: number, max = Number.MAX_VALUE): (text: string) => number {
  return (text) => {
    const value = text.trim() === "" ? Number.NaN : Number(text);
    if (!Number.isFinite(value) || value < min || value > max) {
      const range = max === Number.MAX_VALUE ? `${min} or more` : `${min}..${max}`;
      throw new InvalidArgumentError(`Expected a number of ${range}.`);
    }
    return value;
  };
}

/** One number, or several with commas between them. */
export function numberOrList(one: (text: string) => number): (text: string) => number | number[] {
  return (text) => (text.includes(",") ? text.split(",").map((part) => one(part.trim())) : one(text));
}

/** Several integers with commas between them. */
export function list(one: (text: string) => number): (text: string) => number[] {
  return (text) => text.split(",").map((part) => one(part.trim()));
}

/** 0 .. 2^64-1: a number while that is exact. */
export function seed(text: string): number | bigint {
  const value = /^\d+$/.test(text) ? BigInt(text) : -1n;
  if (value < 0n || value > 2n ** 64n - 1n) throw new InvalidArgumentError("Expected an integer in 0..2^64-1.");
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
}

const MAX_RANGE = 65_536;

/** `3` is a class number, `0-9` ten of them, anything else a name; so is what has quotes or `name:` before it: `name:3`. */
export function labelsOf(word: string): Label[] {
  const quoted = /^(["'])(.*)\1$/s.exec(word)?.[2];
  if (quoted !== undefined) return [`name:${quoted}`];
  if (/^\d+$/.test(word)) return [Number(word)];
  const range = /^(\d+)-(\d+)$/.exec(word);
  if (range === null) return [word];
  const [from, to] = [Number(range[1]), Number(range[2])];
  if (to < from || to - from >= MAX_RANGE) throw new InvalidArgumentError("Expected a range such as 0-9.");
  return Array.from({ length: to - from + 1 }, (_, index) => from + index);
}

/** `license=MIT`, repeatable. */
export function note(text: string, before: Record<string, string> = {}): Record<string, string> {
  const at = text.indexOf("=");
  if (at < 1) throw new InvalidArgumentError("Expected key=value.");
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
}
