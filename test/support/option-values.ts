/** Values of options, right and wrong, read off their JSON schemas. */

import { Ajv } from "ajv";
import fc from "fast-check";

/** As much of JSON schema as the tables use. */
export interface Schema {
  type?: string;
  enum?: string[];
  pattern?: string;
  minLength?: number;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  anyOf?: Schema[];
  items?: Schema;
  minItems?: number;
  properties?: Record<string, Schema>;
  required?: string[];
  minProperties?: number;
  patternProperties?: Record<string, Schema>;
  default?: unknown;
  description?: string;
}

const ajv = new Ajv();

export function validatorOf(schema: object): (value: unknown) => boolean {
  const validate = ajv.compile(schema);
  return (value) => validate(value) as boolean;
}

/** What stands alone: the parts of a union, or the schema itself. */
export function variants(schema: Schema): Schema[] {
  return schema.anyOf?.flatMap(variants) ?? [schema];
}

/** Values that a schema accepts. @param special for the paths whose check knows more than a schema can say */
export function valid(
  schema: Schema,
  path = "",
  special: Record<string, fc.Arbitrary<unknown>> = {},
): fc.Arbitrary<unknown> {
  if (special[path] !== undefined) return special[path];
  const all = variants(schema);
  if (all.length > 1) return fc.oneof(...all.map((one) => valid(one, path, special)));
  const [least, most] = [
    schema.minimum ?? schema.exclusiveMinimum ?? -1e12,
    schema.maximum ?? schema.exclusiveMaximum ?? 1e12,
  ];
  switch (schema.type) {
    case "boolean":
      return fc.boolean();
    case "integer":
      return fc.integer({ min: least, max: Math.min(2 ** 31 - 1, most) });
    case "number":
      return fc.double({
        min: least,
        max: most,
        minExcluded: schema.exclusiveMinimum !== undefined,
        maxExcluded: schema.exclusiveMaximum !== undefined,
        noNaN: true,
      });
    case "array":
      return fc.array(valid(schema.items!, path, special), { minLength: schema.minItems ?? 0, maxLength: 6 });
    case "object":
      return validObject(schema, path, special);
    default:
      if (schema.enum !== undefined) return fc.constantFrom(...schema.enum);
      if (schema.pattern !== undefined) return fc.stringMatching(new RegExp(schema.pattern));
      return fc.string({ minLength: schema.minLength ?? 0 }).filter((text) => !text.includes("\0"));
  }
}

function validObject(
  { properties, patternProperties, required, minProperties }: Schema,
  path: string,
  special: Record<string, fc.Arbitrary<unknown>>,
) {
  if (properties === undefined) {
    const value = valid(Object.values(patternProperties ?? {})[0]!);
    return fc.dictionary(fc.string({ minLength: 1 }), value, { minKeys: minProperties ?? 0 });
  }
  const fields = Object.entries(properties).map(([name, field]) => [
    name,
    valid(field, path === "" ? name : `${path}.${name}`, special),
  ]);
  return fc.record<Record<string, unknown>>(Object.fromEntries(fields), { requiredKeys: required ?? [] });
}

/** Of no type that the schema knows, or no value at all that it accepts. */
export function wrongType(schema: Schema | null): fc.Arbitrary<unknown> {
  const few = fc.oneof(fc.boolean(), fc.double({ noNaN: true }), fc.constant({}), fc.constant([]), fc.constant([3]));
  if (schema === null) return few;
  const accepts = validatorOf(schema);
  const texts = fc.string();
  const lists = fc.array(fc.oneof(fc.boolean(), texts, fc.constant({})), { minLength: 1, maxLength: 3 });
  return fc.oneof(few, texts, lists, fc.constantFrom(-7n, 2n ** 64n), fc.constant(Symbol("s"))).filter((value) => {
    return typeof value === "bigint" || typeof value === "symbol" || !accepts(value);
  });
}

/** Of the right type and beyond its range; null for a type that has none. */
export function outOfRange(schema: Schema): fc.Arbitrary<unknown> | null {
  const accepts = validatorOf(schema);
  const beyond = variants(schema).flatMap(beyondOne);
  return beyond.length === 0 ? null : fc.oneof(...beyond).filter((value) => !accepts(value));
}

function beyondOne(schema: Schema): fc.Arbitrary<unknown>[] {
  const { type, minimum, maximum, exclusiveMinimum, exclusiveMaximum } = schema;
  if (type === "integer" || type === "number") {
    const [low, high] = [minimum ?? exclusiveMinimum, maximum ?? exclusiveMaximum];
    const some: fc.Arbitrary<unknown>[] = [
      fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY),
    ];
    if (type === "integer") some.push(fc.constantFrom(low! + 0.5, 2 ** 60));
    if (low !== undefined)
      some.push(fc.double({ min: -1e300, max: low, maxExcluded: minimum !== undefined, noNaN: true }));
    if (high !== undefined)
      some.push(fc.double({ min: high, max: 1e300, minExcluded: maximum !== undefined, noNaN: true }));
    if (exclusiveMinimum !== undefined) some.push(fc.constant(exclusiveMinimum));
    if (exclusiveMaximum !== undefined) some.push(fc.constant(exclusiveMaximum));
    return some;
  }
  if (type === "string") {
    if (schema.enum !== undefined || schema.pattern !== undefined) return [fc.string()];
    return schema.minLength === undefined ? [] : [fc.constant("")];
  }
  if (type !== "array") return [];
  const item = outOfRange(schema.items!);
  const short: fc.Arbitrary<unknown>[] =
    schema.minItems === undefined || schema.minItems === 0 ? [] : [fc.constant([])];
  return item === null ? short : [...short, item.map((bad) => [bad]), fc.tuple(valid(schema.items!), item)];
}

/** A field, wherever it stands: `optimizer.beta1`. */
export interface Field {
  path: string;
  schema: Schema;
  /** The options of the table's level that hold this value there, and beside it only what must be. */
  put(value: unknown): Record<string, unknown>;
}

export function fieldsOf({ properties = {} }: Schema, place = ""): Field[] {
  return Object.entries(properties).flatMap(([name, schema]): Field[] => {
    const path = place + name;
    const inner = variants(schema)
      .filter(({ type }) => type === "object")
      .flatMap((group) =>
        fieldsOf(group, `${path}.`).map((field) => ({
          ...field,
          put: (value: unknown) => ({ [name]: { ...least(group), ...field.put(value) } }),
        })),
      );
    return [{ path, schema, put: (value) => ({ [name]: value }) }, ...inner];
  });
}

/** Only what a group needs. */
function least({ properties = {}, required = [] }: Schema): Record<string, unknown> {
  return Object.fromEntries(
    required.map((name) => [name, fc.sample(valid(properties[name]!), { numRuns: 1, seed: 1 })[0]]),
  );
}
