/**
 * model.edit: the reference's editing to the token, what stays to the byte, strength, out-painting, variants, refusals.
 */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AbortError, Image, InvalidOptionError, IoError } from "../lib/index.js";
import { loadModel } from "../lib/model/load.js";
import type { Model } from "../lib/model/model.js";
import type { EditOptions } from "../lib/options/edit.js";
import { Golden, goldenConfig, maxDifference, openGolden } from "./support/golden.js";
import { readTensors } from "./support/safetensors.js";

const golden = join(import.meta.dirname, "golden", "edit");
const folder = mkdtempSync(join(tmpdir(), "nextscale-edit-"));
let model: Model; // the bundled digits

beforeAll(async () => {
  model = await loadModel(undefined, { threads: 2 });
});
afterAll(async () => {
  await model.dispose();
  rmSync(folder, { recursive: true, force: true });
});

/** Black and white: 0 = draw. */
function maskImage(side: number, keep: ArrayLike<number>) {
  return { width: side, height: side, data: Uint8Array.from(keep, (kept) => 255 * kept) };
}

describe("the reference's notebook", () => {
  const cases = ["grid_inpaint", "grid_outpaint", "pixels_rect", "pixels_left", "pixels_random", "pixels_checker"];

  test.each(["tiny", "tiny-shared"] as const)("%s: kept tokens and drawn tokens are exact", async (name) => {
    const recorded = readTensors(join(golden, `${name}.safetensors`));
    const source = new Golden(name);
    const { var: config } = goldenConfig(name);
    const sides = config.patch_nums;
    const pixels = source.f32("encode/input"); // [2, 3, S, S] in [-1, 1]
    await using tiny = await openGolden(name);
    const side = tiny.architecture.imageSide;
    for (const key of cases) {
      const mask = recorded.get(`${key}/mask`)!;
      for (const [image, label] of [...recorded.get("labels")!.data].entries()) {
        const edit = tiny.edit({
          image: picture(pixels, image, side),
          mask: maskImage(mask.shape[1]!, mask.data),
          label: label === tiny.architecture.numClasses ? "unconditional" : label,
          guidance: 1.5,
          topK: 1,
          topP: 0,
        });
        const tokens = await edit.tokens();
        for (const [scale, count] of sides.entries()) {
          const area = count * count;
          const kept = recorded.get(`${key}/${scale}/keep`)!.data;
          const drawn = recorded.get(`${key}/${scale}/drawn`)!.data.subarray(image * area, (image + 1) * area);
          const given = source.i32(`encode/${scale}/idx`).subarray(image * area, (image + 1) * area);
          const expected = Array.from(drawn, (token, at) => (kept[at] === 1 ? given[at] : token));
          expect([...tokens.map(0, scale).data], `${key}, image ${image}, scale ${scale}`).toEqual(expected);
        }
      }
    }
  });

  test("tiny: the decoded picture, before the kept pixels go back", async () => {
    const recorded = readTensors(join(golden, "tiny.safetensors"));
    const pixels = new Golden("tiny").f32("encode/input");
    await using tiny = await openGolden("tiny");
    const side = tiny.architecture.imageSide;
    for (const key of ["grid_inpaint", "pixels_rect"]) {
      const mask = recorded.get(`${key}/mask`)!;
      const expected = recorded.get(`${key}/image`)!.data as Float32Array; // [2, 3, S, S] in [0, 1]
      const edit = tiny.edit({
        image: picture(pixels, 0, side),
        mask: maskImage(mask.shape[1]!, mask.data),
        label: 3,
        guidance: 1.5,
        topK: 1,
        topP: 0,
        preserve: "tokens",
      });
      const [image] = await edit.images();
      const found = Float32Array.from({ length: 3 * side * side }, (_, at) => {
        const [channel, pixel] = [Math.floor(at / (side * side)), at % (side * side)];
        return image!.data[3 * pixel + channel]! / 255;
      });
      expect(maxDifference(found, expected.subarray(0, 3 * side * side))).toBeLessThan(0.5 / 255 + 1e-4);
    }
  });
});

/** One image of `[n, 3, S, S]` in [-1, 1] as bytes. The recorded images are bytes: nothing is rounded. */
function picture(pixels: Float32Array, image: number, side: number) {
  const area = side * side;
  const data = new Uint8Array(3 * area);
  for (let pixel = 0; pixel < area; pixel++) {
    for (let channel = 0; channel < 3; channel++) {
      const value = (pixels[(3 * image + channel) * area + pixel]! + 1) * 127.5;
      data[3 * pixel + channel] = Math.round(value);
    }
  }
  return { width: side, height: side, data };
}

