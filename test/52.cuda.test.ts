/** CUDA devices as the facade sees them: the trial in a child process, the choice of a device, and what is refused. */

import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { errorFromNative } from "../lib/errors.js";
import { loadModel, loadTokenizer } from "../lib/index.js";
import { chooseDevice } from "../lib/model/device.js";
import { loadBinding } from "../lib/native/binding.js";
import type { NativeCudaDevice, TensorEntry } from "../lib/native/contract.js";
import { type CudaReport, findCudaLibrary, NO_CUDA, tryCuda } from "../lib/native/cuda.js";
import { rejection } from "./support/rejections.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "nextscale-cuda-"));
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

/** A file that is there; the scripts of these tests do not open it. */
function someLibrary(content = "not a library"): string {
  const path = join(folder, "libnextscale_cuda.so");
  writeFileSync(path, content);
  vi.stubEnv("NEXTSCALE_CUDA_LIBRARY", path);
  return path;
}

const H200: NativeCudaDevice = {
  index: 0,
  name: "Some GPU",
  capability: "9.0",
  multiprocessors: 132,
  totalBytes: 140e9,
  freeBytes: 120e9,
  driver: "13.0",
  runtime: "13.0",
  problem: null,
};
const answer = (devices: unknown) => `console.log('${JSON.stringify({ devices })}')`;

describe("the trial", () => {
  test("devices that work", async () => {
    const library = someLibrary();
    const report = await tryCuda({ script: `console.log("a driver chats");${answer([H200])}` });
    expect(report).toEqual({ library, devices: [H200], problem: null });
  });

  test("the child gets the addon and the library", async () => {
    const library = someLibrary();
    const { problem } = await tryCuda({
      script: "console.log(JSON.stringify({ message: process.argv.slice(1).join() }))",
    });
    expect(problem).toMatch(/\.node,/);
    expect(problem).toContain(library);
  });

  test("a device with a problem, and none at all", async () => {
    someLibrary();
    const broken = { ...H200, problem: "it computes wrongly" };
    expect(await tryCuda({ script: answer([broken]) })).toMatchObject({ problem: "cuda:0: it computes wrongly" });
    expect(await tryCuda({ script: answer([broken, { ...H200, index: 1 }]) })).toMatchObject({ problem: null });
    expect(await tryCuda({ script: answer([]) })).toMatchObject({ problem: "the driver knows no device" });
  });

  test.each([
    ["a crash", "process.kill(process.pid, 'SIGSEGV')", /died of SIGSEGV/],
    ["an exit", "console.error('driver: boom'); process.exit(3)", /exit 3 \(it said: driver: boom\)/],
    ["silence", "", /gave no answer/],
    ["garbage", 'console.log(\'{"devices": [{"index": "x"}]}\')', /gave no answer/],
    ["no JSON", "console.log('hello')", /gave no answer \(it said: hello\)/],
    ["an error", "console.log(JSON.stringify({ message: 'no driver' }))", /^no driver$/],
  ])("%s is a reason, not an end", async (_, script, reason) => {
    someLibrary();
    const report = await tryCuda({ script });
    expect(report.devices).toEqual([]);
    expect(report.problem).toMatch(reason);
  });

  test("a child that hangs is ended", async () => {
    someLibrary();
    const report = await tryCuda({ script: "setInterval(() => {}, 1000)", timeout: 700 });
    expect(report.problem).toMatch(/took longer than 0.7 s and was ended/);
  });

  test("runs once per process", async () => {
    someLibrary();
    expect(await tryCuda({ script: answer([H200]) })).toBe(await tryCuda({ script: answer([H200]) }));
  });

  test("a library that is none, and none at all", async () => {
    const library = someLibrary();
    expect(() => loadBinding().probeCuda(library)).toThrow(/cannot be loaded/);
    expect((await tryCuda()).problem).not.toBeNull();
    vi.stubEnv("NEXTSCALE_CUDA_LIBRARY", join(folder, "nowhere.so"));
    expect(await tryCuda()).toEqual({ library: null, devices: [], problem: NO_CUDA });
  });
});

const built = join(import.meta.dirname, "..", "build", "Release", "libnextscale_cuda.so");

describe.skipIf(!existsSync(built))("the library of kernels (skipped where nvcc was not found)", () => {
  test("is under 40 MB, is found, and loads in a child", async () => {
    expect(statSync(built).size).toBeLessThan(40 * 2 ** 20);
    expect(findCudaLibrary()).toBe(built);
    const { devices, problem } = await tryCuda();
    // A working device, or the reason why there is none: a library that does not load gives neither.
    if (devices.length === 0) expect(problem).toMatch(/driver/);
    expect(problem ?? "").not.toMatch(/cannot be loaded|another build|not a CUDA library/);
  });

  test("without a driver it says so, in this process", async () => {
    const { problem } = await tryCuda();
    if (problem === null) return expect(loadBinding().probeCuda(built).length).toBeGreaterThan(0);
    expect(() => loadBinding().probeCuda(built)).toThrow(
      expect.objectContaining({ code: "DEVICE_UNAVAILABLE", message: expect.stringMatching(/driver/) }),
    );
  });
});

