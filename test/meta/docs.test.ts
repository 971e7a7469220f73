/**
 * The snippets of README, docs/ and docstrings are run as they stand there: `sh` blocks by a shell that stops at the
 * first failure, `ts` blocks as modules, after the compiler has read them. Each runs in a folder of its own, where the
 * files that the documentation names lie in small (test/support/snippet-folder.ts). A block that cannot be run says why
 * in the page: see test/support/snippets.ts.
 */

import { execFile } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join, relative } from "node:path";
import ts from "typescript";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import * as nextscale from "../../lib/index.js";
import { addExtra, EXTRAS, makeSnippetFolder } from "../support/snippet-folder.js";
import { asModule, docstringSnippets, pageSnippets, type Snippet } from "../support/snippets.js";

const root = join(import.meta.dirname, "..", "..");
const TIMEOUT = 20 * 60_000; // for a machine that is busy with other things; the slowest block takes seconds
const read = (path: string) => readFileSync(join(root, path), "utf8");
const pages = ["README.md", "examples/README.md", ...markdown("docs")];
const blocks = pages.flatMap((path) => pageSnippets(path, read(path)));
const docstrings = typescript("lib").flatMap((path) => docstringSnippets(path, read(path)));
const runnable = [...blocks, ...docstrings].filter(({ notRun }) => notRun === null);
const names = Object.keys(nextscale).filter((name) => name !== "default");

function markdown(folder: string): string[] {
  const found = readdirSync(join(root, folder)).filter((name) => name.endsWith(".md"));
  return found.map((name) => `${folder}/${name}`).sort();
}

function typescript(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .sort();
}

let scratch: string;
let log: string;

/**
 * Stand-ins for what a snippet must not do here: `npm` installs and tests nothing, but knows only the scripts that
 * package.json has, and ./setup installs nothing. Both write down that they were called. `nextscale` and `npx
 * nextscale` are this checkout's.
 */
function writeCommands(folder: string): void {
  const commands = {
    nextscale: `#!/bin/sh\nexec "${process.execPath}" "${join(root, "dist", "cli.js")}" "$@"\n`,
    npx: '#!/bin/sh\n[ "$1" = nextscale ] || exit 64\nshift\nexec nextscale "$@"\n',
    npm: `#!/usr/bin/env node
const { appendFileSync, readFileSync } = require("node:fs");
const { scripts } = JSON.parse(readFileSync(${JSON.stringify(join(root, "package.json"))}, "utf8"));
const [command, name] = process.argv.slice(2);
const script = command === "run" ? name : command;
appendFileSync(${JSON.stringify(log)}, "npm " + process.argv.slice(2).join(" ") + "\\n");
if (command !== "install" && !(script in scripts)) throw new Error("there is no npm script " + script);
`,
  };
  for (const [name, text] of Object.entries(commands)) {
    writeFileSync(join(folder, name), text);
    chmodSync(join(folder, name), 0o755);
  }
}

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), "nextscale-docs-"));
  log = join(scratch, "commands.log");
  for (const name of ["bin", "template", "extras", "types"]) mkdirSync(join(scratch, name));
  writeCommands(join(scratch, "bin"));
  const config = pageSnippets("docs/training.md", read("docs/training.md")).find(({ language }) => language === "json");
  await makeSnippetFolder(join(scratch, "template"), join(scratch, "extras"), config!.code);
  const setup = join(scratch, "template", "setup");
  writeFileSync(setup, `#!/bin/sh\necho "./setup $*" >> '${log}'\n`);
  chmodSync(setup, 0o755);
}, TIMEOUT);

afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function prepare({ where, runWith }: Snippet): string {
  const folder = join(scratch, where.replace(/[^\w.]/g, "-"));
  cpSync(join(scratch, "template"), folder, { recursive: true });
  cpSync(join(root, "examples"), join(folder, "examples"), { recursive: true });
  for (const name of runWith) addExtra(name, join(scratch, "extras"), folder);
  linkPackage(folder);
  return folder;
}

/** `import "nextscale"` finds the built package. */
function linkPackage(folder: string): void {
  mkdirSync(join(folder, "node_modules"));
  symlinkSync(root, join(folder, "node_modules", "nextscale"), "dir");
}

function execute(command: string, args: string[], cwd: string): Promise<string> {
  const path = `${join(scratch, "bin")}${delimiter}${process.env.PATH}`;
  const env = { ...process.env, PATH: path, NO_COLOR: "1", NEXTSCALE_DEVICE: "cpu" };
  return new Promise((resolve, reject) => {
    const child = execFile(command, args, { cwd, env, maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`it ended with ${error.signal ?? error.code}\n${stdout}\n${stderr}`));
    });
    child.stdin!.end();
  });
}