/** A seven of the model's own. */
async function seven(): Promise<Image> {
  const [image] = await model.generate({ labels: 7, seed: 5, guidance: 2, topP: 0.95 }).images();
  return image!;
}

describe("what stays", () => {
  test("outside the mask and its feather no byte changes; inside, something does", async () => {
    const image = await seven();
    const rect = { x: 12, y: 10, width: 12, height: 14 };
    for (const feather of [0, 2, 5]) {
      const [edited] = await model.edit({ image, mask: rect, label: 3, seed: 2, feather }).images();
      let inside = 0;
      for (let y = 0; y < 32; y++) {
        for (let x = 0; x < 32; x++) {
          const dx = Math.max(rect.x - x, 0, x - (rect.x + rect.width - 1));
          const dy = Math.max(rect.y - y, 0, y - (rect.y + rect.height - 1));
          const at = 3 * (y * 32 + x);
          const same = edited!.data[at] === image.data[at];
          if (Math.hypot(dx, dy) > feather) expect(same, `${x},${y} with feather ${feather}`).toBe(true);
          if (dx === 0 && dy === 0 && !same) inside++;
        }
      }
      expect(inside).toBeGreaterThan(10);
    }
  });

  test("strength 0 is decode(encode(image)) to the byte, 1 is generate", async () => {
    const image = await seven();
    const [expected] = await model.decode(await model.encode(image));
    const [kept] = await model.edit({ image, strength: 0, label: 3, seed: 2 }).images();
    expect(kept!.data).toEqual(expected!.data);
    const options = { seed: 9, guidance: 2, topP: 0.95 };
    const [fresh] = await model.edit({ image, strength: 1, label: 3, ...options }).images();
    const [generated] = await model.generate({ labels: 3, ...options }).images();
    expect(fresh!.data).toEqual(generated!.data);
  });

  test("an edit in a busy batch equals the same edit alone", async () => {
    const image = await seven();
    const options: EditOptions = {
      image,
      mask: { x: 0, y: 16, width: 32, height: 16 },
      label: 3,
      seed: 4,
      variants: 2,
    };
    const alone = await model.edit(options).tokens();
    const others = Array.from({ length: 5 }, (_, seed) => model.generate({ labels: [seed, seed + 1], seed }));
    const busy = await model.edit(options).tokens();
    await Promise.all(others.map((other) => other.tokens()));
    expect(busy.flat).toEqual(alone.flat);
  });

  test("a plan of depths, setDepth and previews work as in generate", async () => {
    const image = await seven();
    const edit = model.edit({
      image,
      mask: { x: 0, y: 16, width: 32, height: 16 },
      depth: { bridge: 0, subnet: 4 },
      preview: "linear",
      seed: 1,
    });
    const depths: number[] = [];
    for await (const scale of edit) {
      depths.push(scale.depth);
      expect(scale.preview?.width).toBe(scale.preview?.height);
    }
    expect(depths).toEqual(Array(6).fill(4));
    // Before the picture is encoded nothing is drawn, and 32 variants take their time: the new depth holds for the
    // larger scales.
    const changed = model.edit({
      image,
      mask: { x: 0, y: 16, width: 32, height: 16 },
      depth: { bridge: 0, subnet: 4 },
      variants: 32,
    });
    expect(changed.setDepth(2)).toBe(true);
    const later: number[] = [];
    for await (const { depth, reason } of changed) {
      later.push(depth);
      expect(reason).toBe(depth === 2 ? "set" : "plan");
    }
    expect(later.slice(3)).toEqual([2, 2, 2]);
  });

  test("given tokens enter the pool like drawn ones: the peak is that of the plan", async () => {
    await using own = await loadModel(undefined, { threads: 2 });
    const image = await seven();
    await own.edit({ image, mask: { x: 0, y: 16, width: 32, height: 16 }, label: 3, seed: 1, guidance: 2 }).images();
    expect(own.pool.peakBytes).toBe(own.peakBytes(own.architecture.depth));
    expect(own.pool.usedBytes).toBe(0);
  });
});

