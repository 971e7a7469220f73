import { expect, test } from "vitest";
import { formatBytes, formatCount, formatMs, formatTable, slug } from "../lib/cli/format.js";
import { bar, createProgress } from "../lib/cli/progress.js";
import { chooseInk, renderImage, roomOf } from "../lib/cli/terminal.js";
import { Image } from "../lib/image/image.js";
import { memoryStream } from "./support/cli.js";

const ROOM = { columns: 40, rows: 20 };

/** 2 x 3: red, green / blue, white / black, grey. */
const picture = new Image(
  2,
  3,
  Uint8ClampedArray.of(255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 128, 128, 128),
);

test("two pixels per cell: the upper one is the ink, the lower one the paper", () => {
  expect(renderImage(picture, "truecolor", ROOM)).toEqual([
    "\x1b[38;2;255;0;0;48;2;0;0;255m▀\x1b[38;2;0;255;0;48;2;255;255;255m▀\x1b[0m",
    "\x1b[0;38;2;0;0;0m▀\x1b[0;38;2;128;128;128m▀\x1b[0m",
  ]);
});

test("256 colours: the cube, and the ramp for greys", () => {
  expect(renderImage(picture, "palette", ROOM)).toEqual([
    "\x1b[38;5;196;48;5;21m▀\x1b[38;5;46;48;5;231m▀\x1b[0m",
    "\x1b[0;38;5;16m▀\x1b[0;38;5;244m▀\x1b[0m",
  ]);
});

test("without escapes, brightness becomes characters", () => {
  const ramp = new Image(
    10,
    2,
    Uint8ClampedArray.from({ length: 60 }, (_, i) => Math.round(((Math.floor(i / 3) % 10) * 255) / 9)),
  );
  expect(renderImage(ramp, "ascii", ROOM)).toEqual([" .:-=+*#%@"]);
});

test("large pictures are averaged into the room, small ones repeated up to a width", () => {
  const checks = new Image(
    64,
    64,
    Uint8ClampedArray.from({ length: 64 * 64 * 3 }, (_, i) => (Math.floor(i / 3) % 2) * 255),
  );
  const lines = renderImage(checks, "truecolor", { columns: 16, rows: 4 });
  expect(lines.length).toBe(4);
  expect(lines[0]!.split("▀").length - 1).toBe(8);
  expect(lines[0]).toContain("38;2;128;128;128;48;2;128;128;128"); // each cell covers as many white as black pixels
  expect(renderImage(picture, "ascii", ROOM, 8).map((line) => line.length)[0]).toBe(8);
  expect(renderImage(picture, "ascii", { columns: 5, rows: 20 }, 8)[0]!.length).toBe(4);
});

test("the ink follows the stream and the environment", () => {
  const terminal = memoryStream(true);
  expect(chooseInk(terminal, {})).toBe("truecolor");
  expect(chooseInk({ ...terminal, getColorDepth: () => 8 }, {})).toBe("palette");
  expect(chooseInk(terminal, { NO_COLOR: "1" })).toBe("ascii");
  expect(chooseInk(terminal, { TERM: "dumb" })).toBe("ascii");
  expect(chooseInk(memoryStream(), {})).toBe("ascii");
  expect(roomOf(terminal)).toEqual({ columns: 79, rows: 19 });
});

test("a live region takes itself back and never wraps; elsewhere there is silence or plain lines", () => {
  const signal = new AbortController().signal;
  const make = (tty: boolean, verbose: boolean, env = {}) => {
    const stderr = memoryStream(tty);
    const loadModel = () => Promise.reject(new Error("no"));
    const progress = createProgress({ stdout: memoryStream(), stderr, env, signal, loadModel }, verbose);
    progress.update("one", ["p1", "p2"]);
    progress.update("x".repeat(100));
    progress.log("kept");
    progress.warn("careful");
    progress.close();
    progress.close();
    return stderr.text;
  };
  expect(make(true, false)).toBe(`p1\np2\none\x1b[2A\r\x1b[0J${"x".repeat(78)}…\r\x1b[0Jwarning: careful\n`);
  expect(make(false, false)).toBe("warning: careful\n");
  expect(make(true, false, { TERM: "dumb" })).toBe("warning: careful\n");
  expect(make(true, true)).toBe("kept\nwarning: careful\n");
  expect(make(false, true)).toBe("kept\nwarning: careful\n");
});

test("numbers for people", () => {
  expect([0, 1023, 1024, 15_728_640, 310e6 * 4, 2 ** 40].map(formatBytes)).toEqual([
    "0 B",
    "1023 B",
    "1.00 KiB",
    "15.0 MiB",
    "1.15 GiB",
    "1.00 TiB",
  ]);
  expect([0.04, 9.96, 412.4, 3210, 125_000].map(formatMs)).toEqual([
    "0.0 ms",
    "10.0 ms",
    "412 ms",
    "3.2 s",
    "2 min 5 s",
  ]);
  expect([999, 40_960, 310_289_408, 2.01e9].map(formatCount)).toEqual(["999", "41.0 k", "310.3 M", "2.01 B"]);
  expect(bar(0.5, 4)).toBe("██░░");
  expect(bar(7, 2)).toBe("██");
  expect(
    formatTable([
      ["name", "bytes"],
      ["a", "1 B"],
      ["long", "10 B"],
    ]),
  ).toBe("  name  bytes\n  a       1 B\n  long   10 B\n");
  expect(["golden retriever, dog", "Épée/../x", "***", "3"].map(slug)).toEqual([
    "golden-retriever",
    "epee-x",
    "image",
    "3",
  ]);
});

test("a terminal that says it has no columns gets the usual 80, not a dot", () => {
  const stream = { ...memoryStream(true), columns: 0 };
  const progress = createProgress(
    {
      stderr: stream,
      stdout: stream,
      env: {},
      signal: new AbortController().signal,
      loadModel: () => Promise.reject(),
    },
    false,
  );
  let text = "";
  stream.write = (part) => {
    text += part;
    return true;
  };
  progress.update("scale 1/6");
  expect(text).toContain("scale 1/6");
  expect(text).not.toContain("…");
});
