import { describe, expect, test } from "vitest";
import * as errors from "../lib/errors.js";

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
});