describe("variants", () => {
  test("come in the order of their seams, each the same as when it is drawn alone", async () => {
    const image = await seven();
    const options: EditOptions = { image, mask: { x: 0, y: 16, width: 32, height: 16 }, label: 3, seed: 11 };
    const edit = model.edit({ ...options, variants: 4 });
    const [images, ranking] = await Promise.all([edit.images(), edit.ranking()]);
    const losses = ranking.map(({ seamLoss }) => seamLoss);
    expect([...losses].sort((a, b) => a - b)).toEqual(losses);
    expect(ranking.map(({ index }) => index).sort()).toEqual([0, 1, 2, 3]);
    for (const [place, { index }] of ranking.entries()) {
      const [alone] = await model.edit({ ...options, firstImage: index }).images();
      expect(images[place]!.data).toEqual(alone!.data);
    }
  });
});

describe("pictures and masks", () => {
  test("files by path and by content; a mask by alpha, by black, by a rectangle or on the grid says the same", async () => {
    const image = await seven();
    const path = join(folder, "seven.png");
    await image.toFile(path);
    const drawn = Array.from({ length: 32 * 32 }, (_, at) => (at >= 16 * 32 ? 1 : 0));
    const rgba = Uint8Array.from(drawn.flatMap((draw) => [9, 9, 9, draw === 1 ? 0 : 255]));
    const alpha = await sharp(rgba, { raw: { width: 32, height: 32, channels: 4 } })
      .png()
      .toBuffer();
    const masks: NonNullable<EditOptions["mask"]>[] = [
      { x: 0, y: 16, width: 32, height: 16 },
      alpha,
      maskImage(
        32,
        drawn.map((draw) => 1 - draw),
      ),
      maskImage(
        8,
        Array.from({ length: 64 }, (_, at) => (at < 32 ? 1 : 0)),
      ),
    ];
    const options = { label: 3, seed: 2 } as const;
    const expected = await model.edit({ image, mask: masks[0]!, ...options }).tokens();
    for (const mask of masks) {
      expect((await model.edit({ image: path, mask, ...options }).tokens()).flat).toEqual(expected.flat);
    }
    const bytes = await image.toBuffer("png");
    expect((await model.edit({ image: bytes, mask: alpha, ...options }).tokens()).flat).toEqual(expected.flat);
  });

  test("expand draws around the picture: it is found again, smaller, in the middle", async () => {
    const image = await seven();
    const [wide] = await model.edit({ image, expand: 16, label: 7, seed: 3, feather: 0 }).images();
    expect([wide!.width, wide!.height]).toEqual([32, 32]);
    const small = await Image.from(image, { side: 16, fit: "fill" });
    for (let y = 0; y < 16; y++) {
      for (let x = 0; x < 16; x++) {
        const found = wide!.data[3 * ((y + 8) * 32 + x + 8)]!;
        expect(Math.abs(found - small.data[3 * (y * 16 + x)]!)).toBeLessThanOrEqual(1);
      }
    }
  });

  test("another aspect is refused, cropped or squeezed", async () => {
    const wide = { width: 48, height: 32, data: new Uint8Array(48 * 32 * 3).fill(90) };
    await expect(model.edit({ image: wide, strength: 0.5 }).images()).rejects.toThrow(/square.*fit.*found 48 x 32/);
    for (const fit of ["cover", "fill"] as const) {
      const mask = { x: 8, y: 0, width: 16, height: 32 };
      const [edited] = await model.edit({ image: wide, mask, fit, seed: 1, feather: 0 }).images();
      const right = edited!.data[3 * (16 * 32 + 31)];
      expect(right).toBe(90);
    }
  });
});

