/**
 * Machine code of CUDA kernels, as far as it says something about time: which instructions, in which loops, with how
 * many cycles between them, and which loads are under way together. A cubin is an ELF file; from sm_70 on an
 * instruction is 16 bytes, whose upper word holds the compiler's schedule (stall cycles, and six scoreboards that loads
 * set and their readers wait for). NVIDIA documents none of it: opcodes are those of CUDA 13's disassembler.
 */

import { readFileSync } from "node:fs";

/** Low 12 bits of an instruction. What is not here does not matter to any rule. */
const NAMES = new Map(
  Object.entries({
    HMMA: [0x23c],
    HGMMA: [0x9f0],
    LDG: [0x981],
    STG: [0x986],
    LDS: [0x984],
    STS: [0x388],
    LDSM: [0x83b],
    LDGSTS: [0xfae],
    UBLKCP: [0x3ba],
    ATOMS: [0x38c, 0x98c],
    ATOMS_CAS: [0x38d, 0x98d],
    LDL: [0x983],
    STL: [0x387],
    BRA: [0x947],
    EXIT: [0x94d],
    SHFL: [0xf89, 0x589, 0x989],
    MUFU: [0x308],
    FFMA: [0x223, 0x423, 0x623, 0x823, 0xa23, 0xc23],
    FADD: [0x221, 0x421, 0x621, 0x821, 0xa21, 0xc21],
    FMUL: [0x220, 0x420, 0x620, 0x820, 0xa20, 0xc20],
    DFMA: [0x22b, 0x42b, 0x82b],
    DMUL: [0x228, 0x428, 0x828],
    DADD: [0x229, 0x429, 0x829],
  }).flatMap(([name, opcodes]) => opcodes.map((opcode) => [opcode, name])),
);

/** Sections of a 64-bit ELF file. */
function sections(bytes: Buffer): { name: string; data: Buffer }[] {
  const at = Number(bytes.readBigUInt64LE(0x28));
  const [size, length, names] = [0x3a, 0x3c, 0x3e].map((offset) => bytes.readUInt16LE(offset)) as [
    number,
    number,
    number,
  ];
  const header = (i: number) => at + i * size;
  const offsetOf = (i: number) => Number(bytes.readBigUInt64LE(header(i) + 0x18));
  const namesAt = offsetOf(names);
  return Array.from({ length }, (_, i) => {
    const nameAt = namesAt + bytes.readUInt32LE(header(i));
    const name = bytes.toString("latin1", nameAt, bytes.indexOf(0, nameAt));
    return { name, data: bytes.subarray(offsetOf(i), offsetOf(i) + Number(bytes.readBigUInt64LE(header(i) + 0x20))) };
  });
}

export interface Instruction {
  name: string;
  /** Cycles until the next one may be issued. */
  stall: number;
  /** The scoreboard that is free again when the result is there; 7: none. */
  sets: number;
  /** Scoreboards that it waits for, one bit each. */
  waits: number;
  /** Of a branch: an index. */
  target?: number;
}

function decode(code: Buffer, index: number): Instruction {
  const low = code.readBigUInt64LE(index * 16);
  const high = code.readBigUInt64LE(index * 16 + 8);
  const opcode = Number(low & 0xfffn);
  const schedule = Number((high >> 41n) & 0x1fffffn);
  const instruction: Instruction = {
    name: NAMES.get(opcode) ?? `0x${opcode.toString(16)}`,
    stall: Math.max(1, schedule & 15),
    sets: (schedule >> 5) & 7,
    waits: (schedule >> 11) & 63,
  };
  if (instruction.name === "BRA") {
    const upper = BigInt.asIntN(48, (low >> 34n) | ((high & 0x3ffffn) << 30n));
    instruction.target = index + 1 + Number(((upper << 8n) | ((low >> 16n) & 0xffn)) * 4n) / 16;
  }
  return instruction;
}

/** Kernels of a cubin by name (`LinearWideBF16`): their instructions in order. */
export function kernels(path: string): Map<string, Instruction[]> {
  const found = new Map<string, Instruction[]>();
  for (const { name, data } of sections(readFileSync(path))) {
    const kernel = /^\.text\..*[0-9a-f]{8}\d+([A-Z]\w*?)KernelE/.exec(name)?.[1];
    if (kernel !== undefined)
      found.set(
        kernel,
        Array.from({ length: data.length / 16 }, (_, i) => decode(data, i)),
      );
  }
  return found;
}

export const count = (instructions: readonly Instruction[], ...names: string[]) =>
  instructions.filter(({ name }) => names.includes(name)).length;
export const issueCycles = (instructions: readonly Instruction[]) =>
  instructions.reduce((sum, { stall }) => sum + stall, 0);

/** Loops: from the target of a backward branch to the branch; the longest last. */
export function loops(instructions: readonly Instruction[]): Instruction[][] {
  return instructions
    .flatMap(({ target }, end) => (target !== undefined && target < end ? [instructions.slice(target, end + 1)] : []))
    .sort((a, b) => a.length - b.length);
}

/** The smallest loop with the most tensor-core instructions, or undefined. */
export function mainLoop(instructions: readonly Instruction[]): Instruction[] | undefined {
  const tensor = (loop: readonly Instruction[]) => count(loop, "HMMA", "HGMMA");
  const most = Math.max(0, ...loops(instructions).map(tensor));
  return most === 0 ? undefined : loops(instructions).find((loop) => tensor(loop) === most);
}

/** The most loads from global memory that are under way before any of them is waited for. */
export function loadsTogether(instructions: readonly Instruction[]): number {
  let together = 0;
  let most = 0;
  let pending = 0; // scoreboards of loads
  for (const { name, sets, waits } of instructions) {
    if ((waits & pending) !== 0) {
      together = 0;
      pending = 0;
    }
    if (name !== "LDG") continue;
    if (sets !== 7) pending |= 1 << sets;
    most = Math.max(most, ++together);
  }
  return most;
}

/** Floating-point arithmetic behind the last tensor-core instruction, each kind counted. */
export function epilogueArithmetic(instructions: readonly Instruction[]): Record<string, number> {
  const last = instructions.findLastIndex(({ name }) => name === "HMMA" || name === "HGMMA");
  const behind = instructions.slice(last + 1);
  return Object.fromEntries(["FFMA", "FADD", "FMUL", "MUFU", "SHFL"].map((name) => [name, count(behind, name)]));
}
