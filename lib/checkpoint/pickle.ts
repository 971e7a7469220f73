/**
 * A pickle interpreter that executes nothing: protocols 2 to 5, a closed set of opcodes, names only from the host's
 * allow-list, and "calls" that are plain functions of the host. It never recurses; its work and memory are bounded by
 * the number of bytes and by the limits below. Source: CPython's Lib/pickletools.py, where each opcode is described.
 */

import { TimeSlice } from "../base/time-slice.js";
import { Machine, type PickleHost } from "./pickle-machine.js";
import { OPERATIONS } from "./pickle-opcodes.js";
import type { PickleValue } from "./pickle-values.js";

export { MAX_PICKLE_BYTES, type PickleHost } from "./pickle-machine.js";

/** A full d36 training checkpoint needs some 100,000. */
const MAX_OPERATIONS = 1_000_000;

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
    step(machine);
    if ((operations & 63) === 0 && slice.over) await slice.pause();
  }
  return { value: machine.result(), length: machine.at };
}

function step(machine: Machine): void {
  const opcode = machine.uint(1);
  const operation = OPERATIONS[opcode];
  if (operation === undefined) {
    const code = `0x${opcode.toString(16).padStart(2, "0")}`;
    throw machine.broken(`opcode ${code} at byte ${machine.at - 1} is not supported`);
  }
  operation(machine);
}
