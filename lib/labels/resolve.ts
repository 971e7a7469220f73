/**
 * Which class does a label mean? There are two namespaces, and a label always says which of them it is in: a number is
 * the number of a class, a text is a name. A model whose names are numbers (folders 0, 1, 10, 11, 2 ...) has a class 2
 * and another one that is called "2".
 */

import { InvalidOptionError } from "../errors.js";
import { checkInteger, describe, fail, nearest } from "../options/check.js";
import { classesNamed, normalName, synonyms } from "./names.js";

/** A class by its number, by its name, or `"unconditional"`. */
export type Label = number | string;

/** What labels depend on. */
export interface LabelContext {
  numClasses: number;
  /** Class names by number; may be empty. */
  classNames: readonly string[];
}

const MAX_IMAGES = 65_536;

/** Begins a text that is a name whatever it looks like: `name:2`, `name:unconditional`. */
const NAME = "name:";

/** Class numbers of one label or a list of them; `numClasses` stands for unconditional. @throws InvalidOptionError */
export function resolveLabels(value: unknown, context: LabelContext, option = "labels"): Int32Array {
  if (!Array.isArray(value)) return Int32Array.of(resolveLabel(option, value, context));
  if (value.length === 0 || value.length > MAX_IMAGES) fail(option, value, `1..${MAX_IMAGES} labels`);
  const known = new Map<unknown, number>(); // a thousand images of one class look it up once
  return Int32Array.from(value, (label, index) => {
    const found = known.get(label) ?? resolveLabel(`${option}[${index}]`, label, context);
    known.set(label, found);
    return found;
  });
}

/** A number, a class name (case ignored; any of the comma-separated synonyms), or "unconditional". */
export function resolveLabel(option: string, value: unknown, { numClasses, classNames }: LabelContext): number {
  if (typeof value === "number") return checkInteger(option, value, 0, numClasses);
  if (typeof value !== "string")
    fail(option, value, `a class number in 0..${numClasses}, a class name or "unconditional"`);
  const marked = value.trimStart().toLowerCase().startsWith(NAME);
  const wanted = marked ? value.trimStart().slice(NAME.length) : value;
  if (!marked && normalName(wanted) === "unconditional") return numClasses;
  const matches = classesNamed(wanted, classNames);
  if (matches.length === 1) return matches[0]!;
  if (matches.length > 1) {
    fail(option, value, `one class: it is the name of classes ${matches.join(" and ")}; give the number`);
  }
  throw new InvalidOptionError(
    option,
    describe(value),
    `a class number in 0..${numClasses - 1} or a class name (${hintFor(wanted, classNames)})`,
  );
}

function hintFor(wanted: string, classNames: readonly string[]): string {
  if (/^\s*\d+\s*$/.test(wanted)) return `a text is a name: the number ${wanted.trim()} has no quotes around it`;
  if (classNames.length === 0) return "this checkpoint names no classes";
  const near = nearest(normalName(wanted), classNames.flatMap(synonyms));
  return near === null ? `such as "${classNames[0]}"` : `did you mean "${near}"?`;
}

/**
 * What a person who typed numbers should know: those that are the name of another class, too. One line each.
 *
 * @param labels as they were typed: numbers are looked at, names are not
 */
export function ambiguities(
  labels: readonly Label[],
  { classNames: names }: Pick<LabelContext, "classNames">,
): string[] {
  const numbers = new Set(labels.filter((label): label is number => typeof label === "number"));
  return [...numbers].flatMap((number) => {
    const others = classesNamed(String(number), names).filter((index) => index !== number);
    if (others.length === 0) return [];
    const own = names[number] === undefined ? "" : `, which is called ${JSON.stringify(names[number])}`;
    return [
      `${number} is class number ${number}${own}; the class called "${number}" is number ${others.join(" and ")}: name:${number}`,
    ];
  });
}

/**
 * What a person typed: the number after the last class is a mistake there, not the reference's word for
 * "unconditional". @throws InvalidOptionError
 */
export function checkTyped(labels: readonly Label[], { numClasses }: Pick<LabelContext, "numClasses">): void {
  const beyond = labels.find((label) => typeof label === "number" && label >= numClasses);
  if (beyond === undefined) return;
  throw new InvalidOptionError(
    "labels",
    String(beyond),
    `a class number in 0..${numClasses - 1}, a name, or unconditional`,
  );
}
