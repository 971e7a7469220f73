#!/usr/bin/env node
// npm run bench:train: builds the native benchmark and times training steps, each configuration in a process of its own
// that measures the machine's GEMM rate first. Everything after -- goes to bench/native/train.cc, such as --depth 12
// --width 256.
import { execFileSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const folder = join(root, "build", "bench");
const quiet = { stdio: ["ignore", "ignore", "inherit"] };
const configure = ["-S", root, "-B", folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DNEXTSCALE_BENCH=ON"];
execFileSync("cmake", configure, quiet);
execFileSync("cmake", ["--build", folder, "--target", "bench_train"], quiet);

const given = process.argv.slice(2);
const configurations =
  given.length > 0
    ? [given]
    : [
        ["--depth", "12", "--width", "256", "--micro", "8"],
        ["--depth", "12", "--width", "256", "--micro", "8", "--checkpointing", "1"],
        ["--depth", "12", "--width", "256", "--micro", "8", "--subnet", "6"],
        ["--depth", "8", "--width", "128", "--micro", "8"],
      ];
for (const configuration of configurations) {
  const row = JSON.parse(execFileSync(join(folder, "bench_train"), configuration, { encoding: "utf8" }));
  const share = (100 * row.shareOfPeak).toFixed(0);
  const memory = (row.peakResidentBytes / row.plannedBytes).toFixed(3);
  console.log(
    `${row.depth} blocks of width ${row.width}, subnet ${row.subnet}, batch ${row.batch}${row.checkpointing ? ", checkpointing" : ""}: ` +
      `${row.stepMs.toFixed(0)} ms, ${share} % of ${row.gemmPeakGflops.toFixed(0)} GFLOP/s; memory ${memory} × the plan`,
  );
}
