// The core's own tests (GoogleTest): compiled beside the addon, whose objects they share, and run with the golden
// models.

import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { hasHeader } from "./compiler.mjs";
import { jobs, root, run, works } from "./run.mjs";

const addonFolder = join(root, "build");

/**
 * The addon's build folder has the core compiled already; without one (a prebuild is in use) the tests get their own.
 */
function testFolder() {
  return existsSync(join(addonFolder, "CMakeCache.txt")) ? addonFolder : join(addonFolder, "test");
}

export function buildNativeTests(folder, options = []) {
  const fresh = !existsSync(join(folder, "CMakeCache.txt"));
  // An existing folder keeps the one it has.
  const generator = fresh && works("ninja", ["--version"]) ? ["-G", "Ninja"] : [];
  const base = ["-DCMAKE_BUILD_TYPE=Release", "-DNEXTSCALE_TESTS=ON"];
  const configure = ["-S", root, "-B", folder, ...base, ...generator, ...options];
  if (run("cmake", configure, { stdio: ["ignore", "ignore", "inherit"] }).status !== 0) return false;
  return run("cmake", ["--build", folder, "--target", "nextscale_tests", "--parallel", jobs()]).status === 0;
}

/** The golden models as safetensors, the one format that the core reads; their paths go to the tests by environment. */
export async function goldenEnvironment() {
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
  // Without them the tests of a device are skipped.
  const kernels = join(addonFolder, "Release", "libnextscale_cuda.so");
  if (existsSync(kernels)) paths.NEXTSCALE_CUDA_LIBRARY = kernels;
  return { ...process.env, NEXTSCALE_GOLDEN_DIR: join(root, "test", "golden"), ...paths };
}

/** Compiles and runs the tests, those that `gtestArgs` choose, and counts them into the tally. */
export async function testNative(tally, { folder = testFolder(), cmakeOptions = [], gtestArgs = [] } = {}) {
  console.log("== native (GoogleTest)");
  if (!hasHeader("gtest/gtest.h")) {
    return tally.record("native", { skipped: 1 }, "GoogleTest is not installed: ./setup installs it");
  }
  if (!buildNativeTests(folder, cmakeOptions)) {
    return tally.record("native", { failed: 1 }, "the tests do not compile");
  }
  const report = join(folder, "gtest.json");
  rmSync(report, { force: true });
  const env = await goldenEnvironment();
  const args = ["--gtest_brief=1", `--gtest_output=json:${report}`, ...gtestArgs];
  const { status, signal } = run(join(folder, "nextscale_tests"), args, { env });
  if (!existsSync(report)) {
    return tally.record("native", { failed: 1 }, `the test program died (${signal ?? `exit ${status}`})`);
  }
  const counts = count(JSON.parse(readFileSync(report, "utf8")), status);
  if (counts.passed + counts.failed + counts.skipped === 0) {
    return tally.record("native", { failed: 1 }, `no test matches ${gtestArgs.join(" ")}`);
  }
  tally.record("native", counts);
}

function count(report, status) {
  const cases = report.testsuites.flatMap((suite) => suite.testsuite);
  const skipped = cases.filter((test) => test.status === "NOTRUN" || test.result === "SKIPPED").length;
  const failed = cases.filter((test) => test.failures?.length > 0).length;
  const unexplained = status !== 0 && failed === 0 ? 1 : 0; // a sanitizer's report, a crash at exit
  return { passed: cases.length - skipped - failed, failed: failed + unexplained, skipped };
}
