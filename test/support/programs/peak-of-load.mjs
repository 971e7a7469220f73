// Loads a model and says by how much the peak of resident memory has grown. The KV pool is not touched.
import { readFileSync } from "node:fs";
import { loadModel } from "nextscale";

const kilobytes = (field) =>
  Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(readFileSync("/proc/self/status", "utf8"))[1]);

await (await loadModel()).dispose(); // what loading needs of libraries and code is there
const before = kilobytes("VmHWM");
const model = await loadModel(JSON.parse(process.argv[2]), { threads: 2 });
const grown = 1024 * (kilobytes("VmHWM") - before);
await model.dispose();
process.stdout.write(`${JSON.stringify({ grown })}\n`);
