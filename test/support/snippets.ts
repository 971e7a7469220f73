/** The code blocks of pages and docstrings, and what a page says about running them. */

export interface Snippet {
  /** `docs/depth.md:9`: the line of the fence. */
  where: string;
  language: string;
  code: string;
  /** Why it is not run; null when it is. */
  notRun: string | null;
  /** What has to lie in the folder besides what every snippet finds there. */
  runWith: string[];
}

const MARK = /^<!-- (not run: (?<reason>\S.*\S)|run with (?<things>\S.*\S)) -->$/;

/**
 * The fenced blocks of a page. An HTML comment in the line before a fence, which a reader of the page does not see,
 * says `not run: REASON` or `run with THING, THING`.
 */
export function pageSnippets(path: string, text: string): Snippet[] {
  const lines = text.split("\n");
  const snippets: Snippet[] = [];
  for (let i = 0; i < lines.length; i++) {
    const language = /^```(.*)$/.exec(lines[i]!)?.[1];
    if (language === undefined) continue;
    const end = lines.indexOf("```", i + 1);
    if (end < 0) throw new Error(`${path}:${i + 1}: the block does not end`);
    const mark = MARK.exec(lines[i - 1] ?? "")?.groups;
    snippets.push({
      where: `${path}:${i + 1}`,
      language,
      code: lines.slice(i + 1, end).join("\n"),
      notRun: mark?.reason ?? null,
      runWith: mark?.things?.split(", ") ?? [],
    });
    i = end;
  }
  return snippets;
}

/** The `ts` blocks in the docstrings of a source file. */
export function docstringSnippets(path: string, text: string): Snippet[] {
  const inside = (comment: string) => comment.replace(/^\s*\/?\*+\/? ?/gm, "");
  return [...text.matchAll(/\/\*\*.*?\*\//gs)].flatMap((match) => {
    const before = text.slice(0, match.index).split("\n").length;
    return pageSnippets(path, inside(match[0]))
      .filter(({ language }) => language === "ts")
      .map((snippet) => ({ ...snippet, where: snippet.where.replace(/\d+$/, (n) => String(before + Number(n) - 1)) }));
  });
}

/**
 * A snippet as a module. One that imports something is a program of its own; any other is a fragment, and finds every
 * public name, and as `model` the bundled one.
 */
export function asModule({ code }: Snippet, names: readonly string[]): string {
  if (/^import /m.test(code)) return code;
  return [
    `import { ${names.join(", ")} } from "nextscale";`,
    "const model = await loadModel();",
    "{",
    code,
    "}",
    "await model.dispose();",
  ].join("\n");
}
