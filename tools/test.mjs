// npm test: build, types, lint, API reference, the core's own tests (GoogleTest), everything else (vitest). Ends with
// one line
//   N passed, N failed, N skipped
// and a non-zero exit when something failed or when nothing ran. Parts of it:
//   npm test -- <vitest filter>                   the build, then the matching vitest files only
//   npm run test:native -- <GoogleTest filter>    the build, then the matching native tests only

import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { testNative } from "./shared/native-tests.mjs";
import { bin, root, run } from "./shared/run.mjs";
import { Tally } from "./shared/tally.mjs";

const [only, ...filters] = process.argv[2] === "--native" ? process.argv.slice(2) : [null, ...process.argv.slice(2)];
const tally = new Tally();

function testVitest() {
  console.log("== vitest");
  mkdirSync(join(root, "build"), { recursive: true });
  const report = join(root, "build", "vitest.json");
  rmSync(report, { force: true });
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
  const { status } = run(process.execPath, [bin("vitest"), "run", ...reporters, ...filters]);
  if (!existsSync(report)) return tally.record("vitest", { failed: 1 }, "no report");
  tally.record("vitest", countVitest(JSON.parse(readFileSync(report, "utf8")), status));
}

function countVitest(report, status) {
  const { numPassedTests: passed, numPendingTests, numTodoTests = 0 } = report;
  // A file that cannot even be imported has no tests that could fail.
  const broken = report.testResults.filter(
    (file) => file.status === "failed" && file.assertionResults.length === 0,
  ).length;
  const failed = report.numFailedTests + broken;
  return { passed, failed: status !== 0 && failed === 0 ? 1 : failed, skipped: numPendingTests + numTodoTests };
}

/** `Linear` finds Linear.Bias and CpuLinear.Rows alike; who writes a pattern of GoogleTest's gets it as it is. */
function gtestFilter(words) {
  if (words.length === 0) return [];
  return [`--gtest_filter=${words.map((word) => (/[*?:-]/.test(word) ? word : `*${word}*`)).join(":")}`];
}

tally.check("build", [join(root, "tools", "build.mjs")]);
if (only === "--native") {
  await testNative(tally, { gtestArgs: gtestFilter(filters) });
} else {
  if (filters.length === 0) {
    tally.check("types", [bin("typescript", "tsc"), "--noEmit"]);
    tally.check("lint", [join(root, "tools", "lint.mjs"), "--quick"]);
    tally.check("API reference", [bin("typedoc"), "--emit", "none"]);
    await testNative(tally);
  }
  testVitest();
}
tally.conclude();
