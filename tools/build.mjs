// npm run prepare: compiles the addon (cmake-js) and the TypeScript (tsup), then loads the result once.
//
// Runs in a checkout only: npm does not run `prepare` for a package that comes from the registry.
//   --force                     compile although the binary is newer than every source
//   NEXTSCALE_SKIP_BUILD=1      do not compile; use the prebuild or the build that is there
//   NEXTSCALE_BUILD_JOBS=N      compiler processes at a time (default: all cores)
//   NEXTSCALE_CUDA=ON|OFF       compile the CUDA kernels for every chip (fails without nvcc), or leave them out
//                               (default: where there are nvcc and a GPU, for that GPU)
//   NEXTSCALE_CUDA_ARCHITECTURES=90a   the kernels for these chips, GPU or not

import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { documentOptions } from "./option-docs.mjs";
import { compiler, hasHeader } from "./shared/compiler.mjs";
import { jobs, root, run, works } from "./shared/run.mjs";

const require = createRequire(import.meta.url);

class BuildError extends Error {}

function mustRun(command, args) {
  const { status, error } = run(command, args);
  if (error) throw new BuildError(`${command} could not be started: ${error.message}`);
  if (status !== 0) throw new BuildError(`${command} ${args.join(" ")} failed (exit ${status})`);
}

/** Says what is missing for a build, by what to install. */
function missingTools() {
  const missing = [];
  if (!works("cmake", ["--version"])) missing.push("CMake");
  if (!works(compiler, ["--version"])) missing.push(`a C++20 compiler (${compiler} does not run)`);
  else if (!hasHeader("hwy/highway.h")) missing.push("Google Highway's development files");
  return missing;
}

/** What CMake shall do about CUDA; said at every build, because CMake remembers what it was told. */
const cudaOptions = {
  NEXTSCALE_CUDA: process.env.NEXTSCALE_CUDA ?? "AUTO",
  NEXTSCALE_CUDA_ARCHITECTURES: process.env.NEXTSCALE_CUDA_ARCHITECTURES ?? "",
};

function newest(folder) {
  let latest = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    if (entry.isFile()) latest = Math.max(latest, statSync(join(entry.parentPath ?? entry.path, entry.name)).mtimeMs);
  }
  return latest;
}

function isFresh(binary) {
  const cache = join(root, "build", "CMakeCache.txt");
  if (!existsSync(binary) || !existsSync(cache)) return false;
  const told = readFileSync(cache, "utf8");
  const same = Object.entries(cudaOptions).every(([name, value]) => told.includes(`\n${name}:STRING=${value}\n`));
  const sources = [join(root, "native"), join(root, "cmake")].map(newest);
  return same && statSync(binary).mtimeMs > Math.max(...sources, statSync(join(root, "CMakeLists.txt")).mtimeMs);
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
      `this is missing to compile the addon: ${missing.join(", ")}.\n` +
        "./setup installs it on Debian, Ubuntu and macOS (Homebrew).",
    );
  }
  const cmakeJs = require.resolve("cmake-js/bin/cmake-js");
  // cmake-js takes Ninja when it is there; napi_versions in package.json makes it use node-api-headers: no download.
  const cuda = Object.entries(cudaOptions).map(([name, value]) => `--CD${name}=${value}`);
  mustRun(process.execPath, [cmakeJs, "build", "--config", "Release", "--parallel", jobs(), ...cuda]);
  if (!existsSync(binary)) throw new BuildError(`the build has left no ${binary}`);
}

async function buildTypeScript() {
  mustRun(process.execPath, [require.resolve("tsup/dist/cli-default.js"), "--silent"]);
  const declarations = ["index.d.ts", "index.d.cts"].map((name) => join(root, "dist", name));
  await documentOptions(join(root, "build", "options"), declarations);
}

/** The result must load: a binary that does not is a failed build. */
async function proveIt() {
  const { describeBinding } = await import(pathToFileURL(join(root, "dist", "index.js")).href);
  const { path, origin, version } = describeBinding();
  console.log(`nextscale ${version}: ${origin} ${path}`);
  const kernels = join(dirname(path), "libnextscale_cuda.so");
  console.log(
    `CUDA kernels: ${existsSync(kernels) ? kernels : "none, CPU only (NEXTSCALE_CUDA=ON npm run build compiles them)"}`,
  );
}

try {
  buildAddon(process.argv.includes("--force"));
  await buildTypeScript();
  await proveIt();
} catch (error) {
  const expected = error instanceof BuildError || error.code === "NO_BINARY";
  console.error(`\nnextscale: ${expected ? error.message : error.stack}`);
  process.exitCode = 1;
}
