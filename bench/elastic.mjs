#!/usr/bin/env node
// npm run bench:elastic: what elastic depth and the shared pool give, on the bundled model or on --model FILE.
//
//   1. time and pool peak of one image against depth, with and without a bridge
//   2. the pool over time under a mixed load of 24 generations
//   3. throughput of 16 concurrent single-image requests over that of one request of 16
//   4. fairness: how long each generation of a mixed load waits and takes, and a short one among long ones
//   5. what a depth switch costs the scale that follows it
//
// Prints tables; writes JSON and SVG plots to bench/results/.
// Options: --model FILE (safetensors)  --threads N  --kv-dtype f32|f16|bf16  --repeat 15  --out DIR
import { mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { plot } from "../build/bench/svg.js";
import { loadModel } from "../dist/index.js";

const { values: options } = parseArgs({
  options: {
    model: { type: "string" },
    threads: { type: "string", default: String(availableParallelism()) },
    "kv-dtype": { type: "string", default: "f32" },
    repeat: { type: "string", default: "15" },
    out: { type: "string", default: join(dirname(fileURLToPath(import.meta.url)), "results") },
    help: { type: "boolean", default: false },
  },
});
if (options.help) {
  console.log(
    "usage: npm run bench:elastic -- [--model FILE] [--threads N] [--kv-dtype f32|f16|bf16] [--repeat 15] [--out DIR]",
  );
  process.exit(0);
}
const repeat = Number(options.repeat);
const load = { threads: Number(options.threads) };
const dtype = options["kv-dtype"];
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const range = (length) => Array.from({ length }, (_, i) => i);

async function timed(work) {
  const begin = performance.now();
  await work();
  return performance.now() - begin;
}

function table(title, rows) {
  console.log(`\n${title}`);
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => String(row[column]).length)));
  for (const row of rows) {
    console.log(
      row.map((cell, i) => (i === 0 ? String(cell).padEnd(widths[i]) : String(cell).padStart(widths[i]))).join("  "),
    );
  }
}

const open = (extra = {}) => loadModel(options.model, { ...load, kvPool: { dtype }, ...extra });
const model = await open();
const { depth: fullDepth, numScales, numClasses, numTokens, width } = model.architecture;
const bridge = model.bridge || Math.floor(numScales / 2);
const megabytes = (bytes) => bytes / 1e6;
const draw = (depth, seed = 1, labels = [1]) => model.generate({ labels, seed, depth }).tokens();

/** 1. Plans are visited in turn, so that a slow moment of the machine meets them all. */
async function depthCurve() {
  const depths = [...new Set([fullDepth, ...[24, 16, 12, 8, 6, 4, 3, 2].filter((depth) => depth < fullDepth)])];
  const zones = (subnet) => (subnet === fullDepth ? [0] : [0, bridge]);
  const plans = depths.flatMap((subnet) => zones(subnet).map((zone) => ({ subnet, bridge: zone, times: [] })));
  for (const { bridge: zone, subnet } of plans) await draw({ bridge: zone, subnet });
  for (let run = 0; run < repeat; run++) {
    for (const i of plans.keys()) {
      const plan = plans[(i + run) % plans.length];
      plan.times.push(await timed(() => draw({ bridge: plan.bridge, subnet: plan.subnet }, run)));
    }
  }
  const naive = 2 * fullDepth * numTokens * 2 * width * (dtype === "f32" ? 4 : 2);
  const rows = plans.map(({ subnet, bridge: zone, times }) => {
    const peakBytes = model.peakBytes({ bridge: zone, subnet });
    return { subnet, bridge: zone, ms: median(times), peakBytes, ofNaive: peakBytes / naive };
  });
  const full = rows.find((row) => row.subnet === fullDepth);
  table("1. One image: time and pool peak against depth (median)", [
    ["plan", "ms", "speed-up", "pool MB", "of naive cache"],
    ...rows.map((row) => [
      row.subnet === fullDepth
        ? `full (${fullDepth})`
        : row.bridge === 0
          ? `${row.subnet}`
          : `bridge ${row.bridge}, then ${row.subnet}`,
      row.ms.toFixed(2),
      `${(full.ms / row.ms).toFixed(2)}×`,
      megabytes(row.peakBytes).toFixed(3),
      row.ofNaive.toFixed(3),
    ]),
  ]);
  return rows;
}

