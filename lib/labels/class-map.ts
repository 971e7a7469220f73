/**
 * Which class of a model is each class of a token set? One rule for everything that brings the two together: training,
 * evaluation, the names of an exported model.
 */

import { InvalidTokensError } from "../errors.js";
import { classesNamed, duplicates, normalName } from "./names.js";
import type { LabelContext } from "./resolve.js";

/** How the classes of a set find those of a model. `"auto"` takes the first of the others that fits. */
export const CLASS_RULES = ["auto", "name", "number", "place"] as const;
export type ClassRule = (typeof CLASS_RULES)[number];

/** Which class of the model each class of a set is. */
export interface ClassMap {
  /** What decided it. */
  rule: Exclude<ClassRule, "auto">;
  /** By label of the set: the class of the model. */
  classes: number[];
}

/** A set with classes. */
export interface ClassNames {
  /** Where it lies, for messages. */
  folder: string;
  /** Names by label. */
  classes: readonly string[];
}

/**
 * Decides, in this order:
 * - **by name**, when the model knows every name of the set (any of its synonyms), each as another class;
 * - **by number**, when every name of the set is the number of another class of the model (`0`, `07`, `10`);
 * - **by place**, when there are as many classes as the model has and no name is known to both: then names tell
 *   nothing.
 *
 * Everything else is refused: a set that shares a part of its names with the model would be mapped wrongly by place.
 *
 * @param rule one of them, instead of the first that fits; by place then also takes a set of fewer classes
 * @throws InvalidTokensError
 */
export function mapClasses(set: ClassNames, model: LabelContext, rule: ClassRule = "auto"): ClassMap {
  const rules = rule === "auto" ? (["name", "number", "place"] as const) : [rule];
  for (const one of rules) {
    const classes = RULES[one](set, model, rule !== "auto");
    if (classes !== null) return { rule: one, classes };
  }
  throw refusal(set, model, rule);
}

type Rule = (set: ClassNames, model: LabelContext, asked: boolean) => number[] | null;

const RULES: Record<ClassMap["rule"], Rule> = {
  name: ({ classes }, { classNames }) =>
    distinct(
      classes.map((name) => {
        const found = classesNamed(name, classNames);
        return found.length === 1 ? found[0]! : -1;
      }),
    ),
  number: ({ classes }, { numClasses }) =>
    distinct(
      classes.map((name) => {
        const number = /^\d{1,9}$/.test(name.trim()) ? Number(name) : -1;
        return number < numClasses ? number : -1;
      }),
    ),
  place: ({ classes }, { numClasses, classNames }, asked) => {
    if (classes.length > numClasses || (!asked && classes.length < numClasses)) return null;
    if (!asked && classes.some((name) => classesNamed(name, classNames).length > 0)) return null;
    return classes.map((_, place) => place);
  },
};

/** The list, unless something in it is unknown or stands twice. */
function distinct(classes: number[]): number[] | null {
  return classes.includes(-1) || new Set(classes).size < classes.length ? null : classes;
}

function refusal({ folder, classes }: ClassNames, { numClasses, classNames }: LabelContext, rule: ClassRule) {
  const unknown = classes.find((name) => classesNamed(name, classNames).length === 0) ?? classes[0]!;
  const known = classes.filter((name) => classesNamed(name, classNames).length > 0).length;
  const twice = duplicates(classes)[0];
  const several = classes.find((name) => classesNamed(name, classNames).length > 1);
  const count = `${classes.length} class${classes.length === 1 ? "" : "es"}`;
  const detail =
    twice !== undefined
      ? `two of them called ${JSON.stringify(twice.name)}`
      : several !== undefined
        ? `of which ${JSON.stringify(several)} is the name of classes ${classesNamed(several, classNames).join(" and ")} of the model`
        : known > 0
          ? `of which the model knows ${known}, not ${JSON.stringify(unknown)}`
          : `such as ${JSON.stringify(unknown)}`;
  const ways: Record<ClassRule, string> = {
    auto: `names that the model knows, numbers of its classes, or ${numClasses} classes of names that it does not know`,
    name: "names that the model knows, each of one class",
    number: `numbers in 0..${numClasses - 1}, each of one class`,
    place: `at most ${numClasses}, the classes of the model`,
  };
  const other = rule === "auto" && classes.length <= numClasses ? ' (or the rule "place", which only counts)' : "";
  return new InvalidTokensError(folder, `${count} (${detail})`, `${ways[rule]}${other}`);
}

/** True when every label of the set is the number of its class. */
export function isIdentity({ classes }: ClassMap): boolean {
  return classes.every((to, from) => to === from);
}

/**
 * Names of the model's classes after a training with the set: what a name or number has found keeps its name, a place
 * takes the set's.
 */
export function mappedNames(map: ClassMap, set: ClassNames, model: LabelContext): string[] | undefined {
  const names: (string | undefined)[] = Array.from({ length: model.numClasses }, (_, index) => model.classNames[index]);
  for (const [from, to] of map.classes.entries()) {
    if (map.rule === "place" || names[to] === undefined) names[to] = set.classes[from];
  }
  return names.every((name) => name !== undefined) ? (names as string[]) : undefined;
}

/** Pairs that a person would write: the name in the set, and the class of the model. */
const SHOWN = 12;

/**
 * One line about a map that is not the identity or changes names, or null: `10 classes by name: eight is 8, five is 5,
 * ...`.
 */
export function describeClassMap(map: ClassMap, set: ClassNames, model: LabelContext): string | null {
  const renames = ([from, to]: readonly [number, number]) => {
    const [own, theirs] = [set.classes[from]!, model.classNames[to]];
    return map.rule === "place" && theirs !== undefined && normalName(own) !== normalName(theirs);
  };
  const pairs = [...map.classes.entries()];
  const told = isIdentity(map) ? pairs.filter(renames) : pairs;
  if (told.length === 0) return null;
  const shown = told.slice(0, SHOWN).map((pair) => {
    const [from, to] = pair;
    return `${set.classes[from]} is ${to}${renames(pair) ? ` (${model.classNames[to]})` : ""}`;
  });
  const rest = told.length > SHOWN ? `, and ${told.length - SHOWN} more` : "";
  return `${map.classes.length} classes by ${map.rule}: ${shown.join(", ")}${rest}`;
}
