/** A file in memory, with the bounds that a real one has. */

import type { ByteSource } from "../../lib/checkpoint/source.js";
import { InvalidCheckpointError } from "../../lib/errors.js";

export class MemorySource implements ByteSource {
  readonly size: number;

  constructor(
    private readonly bytes: Buffer,
    readonly path = "memory.pth",
  ) {
    this.size = bytes.length;
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const valid = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
    if (!valid || offset + length > this.size) throw new InvalidCheckpointError(`${this.path}: out of bounds`);
    return Buffer.from(this.bytes.subarray(offset, offset + length));
  }
}
