/** Which binary is loaded, and what is said when none can be. */

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

test.each([
  [{ isCheckout: true }, "plain", /build it: run \.\/setup in \/r;/],
  [{ isCheckout: false }, "plain", /install the package again/],
  [{}, "version `GLIBC_2.38' not found", /C library .* older/],
  [{}, "Error relocating x.node", /Alpine/],
  [{}, "cannot open /app.asar/x.node", /asarUnpack/],
  [{}, "Module did not self-register", /two different builds/],
])("remedies %#", (change: Partial<LoadFailure>, message, sentence) => {
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
  expect(text).not.toContain("second line");
});
