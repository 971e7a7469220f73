/** When are two names the same? */

/** Case, space around a name and the Unicode form of its letters do not matter. */
export function normalName(name: string): string {
  return name.normalize("NFC").trim().toLowerCase();
}

/** The names of a class that has several, with commas between them: `tench, Tinca tinca`. */
export function synonyms(name: string): string[] {
  return name.split(",").map(normalName);
}

/** Names that stand more than once, with the numbers of their classes. */
export function duplicates(names: readonly string[]): { name: string; classes: number[] }[] {
  const classes = new Map<string, number[]>();
  for (const [index, name] of names.entries()) {
    const key = normalName(name);
    classes.set(key, [...(classes.get(key) ?? []), index]);
  }
  return [...classes.values()]
    .filter((numbers) => numbers.length > 1)
    .map((numbers) => ({ name: names[numbers[0]!]!, classes: numbers }));
}

/**
 * The classes that a name means: those whose whole name it is, else those that have it among their synonyms. More than
 * one is for the caller to refuse.
 */
export function classesNamed(wanted: string, names: readonly string[]): number[] {
  const key = normalName(wanted);
  const whole = names.flatMap((name, index) => (normalName(name) === key ? [index] : []));
  if (whole.length > 0) return whole;
  return names.flatMap((name, index) => (synonyms(name).includes(key) ? [index] : []));
}
