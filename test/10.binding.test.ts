/** Which binary is loaded, and what is said when none can be. */

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { expect, test } from "vitest";
import { findBinding, loadBinding, packageRoot } from "../lib/native/binding.js";
import { explainLoadFailure, type LoadFailure } from "../lib/native/explain.js";

function thrown(work: () => unknown): Error & { code?: string } {
  try {
    work();
  } catch (error) {
    return error as Error;
  }
  throw new Error("nothing was thrown");
}

test("the package's root is found from the sources", () => {
  expect(existsSync(join(packageRoot(), "lib", "native", "binding.ts"))).toBe(true);
});

test("an option beats the environment, which beats what node-gyp-build finds", () => {
  process.env.NEXTSCALE_BINDING = "b/two.node";
  try {
    expect(findBinding("a/one.node")).toEqual({ path: resolve("a/one.node"), origin: "option" });
    expect(findBinding()).toEqual({ path: resolve("b/two.node"), origin: "environment" });
  } finally {
    delete process.env.NEXTSCALE_BINDING;
  }
  expect(["local build", "prebuild"]).toContain(findBinding().origin);
});

test("the addon is loaded once", () => {
  expect(loadBinding()).toBe(loadBinding());
});

test("a missing binary is a NoBinaryError that names the path and what to do", () => {
  const error = thrown(() => loadBinding("/nowhere/nextscale.node"));
  expect(error).toMatchObject({ name: "NoBinaryError", code: "NO_BINARY" });
  expect(error.message).toMatch(/tried \/nowhere\/nextscale\.node: .*Possible solutions:.*npm run prepare/s);
});

test("a module that is no addon of ours is refused", () => {
  const error = thrown(() => loadBinding(join(packageRoot(), "package.json")));
  expect(error).toMatchObject({ code: "NO_BINARY", message: expect.stringContaining("not a nextscale binary") });
});

const NONE = "No native build was found for platform=linux arch=x64 runtime=node";

test.each<[Partial<LoadFailure>, string, RegExp]>([
  [{ isCheckout: true }, "plain", /build it: run \.\/setup in \/r;/],
  [{ isCheckout: false }, "plain", /install the package again/],
  [{}, "version `GLIBC_2.38' not found", /C library .* older/],
  [{}, "Error relocating x.node", /Alpine/],
  [{}, "cannot open /app.asar/x.node", /asarUnpack/],
  [{}, "Module did not self-register", /two different builds/],
  [{ permissionModel: true }, "Cannot load native addon because loading addons is disabled.", /--allow-addons/],
  [{ permissionModel: false }, "Cannot load native addon because loading addons is disabled.", /--no-addons/],
  [{ permissionModel: true }, "Access to this API has been restricted", /--allow-fs-read=\/r /],
  [{ packageFound: false }, "Cannot find module 'node-gyp-build'", /bundled.*external: \["nextscale"\]/],
  [
    { prebuilds: ["linux-arm64/n.node", "darwin-arm64/n.node"] },
    NONE,
    /no binary for linux-x64 .*linux-arm64, darwin-arm64/,
  ],
  [{ prebuilds: ["linux-x64/n.glibc.node"], libc: "musl" }, NONE, /has linux-x64\/n\.glibc\.node, .*is for musl/],
  [{ prebuilds: [] }, NONE, /prebuilds is missing or empty/],
  [{ prebuilds: null }, NONE, /prebuilds is missing or empty/],
  [
    { libc: "glibc 2.31" },
    "/lib/libc.so.6: version `GLIBC_2.38' not found (required by x)",
    /GLIBC_2\.38, this system has glibc 2\.31/,
  ],
  [{}, "version `GLIBCXX_3.4.32' not found", /GLIBCXX_3\.4\.32/],
  [{}, "ld-linux-x86-64.so.2: cannot open shared object file", /musl \(Alpine\)/],
  [{}, "wrong ELF class: ELFCLASS32", /another processor than x64/],
  [
    { platform: "darwin", arch: "arm64" },
    "mach-o file, but is an incompatible architecture",
    /another processor than arm64/,
  ],
  [{}, "invalid ELF header", /not one for linux, or is damaged/],
  [
    {},
    "libhwy.so.1: cannot open shared object file: No such file or directory",
    /libhwy\.so\.1 is missing: install libhwy1/,
  ],
  [{ named: "environment" }, "Cannot find module '/x.node'", /NEXTSCALE_BINDING names \/x\.node, which is not there/],
  [{ named: "option" }, "Cannot find module '/x.node'", /nativeBinding names \/x\.node/],
])("remedies %#", (change, message, sentence) => {
  const attempts = [{ path: "/x.node", error: new Error(`${message}\nsecond line`) }];
  const text = explainLoadFailure({
    platform: "linux",
    arch: "x64",
    root: "/r",
    attempts,
    isCheckout: false,
    ...change,
  });
  expect(text).toMatch(sentence);
  expect(text).toMatch(/NEXTSCALE_BINDING/);
  if (message !== "plain") expect(text).not.toContain("install the package again on this very machine");
  expect(text).not.toContain("second line");
});

test("under the permission model without addons, a real process is told which flag to add", () => {
  const [major] = process.versions.node.split(".").map(Number);
  const flag = major! >= 24 ? "--permission" : "--experimental-permission";
  const program = `require(${JSON.stringify(join(packageRoot(), "dist", "index.cjs"))}).loadModel().then(
    () => console.log("LOADED"), (error) => console.log(error.code, error.message))`;
  const { stdout, stderr } = spawnSync(process.execPath, [flag, "--allow-fs-read=*", "-e", program], {
    encoding: "utf8",
  });
  expect(stdout, stderr).toMatch(/^NO_BINARY .*add --allow-addons/s);
});