const MIX = range(24).map((i) => ({
  labels: range(1 + (i % 3)).map((j) => (i + j) % numClasses),
  seed: i,
  depth: [fullDepth, { bridge, subnet: 4 }, { bridge, subnet: 2 }, Math.max(2, fullDepth >> 1)][i % 4],
}));

/** 2. A pool with room for about six images: generations wait, run, and hand their storage on. */
async function poolOverTime() {
  const bytes = 6 * model.peakBytes(fullDepth);
  const events = [];
  const small = await open({
    kvPool: { bytes, dtype },
    onEvent: (event) => events.push({ at: performance.now(), ...event }),
  });
  await small.warmup();
  events.length = 0;
  const samples = [];
  const begin = performance.now();
  const sample = () => {
    const { running, waiting, pool } = small.stats();
    samples.push({
      ms: performance.now() - begin,
      running,
      waiting,
      usedBytes: pool.usedBytes,
      reservedBytes: pool.reservedBytes,
    });
  };
  const timer = setInterval(sample, 1);
  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  await Promise.all(
    MIX.map(async (request, i) => {
      await wait(i * 3);
      await small.generate(request).tokens();
    }),
  );
  clearInterval(timer);
  sample();
  const waits = events.flatMap((event) => (event.type === "start" ? [event.waitedMs] : []));
  const { peakBytes } = small.pool;
  await small.dispose();
  const overBudget = samples.some((one) => one.reservedBytes > bytes || one.usedBytes > one.reservedBytes);
  table("2. Pool under a mixed load of 24 generations", [
    ["capacity MB", "peak used MB", "longest queue", "median wait ms", "longest wait ms", "ever over budget"],
    [
      megabytes(bytes).toFixed(2),
      megabytes(peakBytes).toFixed(2),
      Math.max(...samples.map(({ waiting }) => waiting)),
      median(waits).toFixed(1),
      Math.max(...waits).toFixed(1),
      overBudget ? "YES" : "no",
    ],
  ]);
  return { capacityBytes: bytes, peakBytes, waits, samples };
}

/** 3. Both kinds alternate. */
async function throughput() {
  const labels = range(16).map((i) => i % numClasses);
  const [together, single] = [[], []];
  for (let run = 0; run < Math.max(7, repeat); run++) {
    together.push(await timed(() => draw(fullDepth, run, labels)));
    single.push(await timed(() => Promise.all(labels.map((label, i) => draw(fullDepth, 100 * run + i, [label])))));
  }
  const result = { batchMs: median(together), concurrentMs: median(single) };
  result.ratio = median(together.map((ms, run) => ms / single[run]));
  table("3. 16 images (median)", [
    ["", "ms", "images/s"],
    ["one request of 16", result.batchMs.toFixed(1), (16e3 / result.batchMs).toFixed(1)],
    ["16 requests of 1", result.concurrentMs.toFixed(1), (16e3 / result.concurrentMs).toFixed(1)],
    ["share (target 0.9)", result.ratio.toFixed(3), ""],
  ]);
  return result;
}

/** A generation's time from its request to its last scale, and how much of it passed in steps without a row of it. */
async function served(request) {
  const begin = performance.now();
  let inSteps = 0;
  let elapsed = 0;
  for await (const { scaleMs, elapsedMs } of model.generate(request)) {
    inSteps += scaleMs;
    elapsed = elapsedMs;
  }
  return { ms: performance.now() - begin, waitedMs: Math.max(0, elapsed - inSteps) };
}

/**
 * 4. Unequal generations at once, each against itself alone. Two targets: nobody waits (for steps without it) more than
 * three times as long as it takes alone, and nobody takes more than three times its fair share, which is n times as
 * long as alone.
 */
