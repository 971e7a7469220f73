/**
 * A pickle interpreter that executes nothing: protocols 2 to 5, a closed set of opcodes, names only from the host's
 * allow-list, and "calls" that are plain functions of the host. It never recurses; its work and memory are bounded by the
 * number of bytes and by the limits below. Source: CPython's Lib/pickletools.py, where each opcode is described.
 */

import { InvalidCheckpointError } from "../errors.js";
import { TimeSlice } from "../time-slice.js";
import {
  kindOf,
  PickleDict,
  PickleGlobal,
  PickleList,
  PickleTuple,
  type PickleValue,
  printable,
} from "./pickle-values.js";

/** What gives names and calls in a pickle their meaning. */
export interface PickleHost {
  /** The global of this full name, such as `collections.OrderedDict`. @throws UnsafeCheckpointError for every other name */
  resolve(name: string): PickleGlobal;
  /** What "calling" an allowed global with these arguments yields. */
  call(callee: PickleGlobal, args: PickleTuple): PickleValue;
  /** What a persistent id stands for. */
  persistent(id: PickleValue): PickleValue;
}

/** A full d36 training checkpoint needs some 100,000 operations and 400 kB. */
export const MAX_PICKLE_BYTES = 16 * 2 ** 20;
const MAX_OPERATIONS = 1_000_000;
const MAX_LINE_BYTES = 4096;
const MAX_LONG_BYTES = 64;

/** Interprets the pickle at the start of `bytes`. Returns its value and its length in bytes. */
export async function readPickle(
  bytes: Buffer,
  host: PickleHost,
  path: string,
): Promise<{ value: PickleValue; length: number }> {
  const machine = new Machine(bytes, host, path);
  const slice = new TimeSlice();
  for (let operations = 1; !machine.stopped; operations++) {
    if (operations > MAX_OPERATIONS) throw machine.broken(`it has more than ${MAX_OPERATIONS} operations`);
    machine.step();
    if ((operations & 63) === 0 && slice.over) await slice.pause();
  }
  return { value: machine.result(), length: machine.at };
}

class Machine {
  at = 0;
  stopped = false;
  readonly memo = new Map<number, PickleValue>();
  private readonly stack: PickleValue[] = [];
  private readonly marks: number[] = []; // stack heights

  constructor(
    private readonly bytes: Buffer,
    readonly host: PickleHost,
    private readonly path: string,
  ) {}

  step(): void {
    const opcode = this.uint(1);
    const operation = OPERATIONS[opcode];
    if (operation === undefined) {
      throw this.broken(`opcode 0x${opcode.toString(16).padStart(2, "0")} at byte ${this.at - 1} is not supported`);
    }
    operation(this);
  }

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
    if (!(list instanceof PickleList)) throw this.broken(`it appends to ${kindOf(list)}`);
    for (const item of items) list.items.push(item);
  }

  set(items: PickleValue[]): void {
    const dict = this.top();
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

  call(): void {
    const args = this.pop();
    const callee = this.pop();
    if (!(callee instanceof PickleGlobal) || !(args instanceof PickleTuple)) {
      throw this.broken(`it calls ${kindOf(callee)} with ${kindOf(args)}`);
    }
    this.push(this.host.call(callee, args));
  }

  /** Attributes of a dict (PyTorch keeps `_metadata` there) are dropped; nothing else may have any. */
  build(): void {
    this.pop();
    const target = this.top();
    if (!(target instanceof PickleDict)) throw this.broken(`it sets attributes of ${kindOf(target)}`);
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

type Operation = (m: Machine) => void;

const OPERATIONS: (Operation | undefined)[] = [];

function define(opcode: number | string, operation: Operation): void {
  OPERATIONS[typeof opcode === "string" ? opcode.charCodeAt(0) : opcode] = operation;
}

// structure
define(0x80, (m) => {
  const protocol = m.uint(1);
  if (protocol > 5) throw m.broken(`protocol ${protocol} is newer than 5`);
});
define(0x95, (m) => m.size8()); // FRAME: its length is of no use to a reader of memory
define(".", (m) => {
  m.stopped = true;
});
define("(", (m) => m.mark());
define("0", (m) => m.drop());
define("1", (m) => m.popToMark());
define("2", (m) => m.push(m.top()));

// constants
define("N", (m) => m.push(null));
define(0x88, (m) => m.push(true));
define(0x89, (m) => m.push(false));
define("J", (m) => m.push(m.take(4).readInt32LE(0)));
define("K", (m) => m.push(m.uint(1)));
define("M", (m) => m.push(m.uint(2)));
define(0x8a, (m) => m.push(m.long(m.uint(1))));
define(0x8b, (m) => m.push(m.long(m.uint(4))));
define("G", (m) => m.push(m.take(8).readDoubleBE(0)));
define("U", (m) => m.push(m.text(m.uint(1))));
define("T", (m) => m.push(m.text(m.uint(4))));
define("X", (m) => m.push(m.text(m.uint(4))));
define(0x8c, (m) => m.push(m.text(m.uint(1))));
define(0x8d, (m) => m.push(m.text(m.size8())));
define("C", (m) => m.push(m.take(m.uint(1))));
define("B", (m) => m.push(m.take(m.uint(4))));
define(0x8e, (m) => m.push(m.take(m.size8())));

// containers
define(")", (m) => m.tuple(0));
define(0x85, (m) => m.tuple(1));
define(0x86, (m) => m.tuple(2));
define(0x87, (m) => m.tuple(3));
define("t", (m) => m.push(new PickleTuple(m.popToMark())));
define("]", (m) => m.push(new PickleList()));
define("l", (m) => m.list(m.popToMark()));
define("a", (m) => m.append([m.pop()]));
define("e", (m) => m.append(m.popToMark()));
define(0x8f, (m) => m.push(new PickleList())); // EMPTY_SET
define(0x90, (m) => m.append(m.popToMark())); // ADDITEMS
define(0x91, (m) => m.list(m.popToMark())); // FROZENSET
define("}", (m) => m.push(new PickleDict()));
define("d", (m) => {
  const items = m.popToMark();
  m.push(new PickleDict());
  m.set(items);
});
define("s", (m) => {
  const value = m.pop();
  m.set([m.pop(), value]);
});
define("u", (m) => m.set(m.popToMark()));

// memo
define("q", (m) => m.memo.set(m.uint(1), m.top()));
define("r", (m) => m.memo.set(m.uint(4), m.top()));
define(0x94, (m) => m.memo.set(m.memo.size, m.top()));
define("h", (m) => m.recall(m.uint(1)));
define("j", (m) => m.recall(m.uint(4)));

// names and what is made of them
define("c", (m) => m.global(m.line(), m.line()));
define(0x93, (m) => {
  const name = m.pop();
  m.global(m.pop(), name);
});
define("R", (m) => m.call());
define(0x81, (m) => m.call()); // NEWOBJ: class and arguments, like a call
define("b", (m) => m.build());
define("Q", (m) => m.push(m.host.persistent(m.pop())));
define("i", (m) => m.refuseInstance());
