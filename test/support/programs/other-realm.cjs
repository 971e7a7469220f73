// Runs the CommonJS build as jest does: in a context of its own, whose classes are not Node's, and where import() is
// forbidden.
const { readFileSync } = require("node:fs");
const { createRequire } = require("node:module");
const { dirname, join } = require("node:path");
const vm = require("node:vm");

const root = join(__dirname, "..", "..", "..");
const path = join(root, "dist", "index.cjs");
const timers = ["setTimeout", "clearTimeout", "setImmediate", "clearImmediate", "queueMicrotask"];
const shared = ["process", "Buffer", "console", ...timers];
const more = ["performance", "URL", "AbortController", "AbortSignal", "TextDecoder", "TextEncoder", "structuredClone"];
// jest hands on these two, and no other typed array.
const names = [...shared, ...more, "Uint8Array", "ArrayBuffer"];
const globals = Object.fromEntries(names.map((name) => [name, globalThis[name]]));
const context = vm.createContext(globals);
context.global = context.globalThis = context;

function load(file) {
  const module = { exports: {} };
  const wrapper = `(function (exports, require, module, __filename, __dirname) {${readFileSync(file, "utf8")}\n})`;
  const run = vm.runInContext(wrapper, context, { filename: file });
  run(module.exports, createRequire(file), module, file, dirname(file));
  return module.exports;
}

context.nextscale = load(path);
context.answer = (value) => process.stdout.write(JSON.stringify(value));
const program = `(async () => {
  const { loadModel, Image, InvalidOptionError } = nextscale;
  const missing = await loadModel("/nope.safetensors").then(() => "loaded", (error) => error.code);
  const model = await loadModel();
  const generation = model.generate({ labels: 1, seed: 1 });
  const [image] = await generation.images();
  const bytes = await image.toBuffer();
  const clamped = await model.encode({ width: 32, height: 32, data: new Uint8ClampedArray(3072) });
  const buffer = await model.encode({ width: 32, height: 32, data: Buffer.alloc(3072) });
  const [decoded] = await model.decode(new Int32Array(model.architecture.numTokens));
  await Image.from(bytes);
  let option = false;
  try { model.generate({ labels: 99 }); } catch (error) { option = error instanceof InvalidOptionError; }
  await model.dispose();
  const png = bytes.subarray(0, 4).toString("hex");
  answer({ missing, png, clamped: clamped.count, buffer: buffer.count, tokens: decoded.width, option });
})()`;
vm.runInContext(program, context).catch((error) => {
  process.stderr.write(`${error.stack}\n${error.cause?.stack ?? ""}\n`);
  process.exitCode = 1;
});