/** Runs a block in a new folder, whose path it returns. */
async function runSnippet(snippet: Snippet): Promise<string> {
  const folder = prepare(snippet);
  if (snippet.language === "sh") {
    await execute("sh", ["-eu", "-c", snippet.code], folder);
  } else {
    const options = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 };
    const { outputText } = ts.transpileModule(asModule(snippet, names), { compilerOptions: options });
    writeFileSync(join(folder, "snippet.mjs"), outputText);
    await execute(process.execPath, ["snippet.mjs"], folder);
  }
  return folder;
}

describe("no block is unaccounted for", () => {
  test("every block of a page is a command, a program, or shown only", () => {
    const shown = ["", "json", "text"]; // output, and files
    const strange = blocks.filter(({ language }) => !["sh", "ts", ...shown].includes(language));
    expect(strange.map(({ where, language }) => `${where} ${language}`)).toEqual([]);
  });

  test("what a block wants to be run with is there to be had", () => {
    expect(blocks.flatMap(({ runWith }) => runWith).filter((name) => !EXTRAS.includes(name))).toEqual([]);
  });

  test("pages and docstrings have blocks, and generate has seven", () => {
    expect(blocks.filter(({ language }) => language === "sh").length).toBeGreaterThan(5);
    expect(blocks.filter(({ language }) => language === "ts").length).toBeGreaterThan(3);
    const model = read("lib/model/model.ts").split("\n");
    const generate = model.findIndex((line) => line.startsWith("  generate("));
    const above = docstrings.filter(({ where }) => where.startsWith("lib/model/model.ts:"));
    const lines = above.map(({ where }) => Number(where.split(":")[1]));
    expect(lines.filter((line) => line < generate && line > generate - 80).length).toBeGreaterThanOrEqual(7);
  });

  test("a comment above a block is read, and a mistyped one is no excuse", () => {
    const page = (comment: string) => pageSnippets("x.md", `${comment}\n\`\`\`sh\nfalse\n\`\`\`\n`)[0];
    expect(page("<!-- not run: takes a GPU -->")).toMatchObject({ where: "x.md:2", notRun: "takes a GPU" });
    expect(page("<!-- run with tokens, heldout -->")).toMatchObject({ notRun: null, runWith: ["tokens", "heldout"] });
    for (const none of ["", "<!-- not run: -->", "<!-- not run -->", "not run: x"]) {
      expect(page(none)).toMatchObject({ notRun: null, code: "false" });
    }
  });
});

test("the programs are what the compiler takes", { timeout: TIMEOUT }, () => {
  const folder = join(scratch, "types");
  linkPackage(folder);
  const programs = runnable.filter(({ language }) => language === "ts");
  const where = new Map(programs.map((snippet, i) => [join(folder, `${i}.mts`), snippet.where]));
  for (const [i, snippet] of programs.entries()) {
    writeFileSync(join(folder, `${i}.mts`), asModule(snippet, names));
  }
  const program = ts.createProgram([...where.keys()], {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    noUncheckedIndexedAccess: false, // a snippet may say images[0]
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    lib: ["lib.es2023.d.ts", "lib.esnext.disposable.d.ts"],
    types: ["node"],
    typeRoots: [join(root, "node_modules", "@types")],
  });
  const complaints = ts.getPreEmitDiagnostics(program).map(({ file, messageText }) => {
    return `${file && where.get(file.fileName)}: ${ts.flattenDiagnosticMessageText(messageText, "\n")}`;
  });
  expect(complaints).toEqual([]);
});

describe("blocks run", () => {
  for (const snippet of runnable.filter(({ language }) => language === "sh" || language === "ts")) {
    test(snippet.where, { timeout: TIMEOUT }, async () => {
      await runSnippet(snippet);
    });
  }

  test("one that fails in its first line is a failure", { timeout: TIMEOUT }, async () => {
    const planted = { where: "planted", notRun: null, runWith: [] };
    await expect(runSnippet({ ...planted, language: "sh", code: "nextscale nonsense\ntrue" })).rejects.toThrow(/ended/);
    const code = "await Promise.reject(new Error('planted'));";
    await expect(runSnippet({ ...planted, where: "planted2", language: "ts", code })).rejects.toThrow(/planted/);
  });
});

test("the README's two commands: setup and a picture, then the tests, which is what CI runs", {
  timeout: TIMEOUT,
}, async () => {
  const commands = blocks.find(({ where, language }) => where.startsWith("README.md") && language === "sh")!;
  rmSync(log, { force: true });
  const folder = await runSnippet({ ...commands, where: "README-two-commands" });
  expect(readFileSync(log, "utf8")).toBe("./setup \nnpm test\n");
  expect(existsSync(join(folder, "digits.png"))).toBe(true);
  const ci = read(".ci/run")
    .split("\n")
    .filter((line) => /^(exec |\.\/)/.test(line));
  expect(ci).toEqual(["./setup --yes", `exec ${commands.code.trim().split("\n").at(-1)}`]);
});
