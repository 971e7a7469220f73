/** Typings as a user sees them; checked by the compiler alone (npm test, step "types"). */

import type { Generation, Image, Model, NextscaleError, ScaleEvent, Score, TokenMaps } from "../../lib/index.js";
import { AbortError, InvalidOptionError, loadModel, PoolExhaustedError } from "../../lib/index.js";

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
function same<A, B>(_: Equal<A, B>): void {}

export async function sketch(signal: AbortSignal): Promise<void> {
  const model = await loadModel("digits.safetensors", { device: "auto" });
  same<typeof model, Model>(true);
  await loadModel(
    { var: "var_d16.pth", tokenizer: "vae_ch160v4096z32.pth" },
    { device: "cuda:1", kvPool: { dtype: "f16" } },
  );
  await loadModel();

  const generation = model.generate({
    labels: [3, "seven"],
    seed: 42,
    guidance: 1.5,
    topK: 900,
    topP: 0.96,
    depth: { bridge: 6, subnet: 8 },
    preview: "linear",
    signal,
  });
  same<typeof generation, Generation>(true);
  for await (const scale of generation) {
    same<typeof scale, ScaleEvent>(true);
    same<typeof scale.preview, Image | null>(true);
    same<typeof scale.reason, "plan" | "set" | "deadline" | "late">(true);
    generation.setDepth(4);
  }
  const images = await generation.images();
  same<typeof images, Image[]>(true);
  const tokens = await model.encode(images);
  same<typeof tokens, TokenMaps>(true);
  const score = await model.score({ tokens, labels: [3, 7] });
  same<typeof score, Score>(true);
  for (const depth of [8, [8, 8], { subnet: 8 }, { deadlineMs: 400 }, { deadlineMs: 400, depths: [2, 4] }])
    model.generate({ depth });
  await model[Symbol.asyncDispose]();
}

export async function refusals(model: Model): Promise<void> {
  // @ts-expect-error a misspelt option
  model.generate({ guidence: 2 });
  // @ts-expect-error depth is no string
  model.generate({ depth: "8" });
  // @ts-expect-error one of three words
  model.generate({ preview: "yes" });
  // @ts-expect-error score needs labels
  await model.score({ tokens: new Int32Array(30) });
  // @ts-expect-error no such device
  await loadModel("a", { device: "gpu" });
  // @ts-expect-error the pair has two names
  await loadModel({ var: "a" });
}

export function errors(error: NextscaleError): string {
  if (error instanceof PoolExhaustedError) return String(error.deepestFit + error.neededBytes + error.availableBytes);
  if (error instanceof InvalidOptionError) return error.option + error.found + error.expected;
  if (error instanceof AbortError) return String(error.cause);
  // @ts-expect-error no such code
  if (error.code === "NO_SUCH_CODE") return "";
  return error.code;
}
