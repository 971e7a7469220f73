// npm test: types, lint, the core's own tests (GoogleTest), everything else (vitest). Ends with one line
//   N passed, N failed, N skipped
// and a non-zero exit when something failed or when nothing ran.
//   npm test -- <vitest filter>   runs only the matching vitest files

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const require = createRequire(import.meta.url);
const root = dirname(dirname(fileURLToPath(import.meta.url)));
const addonFolder = join(root, "build");
const filters = process.argv.slice(2);
const total = { passed: 0, failed: 0, skipped: 0 };

function run(command, args, options = {}) {
  return spawnSync(command, args, { cwd: root, stdio: "inherit", ...options });
}

function record(name, { passed = 0, failed = 0, skipped = 0 }, note = "") {
  total.passed += passed;
  total.failed += failed;
  total.skipped += skipped;
  console.log(`-- ${name}: ${passed} passed, ${failed} failed, ${skipped} skipped${note && ` (${note})`}`);
}

/** A program whose exit status is the whole answer counts as one test. */
function check(name, args) {
  console.log(`== ${name}`);
  const ok = run(process.execPath, args).status === 0;
  record(name, ok ? { passed: 1 } : { failed: 1 });
  return ok;
}

/** Path of the bin of an installed package. */
function bin(name, command = name) {
  const manifest = require.resolve(`${name}/package.json`);
  const { bin: bins } = JSON.parse(readFileSync(manifest, "utf8"));
  return join(dirname(manifest), typeof bins === "string" ? bins : bins[command]);
}

function hasGoogleTest() {
  const input = "#include <gtest/gtest.h>\n";
  return (
    spawnSync(process.env.CXX ?? "c++", ["-E", "-x", "c++", "-"], { input, stdio: ["pipe", "ignore", "ignore"] })
      .status === 0
  );
}

/** The addon's build folder has the core compiled already; without one (a prebuild is in use) the tests get their own. */
function nativeFolder() {
  return existsSync(join(addonFolder, "CMakeCache.txt")) ? addonFolder : join(addonFolder, "test");
}

function buildNative(folder) {
  const fresh = !existsSync(join(folder, "CMakeCache.txt"));
  const hasNinja = spawnSync("ninja", ["--version"], { stdio: "ignore" }).status === 0;
  const generator = fresh && hasNinja ? ["-G", "Ninja"] : []; // an existing folder keeps the one it has
  const configure = ["-S", root, "-B", folder, "-DCMAKE_BUILD_TYPE=Release", "-DNEXTSCALE_TESTS=ON", ...generator];
  if (run("cmake", configure, { stdio: ["ignore", "ignore", "inherit"] }).status !== 0) return false;
  const jobs = process.env.NEXTSCALE_BUILD_JOBS ?? String(availableParallelism());
  return run("cmake", ["--build", folder, "--target", "nextscale_tests", "--parallel", jobs]).status === 0;
}

/** The golden models as safetensors, the one format that the core reads; their paths go to the tests by environment. */
async function convertGolden() {
  const { convertCheckpoint } = await import(pathToFileURL(join(root, "dist", "index.js")).href);
  const folder = join(root, "build", "golden");
  mkdirSync(folder, { recursive: true });
  const paths = {};
  for (const name of ["tiny", "tiny-shared", "digits"]) {
    const output = join(folder, `${name}.safetensors`);
    const from = join(root, "test", "golden", name);
    await convertCheckpoint({ source: { var: join(from, "var.pth"), tokenizer: join(from, "vae.pth") }, output });
    paths[`NEXTSCALE_GOLDEN_${name.toUpperCase().replace("-", "_")}_SAFETENSORS`] = output;
  }
  const kernels = join(addonFolder, "Release", "libnextscale_cuda.so"); // without them the tests of a device are skipped
  if (existsSync(kernels)) paths.NEXTSCALE_CUDA_LIBRARY = kernels;
  return { ...process.env, NEXTSCALE_GOLDEN_DIR: join(root, "test", "golden"), ...paths };
}

async function testNative() {
  console.log("== native (GoogleTest)");
  if (!hasGoogleTest())
    return record("native", { skipped: 1 }, "GoogleTest is not installed: apt-get install libgtest-dev");
  const folder = nativeFolder();
  if (!buildNative(folder)) return record("native", { failed: 1 }, "the tests do not compile");
  const report = join(folder, "gtest.json");
  rmSync(report, { force: true });
  const env = await convertGolden();
  const args = ["--gtest_brief=1", `--gtest_output=json:${report}`];
  const { status, signal } = run(join(folder, "nextscale_tests"), args, { env });
  if (!existsSync(report))
    return record("native", { failed: 1 }, `the test program died (${signal ?? `exit ${status}`})`);
  record("native", countGoogleTest(JSON.parse(readFileSync(report, "utf8")), status));
}

function countGoogleTest(report, status) {
  const cases = report.testsuites.flatMap((suite) => suite.testsuite);
  const skipped = cases.filter((test) => test.status === "NOTRUN" || test.result === "SKIPPED").length;
  const failed = cases.filter((test) => test.failures?.length > 0).length;
  const unexplained = status !== 0 && failed === 0 ? 1 : 0; // a sanitizer's report, a crash at exit
  return { passed: cases.length - skipped - failed, failed: failed + unexplained, skipped };
}

function testVitest() {
  console.log("== vitest");
  mkdirSync(join(root, "build"), { recursive: true });
  const report = join(root, "build", "vitest.json");
  rmSync(report, { force: true });
  const args = [
    bin("vitest"),
    "run",
    "--reporter=default",
    "--reporter=json",
    `--outputFile.json=${report}`,
    ...filters,
  ];
  const { status } = run(process.execPath, args);
  if (!existsSync(report)) return record("vitest", { failed: 1 }, "no report");
  record("vitest", countVitest(JSON.parse(readFileSync(report, "utf8")), status));
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

check("build", [join(root, "tools", "build.mjs")]);
if (filters.length === 0) {
  check("types", [bin("typescript", "tsc"), "--noEmit"]);
  check("lint", [bin("@biomejs/biome", "biome"), "check", "."]);
  await testNative();
}
testVitest();

const ran = total.passed + total.failed;
process.exitCode = total.failed > 0 || ran === 0 ? 1 : 0;
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