const TENSORS: TensorEntry[] = [
  { name: "var.a", dtype: "f16", shape: [100, 10], file: 0, offset: 0 },
  { name: "var.b", dtype: "f32", shape: [10], file: 0, offset: 2000 },
];
const report =
  (...devices: NativeCudaDevice[]) =>
  async (): Promise<CudaReport> => ({
    library: "/lib.so",
    devices,
    problem: devices.some(({ problem }) => problem === null) ? null : "nothing works",
  });
type Wish = Parameters<typeof chooseDevice>[0];
const wish = (wanted: Partial<Wish> = {}): Wish => ({
  device: "auto",
  deviceFrom: "default",
  dtype: "auto",
  nativeBinding: undefined,
  ...wanted,
});

describe("the choice", () => {
  test("auto takes a device that passed, in the format of the file", async () => {
    expect(await chooseDevice(wish(), TENSORS, report(H200))).toEqual({
      name: "cuda:0",
      reason: "Some GPU, which passed its trial",
      cuda: { library: "/lib.so", index: 0, dtype: "f16" },
      freeBytes: 120e9,
    });
    const f32 = TENSORS.map((tensor) => ({ ...tensor, dtype: "f32" as const }));
    expect((await chooseDevice(wish(), f32, report(H200))).cuda?.dtype).toBe("bf16");
    expect((await chooseDevice(wish({ dtype: "f32" }), TENSORS, report(H200))).cuda?.dtype).toBe("f32");
  });

  test("auto passes over a broken device, and one without room", async () => {
    const broken = { ...H200, problem: "wrong results" };
    const second = { ...H200, index: 1 };
    expect((await chooseDevice(wish(), TENSORS, report(broken, second))).name).toBe("cuda:1");
    expect(await chooseDevice(wish(), TENSORS, report(broken))).toMatchObject({ name: "cpu", reason: "nothing works" });
    const full = await chooseDevice(wish(), TENSORS, report({ ...H200, freeBytes: 1e6 }));
    expect(full).toMatchObject({ name: "cpu", reason: expect.stringMatching(/1000000 bytes free/) });
  });

  test("a device that was asked for", async () => {
    const devices = report(H200, { ...H200, index: 1, problem: "too old" });
    expect(await chooseDevice(wish({ device: "cuda", deviceFrom: "option" }), TENSORS, devices)).toMatchObject({
      name: "cuda:0",
      reason: "asked for",
    });
    const refused = (device: `cuda:${number}`) =>
      rejection(chooseDevice(wish({ device, deviceFrom: "option" }), TENSORS, devices));
    expect(await refused("cuda:1")).toMatchObject({ code: "DEVICE_UNAVAILABLE", device: "cuda:1", reason: "too old" });
    expect(await refused("cuda:7")).toMatchObject({
      code: "DEVICE_UNAVAILABLE",
      reason: "there are cuda:0 (Some GPU), cuda:1 (Some GPU)",
    });
  });

  test("formats that the CPU does not have", async () => {
    const refused = (wanted: Partial<Wish>) => rejection(chooseDevice(wish(wanted), TENSORS, report()));
    expect(await refused({ device: "cpu", dtype: "bf16" })).toMatchObject({ code: "INVALID_OPTION", option: "dtype" });
    expect(await refused({ dtype: "f16" })).toMatchObject({ code: "DEVICE_UNAVAILABLE" });
    expect(await chooseDevice(wish({ device: "cpu", dtype: "f32" }), TENSORS, report())).toMatchObject({ name: "cpu" });
  });

  test("NEXTSCALE_DEVICE is the default, and is checked", async () => {
    vi.stubEnv("NEXTSCALE_DEVICE", "cpu");
    const model = await loadModel();
    expect(model).toMatchObject({ device: "cpu", deviceReason: "NEXTSCALE_DEVICE asks for it" });
    await model.dispose();
    vi.stubEnv("NEXTSCALE_DEVICE", "gpu");
    expect(await rejection(loadModel())).toMatchObject({ code: "INVALID_OPTION", option: "NEXTSCALE_DEVICE" });
  });

  test("a tokenizer is refused the same way", async () => {
    vi.stubEnv("NEXTSCALE_CUDA_LIBRARY", join(folder, "nowhere.so"));
    expect(await rejection(loadTokenizer(undefined, { device: "cuda:3" }))).toMatchObject({
      code: "DEVICE_UNAVAILABLE",
      device: "cuda:3",
      reason: NO_CUDA,
    });
  });
});

test("a failure on the device is an error of its own", () => {
  const error = errorFromNative({ code: "DEVICE_LOST", message: "CUDA: kernel Sample of sample: an illegal address" });
  expect(error).toMatchObject({ name: "DeviceLostError", code: "DEVICE_LOST" });
});