async function fairness() {
  const solo = [];
  for (const request of MIX) {
    const times = [];
    for (let run = 0; run < 5; run++) times.push((await served(request)).ms);
    solo.push(median(times));
  }
  const result = { soloMs: solo, groups: [], short: [] };
  const rows = [];
  const row = (name, values) => [
    name,
    ...[Math.min(...values), median(values), Math.max(...values)].map((value) => `${value.toFixed(2)}×`),
  ];
  for (const size of [8, MIX.length]) {
    const group = MIX.slice(0, size);
    const work = solo.slice(0, size).reduce((sum, ms) => sum + ms, 0);
    const runs = [];
    for (let run = 0; run < repeat; run++) runs.push(await Promise.all(group.map(served)));
    const of = (key) => group.map((_, i) => median(runs.map((outcome) => outcome[i][key])));
    const [times, waits] = [of("ms"), of("waitedMs")];
    const figures = {
      size,
      waits: waits.map((ms, i) => ms / solo[i]),
      ofFairShare: times.map((ms, i) => ms / solo[i] / size),
      slowdown: times.map((ms, i) => ms / solo[i]),
      ofAllWork: times.map((ms) => ms / work),
    };
    result.groups.push(figures);
    rows.push(row(`${size} at once: waiting, of its time alone (target 3)`, figures.waits));
    rows.push(row(`  time, of a fair share: ${size} times its own (target 3)`, figures.ofFairShare));
    rows.push(row("  time, of its own alone", figures.slowdown));
    rows.push(row("  time, of all of them one after the other", figures.ofAllWork));
  }
  // All must fit into the pool: waiting in line for room is another matter.
  const fitting = Math.max(1, Math.floor(model.pool.capacityBytes / model.peakBytes(fullDepth) / 3) - 1);
  for (const images of new Set([4, 16, 64].map((count) => Math.min(count, fitting)))) {
    const times = await shortAmongLong(images);
    result.short.push({ images, times });
    rows.push(row(`a short one among 3 of ${images} images: time, of a fair share (target 3)`, times));
  }
  table("4. Fairness: unequal generations, each against itself alone", [["", "least", "median", "most"], ...rows]);
  return result;
}

/**
 * Short generations, one at a time, that arrive while three long ones run: each over four times what it takes alone.
 */
async function shortAmongLong(images) {
  const request = { labels: [1], seed: 1, depth: Math.min(fullDepth, 2) };
  const alone = [];
  for (let run = 0; run < 15; run++) alone.push((await served(request)).ms);
  const labels = range(images).map((i) => i % numClasses);
  const times = [];
  while (times.length < 2 * repeat) {
    const long = range(3).map((seed) => model.generate({ labels, seed, depth: fullDepth }));
    const ends = Promise.all(long.map((one) => one.tokens()));
    let running = true;
    const over = () => {
      running = false;
    };
    ends.then(over, over);
    await long[0][Symbol.asyncIterator]().next();
    do {
      times.push((await served(request)).ms / median(alone) / 4);
      await new Promise((resolve) => setTimeout(resolve, 3 * Math.random() * median(alone)));
    } while (running && times.length < 2 * repeat);
    for (const one of long) one.cancel();
    await ends.catch(() => undefined);
  }
  return times;
}

/**
 * 5. Two plans whose scale `at` does the same work on the same cache: the blocks that run it hold the same tokens,
 * because dropped blocks play no part in it. Only the depth of the scale before differs, that is, whether there was a
 * switch.
 */
