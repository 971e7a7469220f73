/** JSON.parse keeps the last of two equal keys without a word; a header that holds one twice is hostile or broken. */

/** The first key that occurs twice in one object of `text`, at any level, or null. `text` is valid JSON. */
export function findDuplicateKey(text: string): string | null {
  const open: (Set<string> | null)[] = []; // one per level; null for arrays
  let last = ""; // the last string, as written: it is a key when a colon follows
  for (let at = 0; at < text.length; at++) {
    switch (text[at]) {
      case "{":
        open.push(new Set());
        break;
      case "[":
        open.push(null);
        break;
      case "}":
      case "]":
        open.pop();
        break;
      case '"': {
        const end = endOfString(text, at);
        last = text.slice(at, end);
        at = end - 1;
        break;
      }
      case ":": {
        const key = last.includes("\\") ? (JSON.parse(last) as string) : last.slice(1, -1);
        const keys = open.at(-1);
        if (keys?.has(key)) return key;
        keys?.add(key);
        break;
      }
    }
  }
  return null;
}

/** Position behind the closing quote. */
function endOfString(text: string, at: number): number {
  let end = at + 1;
  while (end < text.length && text[end] !== '"') end += text[end] === "\\" ? 2 : 1;
  return end + 1;
}
