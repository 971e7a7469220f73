/** Item 11 of the log: a system that forbids to look is a system without a device, not a crash. */

import { spawnSync } from "node:child_process";
import { afterEach, expect, test, vi } from "vitest";

afterEach(() => vi.doUnmock("node:fs"));

test("where looking is forbidden, device auto is the CPU", async () => {
  vi.resetModules();
  vi.doMock("node:fs", async (original) => {
    const fs = await original<typeof import("node:fs")>();
    const existsSync = (path: string) => {
      if (path.startsWith("/dev/"))
        throw Object.assign(new Error("Access to this API has been restricted"), { code: "ERR_ACCESS_DENIED" });
      return fs.existsSync(path);
    };
    return { ...fs, existsSync };
  });
  const { tryCuda } = await import("../../lib/native/cuda.js");
  const { bundledModelPath } = await import("../../lib/native/binding.js");
  vi.stubEnv("NEXTSCALE_CUDA_LIBRARY", bundledModelPath()); // any file: the driver's files are looked for next
  expect(await tryCuda()).toMatchObject({ devices: [], problem: expect.stringContaining("no NVIDIA driver") });
  vi.unstubAllEnvs();
});

test.skipIf(process.platform !== "linux")("a full disk behind stdout is one line and exit 1", () => {
  const { status, stderr } = spawnSync("sh", ["-c", `"${process.execPath}" dist/cli.js doctor --json > /dev/full`], {
    encoding: "utf8",
  });
  expect([status, stderr.split("\n")[0]]).toEqual([
    1,
    expect.stringMatching(/^error \[IO\]: cannot write the output: ENOSPC/),
  ]);
});
