/** What each opcode of a pickle does. Those that are not here are refused. Source: CPython's Lib/pickletools.py. */

import type { Machine } from "./pickle-machine.js";
import { PickleDict, PickleList, PickleTuple } from "./pickle-values.js";

type Operation = (m: Machine) => void;

export const OPERATIONS: (Operation | undefined)[] = [];

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
define(0x96, (m) => m.push(m.take(m.size8()))); // BYTEARRAY8

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
define("R", (m) => m.call("call"));
define(0x81, (m) => m.call("create")); // NEWOBJ: class and arguments
define(0x92, (m) => m.createNamed()); // NEWOBJ_EX
define("b", (m) => m.build());
define("Q", (m) => m.push(m.host.persistent(m.pop())));
define("i", (m) => m.refuseInstance());
