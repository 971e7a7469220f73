/** The state of a pickle interpreter: bytes, stack, marks, memo. Every step is checked; nothing recurses. */

import { InvalidCheckpointError } from "../errors.js";
import {
  kindOf,
  PickleDict,
  PickleGlobal,
  PickleList,
  PickleOpaque,
  PickleTuple,
  type PickleValue,
  printable,
} from "./pickle-values.js";

/** What gives names and calls in a pickle their meaning. */
export interface PickleHost {
  /**
   * The global of this full name, such as `collections.OrderedDict`. @throws UnsafeCheckpointError for every other name
   */
  resolve(name: string): PickleGlobal;
  /** What "calling" an allowed global with these arguments yields; `create` is for `__new__`, before any `__init__`. */
  call(callee: PickleGlobal, args: PickleTuple, how: "call" | "create"): PickleValue;
  /** What a persistent id stands for. */
  persistent(id: PickleValue): PickleValue;
}

/** A full d36 training checkpoint needs some 400 kB. */
export const MAX_PICKLE_BYTES = 16 * 2 ** 20;
const MAX_LINE_BYTES = 4096;
const MAX_LONG_BYTES = 64;

export class Machine {
  at = 0;
  /** Set by the opcode STOP. */
  stopped = false;
  readonly memo = new Map<number, PickleValue>();
  private readonly stack: PickleValue[] = [];
  private readonly marks: number[] = []; // stack heights

  constructor(
    private readonly bytes: Buffer,
    readonly host: PickleHost,
    private readonly path: string,
  ) {}

  result(): PickleValue {
    const value = this.pop();
    if (this.stack.length > 0) throw this.broken(`it ends with ${this.stack.length + 1} values instead of one`);
    return value;
  }

  broken(found: string): InvalidCheckpointError {
    return new InvalidCheckpointError(`${this.path}: damaged pickle: ${found}`);
  }

  // bytes

  take(length: number): Buffer {
    const end = this.at + length;
    if (end > this.bytes.length) throw this.broken(`it ends at byte ${this.bytes.length} in the middle of a value`);
    const part = this.bytes.subarray(this.at, end);
    this.at = end;
    return part;
  }

  uint(length: 1 | 2 | 4): number {
    return this.take(length).readUIntLE(0, length);
  }

  size8(): number {
    const size = this.take(8).readBigUInt64LE(0);
    if (size > BigInt(MAX_PICKLE_BYTES)) throw this.broken(`it holds a value of ${size} bytes`);
    return Number(size);
  }

  text(length: number): string {
    return this.take(length).toString("utf8");
  }

  line(): string {
    const end = this.bytes.indexOf(0x0a, this.at);
    if (end < 0 || end - this.at > MAX_LINE_BYTES) throw this.broken(`a line at byte ${this.at} does not end`);
    const text = this.text(end - this.at);
    this.at = end + 1;
    return text;
  }

  /** Two's complement, little-endian. */
  long(length: number): number | bigint {
    if (length > MAX_LONG_BYTES) throw this.broken(`it holds an integer of ${length} bytes`);
    const part = this.take(length);
    let value = 0n;
    for (let index = length - 1; index >= 0; index--) value = (value << 8n) | BigInt(part[index]!);
    return narrow(BigInt.asIntN(length * 8, value));
  }

  // stack

  push(value: PickleValue): void {
    this.stack.push(value);
  }

  pop(): PickleValue {
    if (this.stack.length <= (this.marks.at(-1) ?? 0))
      throw this.broken(`it takes a value that is not there, before byte ${this.at}`);
    return this.stack.pop()!;
  }

  top(): PickleValue {
    const value = this.pop();
    this.stack.push(value);
    return value;
  }

  mark(): void {
    this.marks.push(this.stack.length);
  }

  popToMark(): PickleValue[] {
    const height = this.marks.pop();
    if (height === undefined) throw this.broken(`it takes a mark that is not there, before byte ${this.at}`);
    return this.stack.splice(height);
  }

  /** POP also removes a mark. */
  drop(): void {
    if (this.marks.at(-1) === this.stack.length) this.marks.pop();
    else this.pop();
  }

  // memo

  recall(key: number): void {
    const value = this.memo.get(key);
    if (value === undefined) throw this.broken(`it recalls entry ${key}, which was never stored`);
    this.push(value);
  }

  // objects

  tuple(length: number): void {
    const items: PickleValue[] = [];
    for (let index = 0; index < length; index++) items.unshift(this.pop());
    this.push(new PickleTuple(items));
  }

  append(items: PickleValue[]): void {
    const list = this.top();
    if (list instanceof PickleOpaque) return;
    if (!(list instanceof PickleList)) throw this.broken(`it appends to ${kindOf(list)}`);
    for (const item of items) list.items.push(item);
  }

  set(items: PickleValue[]): void {
    const dict = this.top();
    if (dict instanceof PickleOpaque) return;
    if (!(dict instanceof PickleDict)) throw this.broken(`it sets items of ${kindOf(dict)}`);
    if (items.length % 2 !== 0) throw this.broken("a dict's key has no value");
    for (let index = 0; index < items.length; index += 2) dict.entries.set(items[index]!, items[index + 1]!);
  }

  list(items: PickleValue[]): void {
    this.push(new PickleList());
    this.append(items);
  }

  global(module: PickleValue, name: PickleValue): void {
    if (typeof module !== "string" || typeof name !== "string") throw this.broken("a global's name is not a string");
    this.push(this.host.resolve(`${module}.${name}`));
  }

  call(how: "call" | "create"): void {
    const args = this.pop();
    const callee = this.pop();
    if (!(callee instanceof PickleGlobal) || !(args instanceof PickleTuple)) {
      throw this.broken(`it calls ${kindOf(callee)} with ${kindOf(args)}`);
    }
    this.push(this.host.call(callee, args, how));
  }

  /** NEWOBJ_EX: like NEWOBJ, with a dict of named arguments. */
  createNamed(): void {
    const named = this.pop();
    if (!(named instanceof PickleDict)) throw this.broken(`named arguments are ${kindOf(named)}`);
    this.call("create");
  }

  /**
   * Attributes of a dict (PyTorch keeps `_metadata` there) and of opaque objects are dropped; nothing else may have
   * any.
   */
  build(): void {
    this.pop();
    const target = this.top();
    if (!(target instanceof PickleDict) && !(target instanceof PickleOpaque))
      throw this.broken(`it sets attributes of ${kindOf(target)}`);
  }

  /** Old-style instances: refused, with the name of their class where there is one. */
  refuseInstance(): never {
    const name = `${this.line()}.${this.line()}`;
    this.host.resolve(name);
    throw this.broken(`it makes an instance of ${printable(name)}`);
  }
}

function narrow(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
