#!/usr/bin/env node
// npm run bench: builds the native benchmark, runs every configuration in a process of its own, prints a table and
// writes JSON to bench/results/. Options: --depth 16  --batch 1,8  --subnets 8,4,2  --bridge 6  --dtype f32  --threads
// N --repeat 3  --peer DIR (a folder with onnxruntime-node installed and the models d<depth>.onnx and decoder.onnx).
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const { values: options } = parseArgs({
  options: {
    depth: { type: "string", default: "16" },
    batch: { type: "string", default: "1,8" },
    subnets: { type: "string", default: "8,4,2" },
    bridge: { type: "string", default: "6" },
    dtype: { type: "string", default: "f32" },
    threads: { type: "string", default: String(availableParallelism()) },
    repeat: { type: "string", default: "3" },
    weights: { type: "string", default: "" },
    peer: { type: "string", default: "" },
    help: { type: "boolean", default: false },
  },
});
if (options.help) {
  console.log(
    "usage: npm run bench -- [--depth 16] [--batch 1,8] [--subnets 8,4,2] [--bridge 6] [--dtype f32|f16|bf16]\n" +
      "                       [--threads N] [--repeat 3] [--weights FILE] [--peer DIR]",
  );
  process.exit(0);
}

function build() {
  const folder = join(root, "build", "bench");
  const quiet = { stdio: ["ignore", "ignore", "inherit"] };
  execFileSync(
    "cmake",
    ["-S", root, "-B", folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DNEXTSCALE_BENCH=ON"],
    quiet,
  );
  execFileSync("cmake", ["--build", folder, "--target", "bench_generate"], quiet);
  return join(folder, "bench_generate");
}

function runOne(binary, batch, subnet) {
  const weights = options.weights || join(tmpdir(), `nextscale-bench-d${options.depth}-${options.dtype}.safetensors`);
  const args = [
    "--depth",
    options.depth,
    "--subnet",
    String(subnet),
    "--bridge",
    options.bridge,
    "--batch",
    String(batch),
  ];
  args.push("--dtype", options.dtype, "--threads", options.threads, "--repeat", options.repeat, "--weights", weights);
  const result = spawnSync(binary, args, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
  if (result.status !== 0) throw new Error(`benchmark failed for batch ${batch}, subnet ${subnet}`);
  return JSON.parse(result.stdout);
}

function runPeer(...args) {
  const script = join(root, "bench", "peers", "time_onnxruntime.mjs");
  const env = { ...process.env, THREADS: options.threads, REPEAT: options.repeat };
  const result = spawnSync(process.execPath, [script, ...args], { encoding: "utf8", cwd: options.peer, env });
  if (result.status !== 0) throw new Error(`the peer failed: ${result.stderr}`);
  return JSON.parse(result.stdout.trim().split("\n").at(-1));
}

const percent = (share) => `${Math.round(share * 100)} %`;
const ms = (value) => (value >= 100 ? Math.round(value) : value.toFixed(1)).toString();

function printTable(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  for (const [index, row] of rows.entries()) {
    console.log(
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[column]) : cell.padStart(widths[column])))
        .join("  "),
    );
    if (index === 0) console.log(widths.map((width) => "-".repeat(width)).join("  "));
  }
}

const binary = build();
const batches = options.batch.split(",").map(Number);
const subnets = [Number(options.depth), ...options.subnets.split(",").filter(Boolean).map(Number)];
const report = {
  machine: { cpu: cpus()[0].model, cores: cpus().length, node: process.version },
  options,
  runs: [],
  peers: {},
};

for (const batch of batches) {
  for (const subnet of subnets) {
    report.runs.push(runOne(binary, batch, subnet));
    process.stderr.write(`batch ${batch}, subnet ${subnet}: done\n`);
  }
}
if (options.peer) {
  for (const batch of batches) {
    report.peers[`blocks-${batch}`] = runPeer("blocks", options.depth, String(batch), `d${options.depth}.onnx`);
  }
  report.peers.decoder = runPeer("decoder", "1", "decoder.onnx");
}

console.log(
  `\nVAR-d${options.depth}, ${options.dtype} weights, ${options.threads} threads, both guidance branches, times per image`,
);
console.log(
  `GEMM peak of this machine (measured in each run): ${report.runs.map((run) => Math.round(run.gemmPeakGflops)).join(", ")} GFLOP/s\n`,
);
const header = [
  "batch, depth",
  "transformer ms",
  "of GEMM peak",
  "vs full",
  "ideal",
  "decode ms",
  "pool MB",
  "peak RSS MB",
];
const rows = [header];
for (const run of report.runs) {
  const full = report.runs.find((other) => other.batch === run.batch && other.subnet === run.depth);
  rows.push([
    `${run.batch}, ${run.subnet === run.depth ? `${run.depth}×10` : `${run.depth}×${run.bridge} then ${run.subnet}`}`,
    ms(run.transformerMs / run.batch),
    percent(run.transformerShareOfPeak),
    `${(full.transformerMs / run.transformerMs).toFixed(2)}×`,
    `${(full.gflop / run.gflop).toFixed(2)}×`,
    ms(run.decodeMs / run.batch),
    (run.poolPeakBytes / 1e6).toFixed(0),
    (run.peakResidentBytes / 1e6).toFixed(0),
  ]);
}
printTable(rows);
console.log("\nTime per scale, ms (share of GEMM peak):");
for (const run of report.runs) {
  const cells = run.scaleMs.map((time, scale) => `${ms(time)} (${percent(run.scaleShareOfPeak[scale])})`);
  console.log(`batch ${run.batch}, subnet ${run.subnet}: ${cells.join("  ")}`);
}
for (const [name, peer] of Object.entries(report.peers)) {
  const batch = Number(name.split("-")[1] ?? 1);
  const own = report.runs.find((run) => run.batch === batch && run.subnet === run.depth) ?? report.runs[0];
  const mine = name === "decoder" ? own.decodeMs / own.batch : own.transformerMs;
  console.log(
    `onnxruntime-node, ${name}: ${ms(peer.totalMs)} ms; nextscale ${ms(mine)} ms = ${(mine / peer.totalMs).toFixed(2)} × its time`,
  );
}

const folder = join(root, "bench", "results");
mkdirSync(folder, { recursive: true });
const commit = existsSync(join(root, ".git"))
  ? execFileSync("git", ["rev-parse", "--short", "HEAD"], { cwd: root, encoding: "utf8" }).trim()
  : "none";
const file = join(folder, `generate-d${options.depth}-${options.dtype}-${commit}.json`);
writeFileSync(file, `${JSON.stringify(report, null, 2)}\n`);
console.log(`\nwritten: ${file}`);
