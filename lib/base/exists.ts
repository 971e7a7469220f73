/** Is there a file, as far as this process may know? */

import { existsSync } from "node:fs";

/** False also where the permission model forbids to look: there the file is of no use either. */
export function isVisible(path: string): boolean {
  try {
    return existsSync(path);
  } catch {
    return false;
  }
}
