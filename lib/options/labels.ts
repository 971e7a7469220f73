/** Kinds of options that are labels, and how a command line writes them. */

import { Type } from "@sinclair/typebox";
import { CLASS_RULES, type Label, type LabelMix } from "../labels/index.js";
import { fail } from "./check.js";
import { checkedLater, oneOf } from "./kinds.js";

const one = Type.Union([Type.Integer({ minimum: 0 }), Type.String()]);
const list = Type.Array(one, { minItems: 1 });

const mix = Type.Record(Type.String(), Type.Number({ minimum: 0, maximum: 1 }), { minProperties: 1 });
const mixed = Type.Union([one, mix]);

/** A class, or a mix of several with weights. */
export const label = () => checkedLater<Label | LabelMix>(mixed);
export const labels = () =>
  checkedLater<Label | LabelMix | (Label | LabelMix)[]>(Type.Union([mixed, Type.Array(mixed, { minItems: 1 })]));
export const labelList = () => checkedLater<Label[]>(list, (option, text) => wordsToLabels(option, text.split(",")));
export const classRule = () => oneOf(...CLASS_RULES);

const MAX_RANGE = 65_536;

/**
 * `3` is a class number, `0-9` ten of them, anything else a name; so is what has quotes or `name:` before it: `name:3`.
 */
export function wordsToLabels(option: string, words: readonly string[]): Label[] {
  return words.flatMap((given): Label[] => {
    const word = given.trim();
    if (/^\d+$/.test(word)) return [Number(word)];
    const quoted = /^(["'])(.*)\1$/s.exec(word)?.[2];
    if (quoted !== undefined) return [`name:${quoted}`];
    const range = /^(\d+)-(\d+)$/.exec(word);
    if (range === null) return [word];
    const [from, to] = [Number(range[1]), Number(range[2])];
    if (to < from || to - from >= MAX_RANGE) fail(option, word, "a range such as 0-9");
    return Array.from({ length: to - from + 1 }, (_, index) => from + index);
  });
}
