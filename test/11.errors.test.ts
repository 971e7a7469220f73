import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { runInNewContext } from "node:vm";
import { describe, expect, test } from "vitest";
import * as errors from "../lib/errors.js";
import { runChild } from "./support/child.js";

describe("errors", () => {
  test("every code has a class, and the core's report of it becomes that class", () => {
    for (const code of errors.ERROR_CODES) {
      const error = errors.errorFromNative({ code, message: "what happened" });
      expect(error).toBeInstanceOf(errors.NextscaleError);
      expect(error.code).toBe(code);
      expect(error.constructor).not.toBe(errors.NextscaleError);
      expect(error.message).toContain("what happened");
    }
  });

  test("the core's INVALID_ARGUMENT is an InvalidOptionError, an unknown code an InternalError", () => {
    expect(errors.errorFromNative({ code: "INVALID_ARGUMENT", message: "m" })).toMatchObject({
      code: "INVALID_OPTION",
      message: "m",
    });
    expect(errors.errorFromNative({ code: "NEW_CODE", message: "m" }).code).toBe("INTERNAL");
    expect(errors.errorFromNative({ code: null, message: "m" }).code).toBe("INTERNAL");
  });

  test("wrapNative keeps ours and JavaScript's own, and wraps what has a code, with its cause", () => {
    const ours = new errors.DisposedError();
    const bug = new TypeError("x is undefined");
    const native = Object.assign(new Error("too small"), {
      code: "POOL_EXHAUSTED",
      neededBytes: 3,
      availableBytes: 2,
      deepestFit: 1,
    });
    expect(errors.wrapNative(ours)).toBe(ours);
    expect(errors.wrapNative(bug)).toBe(bug);
    expect(errors.wrapNative("text")).toBe("text");
    expect(errors.wrapNative(native)).toMatchObject({
      name: "PoolExhaustedError",
      neededBytes: 3,
      availableBytes: 2,
      deepestFit: 1,
      cause: native,
    });
  });

  test("an AbortError is called as everywhere in Node", () => {
    expect(new errors.AbortError()).toMatchObject({ name: "AbortError", code: "ABORTED" });
  });

  test("an InvalidOptionError says which option, what was found and what was expected", () => {
    const error = new errors.InvalidOptionError("topK", "-1", "an integer");
    expect(error).toMatchObject({ option: "topK", found: "-1", expected: "an integer" });
    expect(error.message).toBe('option "topK": expected an integer, found -1');
  });

  test("names are written out: a minifier that renames classes changes none", () => {
    for (const code of errors.ERROR_CODES) {
      const error = errors.errorFromNative({ code, message: "m" });
      const expected = code === "ABORTED" ? "AbortError" : error.constructor.name;
      expect(error.name).toBe(expected);
    }
    // As a bundler leaves it: every class is called S.
    const source = readFileSync(new URL("../dist/index.cjs", import.meta.url), "utf8");
    expect(source).toContain('"InvalidOptionError"');
    expect(source).not.toMatch(/new\.target\.name|constructor\.name/);
  });

  test("instanceof asks for the code, so that the classes of two copies of the package are one", async () => {
    const other = createRequire(import.meta.url)("../dist/index.cjs") as typeof errors;
    const error = new errors.InvalidOptionError("a", "b", "c");
    expect(error).not.toBe(other.InvalidOptionError);
    expect(error instanceof other.InvalidOptionError).toBe(true);
    expect(error instanceof other.NextscaleError).toBe(true);
    expect(error instanceof other.IoError).toBe(false);
    expect(Object.assign(new Error("m"), { code: "INVALID_OPTION" }) instanceof other.InvalidOptionError).toBe(false);
    expect((null as unknown) instanceof other.IoError).toBe(false);
    class Derived extends errors.IoError {}
    expect(new Derived("m") instanceof Derived).toBe(true);
    expect(new errors.IoError("m") instanceof Derived).toBe(false);
    expect(new Derived("m") instanceof errors.IoError).toBe(true);
  });

  test("an error of another realm is wrapped like one of this", () => {
    const foreign = runInNewContext("Object.assign(new Error('out of it'), { code: 'OUT_OF_MEMORY' })");
    expect(foreign instanceof Error).toBe(false);
    expect(errors.wrapNative(foreign)).toMatchObject({ name: "OutOfMemoryError", message: "out of it" });
  });

  // What jest does: the CommonJS build runs in a context of its own, with that context's classes, and without import().
  test("the CommonJS build works in another realm", async () => {
    const { code, stdout, stderr } = await runChild("programs/other-realm.cjs");
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout)).toEqual({
      missing: "IO",
      png: "89504e47",
      clamped: 1,
      buffer: 1,
      tokens: 32,
      option: true,
    });
  });
});