async function switchCost() {
  const low = Math.max(2, fullDepth >> 1);
  const at = numScales - 2;
  const steady = range(numScales).map(() => low);
  const switched = range(numScales).map((scale) => (scale < at ? fullDepth : low));
  const times = { steady: [], switched: [] };
  const once = async (depth, seed) => {
    for await (const scale of model.generate({ labels: [1, 2, 3, 4], seed, depth }))
      if (scale.index === at) return scale.scaleMs;
  };
  for (let run = 0; run < 8 * repeat; run++) {
    const order = run % 2 === 0 ? ["steady", "switched"] : ["switched", "steady"];
    for (const kind of order) times[kind].push(await once(kind === "steady" ? steady : switched, run));
  }
  const quartile = (values, share) => [...values].sort((a, b) => a - b)[Math.floor(share * values.length)];
  const row = (name, values) => [name, ...[0.25, 0.5, 0.75].map((share) => quartile(values, share).toFixed(3))];
  const result = {
    scale: at,
    depth: low,
    steadyMs: median(times.steady),
    switchedMs: median(times.switched),
    runs: times.steady.length,
  };
  table(`5. Scale ${at} at depth ${low}, four images, ${result.runs} runs each: ms`, [
    ["", "25 %", "median", "75 %"],
    row("no switch before it", times.steady),
    row(`switch ${fullDepth} → ${low} before it`, times.switched),
  ]);
  console.log(`ratio of medians: ${(result.switchedMs / result.steadyMs).toFixed(3)}`);
  return result;
}

function plots(report) {
  const name = options.model === undefined ? "bundled digits model" : `${fullDepth} blocks, ${numTokens} tokens`;
  const onCurve = (row, zone) => row.bridge === zone || row.subnet === fullDepth; // full depth is on both
  const curve = (zone, key) =>
    report.depthCurve.flatMap((row) => (onCurve(row, zone) ? [[row.subnet, key(row)]] : [])).reverse();
  const xTicks = [...new Set(report.depthCurve.map(({ subnet }) => subnet))].map((depth) => [depth, String(depth)]);
  const sweep = (title, yLabel, key) =>
    plot({
      title: `${title} (${name})`,
      xLabel: "depth of the flexible scales, blocks",
      yLabel,
      xMin: 0,
      xTicks,
      series: [
        { name: "every scale at this depth", points: curve(0, key), dots: true },
        { name: `first ${bridge} scales in full`, points: curve(bridge, key), dots: true, dash: "7 5" },
      ],
    });
  const { samples, capacityBytes } = report.poolOverTime;
  const over = (key) => samples.map((one) => [one.ms, megabytes(one[key])]);
  const end = samples.at(-1).ms;
  const capacity = {
    name: "capacity",
    points: [
      [0, megabytes(capacityBytes)],
      [end, megabytes(capacityBytes)],
    ],
    dash: "6 4",
    colour: "#444",
  };
  return {
    "elastic-time.svg": sweep("Time of one image against depth", "ms", (row) => row.ms),
    "elastic-memory.svg": sweep("Pool peak of one image against depth", "MB", (row) => megabytes(row.peakBytes)),
    "elastic-pool.svg": plot({
      title: `KV pool while 24 generations come and go (${name})`,
      xLabel: "ms since the first request",
      yLabel: "MB",
      xMax: end,
      yMax: 1.05 * megabytes(capacityBytes),
      series: [
        { name: "used", points: over("usedBytes"), step: true, fill: true },
        { name: "reserved", points: over("reservedBytes"), step: true },
        capacity,
      ],
    }),
  };
}

console.log(
  `${fullDepth} blocks, ${numScales} scales, ${load.threads} threads, KV ${dtype}, both guidance branches, transformer only`,
);
const machine = { cpu: cpus()[0].model, cores: cpus().length, node: process.version };
const report = { machine, options, architecture: model.architecture };
report.depthCurve = await depthCurve();
report.poolOverTime = await poolOverTime();
report.throughput = await throughput();
report.fairness = await fairness();
report.switchCost = await switchCost();
await model.dispose();

mkdirSync(options.out, { recursive: true });
const files = { "elastic.json": `${JSON.stringify(report, null, 2)}\n`, ...plots(report) };
for (const [name, content] of Object.entries(files)) writeFileSync(join(options.out, name), content);
console.log(`\nwritten to ${options.out}: ${Object.keys(files).join(", ")}`);
