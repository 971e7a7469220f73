/** What a pickle can hold here: plain data, names from the allow-list, and what the host makes of them. */

export class PickleTuple {
  constructor(readonly items: readonly PickleValue[]) {}
}

/** Lists and sets. */
export class PickleList {
  readonly items: PickleValue[] = [];
}

/** Dictionaries, ordered or not. Keys compare by identity unless they are primitive. */
export class PickleDict {
  readonly entries = new Map<PickleValue, PickleValue>();

  get(key: string): PickleValue | undefined {
    return this.entries.get(key);
  }
}

/**
 * A name that the allow-list knows, such as `torch.FloatStorage`. It stands for itself; there is nothing behind it to
 * run.
 */
export class PickleGlobal {
  constructor(readonly name: string) {}
}

/** Base of the values that a host makes: tensors, storages. */
export abstract class HostValue {
  abstract readonly kind: string;
}

export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PickleTuple
  | PickleList
  | PickleDict
  | PickleGlobal
  | PickleOpaque
  | HostValue;

/** The kind of a value, for messages. */
export function kindOf(value: PickleValue | undefined): string {
  if (value === undefined) return "nothing";
  if (value === null) return "None";
  if (typeof value === "number") return Number.isInteger(value) ? "an integer" : "a float";
  if (typeof value === "bigint") return "an integer";
  if (typeof value === "string") return "a string";
  if (typeof value === "boolean") return "a bool";
  if (value instanceof Uint8Array) return "bytes";
  if (value instanceof PickleTuple) return `a tuple of ${value.items.length}`;
  if (value instanceof PickleList) return `a list of ${value.items.length}`;
  if (value instanceof PickleDict) return "a dict";
  if (value instanceof PickleGlobal) return value.name;
  if (value instanceof PickleOpaque) return `an object of ${value.name}`;
  return `a ${value.kind}`;
}

/**
 * An object that this reader knows by name and leaves alone: a namespace of arguments, a number of NumPy's. Nothing is
 * made of its parts.
 */
export class PickleOpaque {
  constructor(readonly name: string) {}
}

/** Text of a file in a message: one line, no control characters, not too long. */
export function printable(text: string, limit = 120): string {
  const clean = text.replace(/[^\x20-\x7e]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);
  return clean.length > limit ? `${clean.slice(0, limit - 3)}...` : clean;
}
