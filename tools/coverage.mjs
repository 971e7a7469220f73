// npm run coverage: which lines the tests run, for TypeScript (vitest with V8's counters) and C++ (a build of its own
// with GCC's counters, read by gcov). Both leave a summary on the screen and files in coverage/. What test programs of
// their own process run in the built package is not counted.
//   npm run coverage -- typescript     only this one
//   npm run coverage -- native         only this one

import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { compiler } from "./shared/compiler.mjs";
import { testNative } from "./shared/native-tests.mjs";
import { bin, root, run, works } from "./shared/run.mjs";
import { Tally } from "./shared/tally.mjs";

const output = join(root, "coverage");
const tally = new Tally();

function typescript() {
  console.log("== TypeScript (vitest)");
  const settings = ["provider=v8", "include=lib/**", "reporter=text-summary", "reporter=html", "reporter=json-summary"];
  const coverage = ["--coverage.enabled", ...settings.map((setting) => `--coverage.${setting}`)];
  const folder = `--coverage.reportsDirectory=${join(output, "typescript")}`;
  const { status } = run(process.execPath, [bin("vitest"), "run", ...coverage, folder]);
  tally.record("TypeScript", status === 0 ? { passed: 1 } : { failed: 1 });
}

/** Lines of each file of native/ and how often each ran, over all objects that were compiled from it or include it. */
function linesRun(folder) {
  const data = readdirSync(folder, { recursive: true }).filter((name) => name.endsWith(".gcda"));
  const files = new Map();
  for (const name of data) {
    const json = execFileSync("gcov", ["--json-format", "--stdout", join(folder, name)], {
      cwd: folder,
      encoding: "utf8",
      maxBuffer: 2 ** 30,
      stdio: ["ignore", "pipe", "ignore"],
    });
    for (const { file, lines } of json.split("\n").flatMap((line) => (line === "" ? [] : JSON.parse(line).files))) {
      const path = relative(root, join(folder, file));
      const own = file.startsWith(root) ? relative(root, file) : path;
      if (!own.startsWith("native/")) continue;
      const counts = files.get(own) ?? new Map();
      for (const { line_number, count } of lines) counts.set(line_number, (counts.get(line_number) ?? 0) + count);
      files.set(own, counts);
    }
  }
  return files;
}

function report(files) {
  const rows = [...files].sort().map(([path, counts]) => {
    const missed = [...counts].flatMap(([line, count]) => (count === 0 ? [line] : [])).sort((a, b) => a - b);
    return { path, lines: counts.size, missed };
  });
  const lines = rows.reduce((sum, row) => sum + row.lines, 0);
  const missed = rows.reduce((sum, row) => sum + row.missed.length, 0);
  const share = (all, none) => `${((100 * (all - none)) / all).toFixed(1).padStart(5)} %`;
  for (const row of rows) console.log(`${share(row.lines, row.missed.length)}  ${row.path}`);
  console.log(`${share(lines, missed)}  of ${lines} lines`);
  mkdirSync(join(output, "native"), { recursive: true });
  writeFileSync(join(output, "native", "lines.json"), JSON.stringify(rows, null, 1));
}

async function native() {
  if (
    !works("gcov", ["--version"]) ||
    !works(compiler, ["-E", "-x", "c++", "-"], "#ifdef __clang__\n#error\n#endif\n")
  ) {
    return tally.record("native", { skipped: 1 }, "counting lines of C++ wants g++ and its gcov");
  }
  const folder = join(root, "build", "coverage");
  for (const name of readdirSync(mkdirSync(folder, { recursive: true }) ?? folder, { recursive: true })) {
    if (name.endsWith(".gcda")) rmSync(join(folder, name)); // counts of an earlier run
  }
  // -O1: lines stay lines, and the long tests still end.
  const flags = [
    "-DCMAKE_CXX_FLAGS=--coverage -fprofile-update=atomic",
    "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -fno-math-errno",
  ];
  await testNative(tally, { folder, cmakeOptions: [...flags, "-DNEXTSCALE_CUDA=OFF"] });
  const files = linesRun(folder);
  if (files.size === 0) return tally.record("native coverage", { failed: 1 }, "no counts were left");
  report(files);
  tally.record("native coverage", { passed: 1 }, "coverage/native/lines.json names the lines that did not run");
}

const words = process.argv.slice(2);
tally.check("build", [join(root, "tools", "build.mjs")]);
if (words.length === 0 || words.includes("typescript")) typescript();
if (words.length === 0 || words.includes("native")) await native();
tally.conclude();