describe("refusals are typed, and say what was found and what was expected", () => {
  const plain = { width: 32, height: 32, data: new Uint8Array(32 * 32 * 3) };
  const rows: [string, () => unknown, RegExp][] = [
    ["no options", () => undefined, /image/],
    ["no image", () => ({ label: 3 }), /image.*undefined/],
    ["a label out of range", () => ({ image: plain, label: 99 }), /"label".*0\.\.10.*found 99/],
    ["an unknown option", () => ({ image: plain, strenght: 1 }), /did you mean "strength"/],
    ["strength beyond 1", () => ({ image: plain, strength: 1.5 }), /"strength".*0\.\.1.*found 1\.5/],
    ["a rectangle without a height", () => ({ image: plain, mask: { x: 0, y: 0, width: 3 } }), /mask\.height/],
    ["expand by nothing", () => ({ image: plain, expand: 0 }), /expand.*at least one side/],
    ["fit beside expand", () => ({ image: plain, expand: 8, fit: "cover" }), /fit.*expand/],
    [
      "strength 0 with a mask",
      () => ({ image: plain, mask: { x: 0, y: 0, width: 8, height: 8 }, strength: 0 }),
      /strength/,
    ],
  ];
  test.each(rows)("%s, at once", (_, options, message) => {
    expect(() => model.edit(options() as EditOptions)).toThrow(InvalidOptionError);
    expect(() => model.edit(options() as EditOptions)).toThrow(message);
  });

  const later: [string, () => EditOptions | Promise<EditOptions>, RegExp][] = [
    [
      "a mask of another size",
      () => ({ image: plain, mask: maskImage(16, new Uint8Array(256)) }),
      /expected 32 x 32.*found 16 x 16/,
    ],
    [
      "a mask that draws nothing",
      () => ({ image: plain, mask: maskImage(32, new Uint8Array(1024).fill(1)) }),
      /nothing to draw/,
    ],
    [
      "a rectangle outside",
      () => ({ image: plain, mask: { x: 30, y: 0, width: 8, height: 8 } }),
      /within the image.s 32 x 32.*found 8 x 8 at 30,0/,
    ],
    [
      "a canvas that is not square",
      () => ({ image: plain, expand: { left: 8 } }),
      /8 more pixels above or below.*found a canvas of 40 x 32/,
    ],
    ["several frames", async () => ({ image: await animated() }), /one frame.*found 2 frames/],
    ["CMYK", async () => ({ image: await cmyk() }), /CMYK/],
    ["16 bits", async () => ({ image: await deep() }), /ushort|16/],
  ];
  test.each(later)("%s, when it is awaited", async (_, options, message) => {
    const edit = model.edit(await options());
    await expect(edit.images()).rejects.toThrow(InvalidOptionError);
    await expect(edit.images()).rejects.toThrow(message);
  });

  test("a file that is not there", async () => {
    await expect(model.edit({ image: join(folder, "none.png") }).images()).rejects.toThrow(IoError);
  });

  test("a full mask is allowed: only the first token is the picture's", async () => {
    const image = await seven();
    const tokens = await model.edit({ image, mask: { x: 0, y: 0, width: 32, height: 32 }, label: 3, seed: 1 }).tokens();
    expect(tokens.map(0, 0).data).toEqual((await model.encode(image)).map(0, 0).data);
    expect(await model.edit({ image, mask: { x: 0, y: 0, width: 32, height: 32 } }).notes()).toEqual([
      expect.stringMatching(/the mask draws everything.*generate/),
    ]);
    expect(await model.edit({ image, strength: 1 }).notes()).toEqual([
      expect.stringMatching(/nothing.*kept.*generate/),
    ]);
    expect(await model.edit({ image, mask: { x: 0, y: 0, width: 8, height: 8 } }).notes()).toEqual([]);
  });

  test("an aborted edit rejects with AbortError, before and after it began", async () => {
    const image = await seven();
    const early = model.edit({ image, strength: 0.5, signal: AbortSignal.abort() });
    await expect(early.images()).rejects.toThrow(AbortError);
    const controller = new AbortController();
    const late = model.edit({ image, strength: 0.5, variants: 64, signal: controller.signal });
    const read = async () => {
      for await (const scale of late) if (scale.index === 1) controller.abort();
    };
    await expect(read()).rejects.toThrow(AbortError);
    await expect(late.images()).rejects.toThrow(AbortError);
  });
});

async function animated(): Promise<Buffer> {
  const frames = Buffer.concat([Buffer.alloc(32 * 32 * 3, 10), Buffer.alloc(32 * 32 * 3, 200)]);
  return sharp(frames, { raw: { width: 32, height: 64, channels: 3, pageHeight: 32 } })
    .gif({ loop: 0 })
    .toBuffer();
}

function cmyk(): Promise<Buffer> {
  return sharp({ create: { width: 32, height: 32, channels: 3, background: "red" } })
    .toColourspace("cmyk")
    .jpeg()
    .toBuffer();
}

function deep(): Promise<Buffer> {
  return sharp({ create: { width: 32, height: 32, channels: 3, background: "red" } })
    .toColourspace("rgb16")
    .png()
    .toBuffer();
}
