/**
 * Names as file systems have them. Most are UTF-8, some are not: what an old archive or a foreign machine has left.
 * Such a name becomes another one when it is read as text, so it is kept as bytes, and shown with escapes.
 */

import { join } from "node:path";

/** A path as text, or as bytes where it is none. */
export type Place = string | Buffer;

/** A name that people can read: `caf\xe9.png` for bytes that are no UTF-8. */
export function shownName(name: Place): string {
  if (typeof name === "string") return name;
  const text = name.toString("utf8");
  if (Buffer.from(text).equals(name)) return text;
  return [...name].map((byte) => (byte < 0x80 ? String.fromCharCode(byte) : `\\x${byte.toString(16)}`)).join("");
}

/** The name as text where that is the same name. */
export function nameOf(bytes: Buffer): Place {
  const text = bytes.toString("utf8");
  return Buffer.from(text).equals(bytes) ? text : bytes;
}

export function joinPlace(folder: Place, name: Place): Place {
  if (typeof folder === "string" && typeof name === "string") return join(folder, name);
  return Buffer.concat([Buffer.from(folder as Buffer), Buffer.from("/"), Buffer.from(name as Buffer)]);
}
