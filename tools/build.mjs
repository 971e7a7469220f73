// npm run prepare: compiles the addon (cmake-js) and the TypeScript (tsup), then loads the result once.
//
// Runs in a checkout only: npm does not run `prepare` for a package that comes from the registry.
//   --force                     compile although the binary is newer than every source
//   NEXTSCALE_SKIP_BUILD=1      do not compile; use the prebuild or the build that is there
//   NEXTSCALE_BUILD_JOBS=N      compiler processes at a time (default: all cores)
//   NEXTSCALE_CUDA=OFF|ON       leave the CUDA kernels out, or fail without nvcc (default: built where nvcc is found)
//   NEXTSCALE_CUDA_ARCHITECTURES=90a   only these chips, for a shorter build

import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const require = createRequire(import.meta.url);
const root = dirname(dirname(fileURLToPath(import.meta.url)));
const PACKAGES = "g++ cmake ninja-build libhwy-dev";

class BuildError extends Error {}

/** Runs a program with our output; throws when it fails. */
function run(command, args, options = {}) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: "inherit", ...options });
  if (error) throw new BuildError(`${command} could not be started: ${error.message}`);
  if (status !== 0) throw new BuildError(`${command} ${args.join(" ")} failed (exit ${status})`);
}

function works(command, args, input) {
  return spawnSync(command, args, { input, stdio: ["pipe", "ignore", "ignore"] }).status === 0;
}

/** Says what is missing for a build, by what to install. */
function missingTools() {
  const compiler = process.env.CXX ?? "c++";
  const missing = [];
  if (!works("cmake", ["--version"])) missing.push("CMake (cmake)");
  if (!works(compiler, ["--version"])) missing.push("a C++20 compiler (g++)");
  else if (!works(compiler, ["-E", "-x", "c++", "-"], "#include <hwy/highway.h>\n")) {
    missing.push("Google Highway's development files (libhwy-dev)");
  }
  return missing;
}

function newest(folder) {
  let latest = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    if (entry.isFile()) latest = Math.max(latest, statSync(join(entry.parentPath ?? entry.path, entry.name)).mtimeMs);
  }
  return latest;
}

function isFresh(binary) {
  if (!existsSync(binary)) return false;
  const built = statSync(binary).mtimeMs;
  return built > newest(join(root, "native")) && built > statSync(join(root, "CMakeLists.txt")).mtimeMs;
}

function buildAddon(force) {
  const binary = join(root, "build", "Release", "nextscale.node");
  if (process.env.NEXTSCALE_SKIP_BUILD) {
    console.log("nextscale: NEXTSCALE_SKIP_BUILD is set, the addon is not compiled");
    return;
  }
  if (!force && isFresh(binary)) {
    console.log("nextscale: the addon is up to date");
    return;
  }
  const missing = missingTools();
  if (missing.length > 0) {
    throw new BuildError(
      `to compile the addon, install ${missing.join(", ")}.\nOn Debian or Ubuntu: apt-get install ${PACKAGES}`,
    );
  }
  const cmakeJs = require.resolve("cmake-js/bin/cmake-js");
  const jobs = process.env.NEXTSCALE_BUILD_JOBS ?? String(availableParallelism());
  // cmake-js takes Ninja when it is there; napi_versions in package.json makes it use node-api-headers: no download.
  const cuda = ["NEXTSCALE_CUDA", "NEXTSCALE_CUDA_ARCHITECTURES"]
    .filter((name) => process.env[name] !== undefined)
    .map((name) => `--CD${name}=${process.env[name]}`);
  run(process.execPath, [cmakeJs, "build", "--config", "Release", "--parallel", jobs, ...cuda]);
  if (!existsSync(binary)) throw new BuildError(`the build has left no ${binary}`);
}

function buildTypeScript() {
  run(process.execPath, [require.resolve("tsup/dist/cli-default.js"), "--silent"]);
}

/** The result must load: a binary that does not is a failed build. */
async function proveIt() {
  const { describeBinding } = await import(pathToFileURL(join(root, "dist", "index.js")).href);
  const { path, origin, version } = describeBinding();
  console.log(`nextscale ${version}: ${origin} ${path}`);
  const kernels = join(dirname(path), "libnextscale_cuda.so");
  console.log(`CUDA kernels: ${existsSync(kernels) ? kernels : "none (no nvcc when this was built): CPU only"}`);
}

try {
  buildAddon(process.argv.includes("--force"));
  buildTypeScript();
  await proveIt();
} catch (error) {
  const expected = error instanceof BuildError || error.code === "NO_BINARY";
  console.error(`\nnextscale: ${expected ? error.message : error.stack}`);
  process.exitCode = 1;
}
