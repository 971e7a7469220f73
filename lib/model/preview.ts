/**
 * The linear preview: RGB = M · (fHat, 1), one 3 × (E+1) matrix per tokenizer, fitted by least squares against the real
 * decoder. It costs E multiplications per pixel of the latent where the decoder costs more than the scale itself.
 */

import { TimeSlice } from "../base/time-slice.js";
import type { Architecture } from "../values/architecture.js";

/** What a fit needs of a model. */
export interface PreviewSource {
  readonly architecture: Architecture;
  /** Tokens of images of the model, one per label, from fixed seeds: `[labels, numTokens]`. */
  sample(labels: number[]): Promise<Int32Array>;
  /** What the decoder reads for these tokens, `[images, E, P, P]`. */
  featureMaps(tokens: Int32Array): Promise<Float32Array>;
  /** What it makes of that, `[images, 3, S, S]`, RGB in [0, 1]. */
  pictures(tokens: Int32Array): Promise<Float32Array>;
}

/** Latent positions that a fit looks at, at least: a few dozen for each of the E+1 unknowns. */
const MIN_POSITIONS = 1024;

/** Fits the preview matrix: `[3, E+1]` row by row, RGB in [0, 1]. Takes the time of a few generations. */
export async function fitPreview(source: PreviewSource): Promise<Float32Array> {
  const { architecture } = source;
  const side = architecture.sides.at(-1)!; // P
  const count = Math.min(16, Math.max(2, Math.ceil(MIN_POSITIONS / (side * side))));
  const labels = Array.from({ length: count }, (_, i) => Math.floor((i * architecture.numClasses) / count));
  const tokens = await source.sample(labels);
  const fHats = await source.featureMaps(tokens);
  const pictures = await source.pictures(tokens);
  const system = new NormalEquations(architecture.codeDim + 1);
  for (let image = 0; image < count; image++) {
    const [fHat, picture] = [fHats, pictures].map((all) => {
      const size = all.length / count;
      return all.subarray(image * size, (image + 1) * size);
    });
    await addImage(system, fHat!, picture!, side, architecture.imageSide);
  }
  return system.solve();
}

/** One row of the system per latent position: its features, and the mean colour of the pixels that it covers. */
async function addImage(
  system: NormalEquations,
  fHat: Float32Array,
  picture: Float32Array,
  side: number,
  imageSide: number,
) {
  const factor = imageSide / side;
  const area = side * side;
  const features = new Float64Array(system.size);
  const colour = new Float64Array(3);
  const slice = new TimeSlice();
  for (let position = 0; position < area; position++) {
    for (let e = 0; e < system.size - 1; e++) features[e] = fHat[e * area + position]!;
    features[system.size - 1] = 1;
    const top = Math.floor(position / side) * factor;
    const left = (position % side) * factor;
    for (let c = 0; c < 3; c++) {
      let sum = 0;
      for (let y = top; y < top + factor; y++) {
        for (let x = left; x < left + factor; x++) sum += picture[(c * imageSide + y) * imageSide + x]!;
      }
      colour[c] = sum / (factor * factor);
    }
    system.add(features, colour);
    if (slice.over) await slice.pause();
  }
}

/** Ridge regression with three right-hand sides, in double precision. */
export class NormalEquations {
  readonly size: number; // unknowns per colour
  readonly #matrix: Float64Array; // [size, size]
  readonly #right: Float64Array; // [size, 3]

  constructor(size: number) {
    this.size = size;
    this.#matrix = new Float64Array(size * size);
    this.#right = new Float64Array(size * 3);
  }

  add(features: Float64Array, colour: Float64Array): void {
    const n = this.size;
    for (let i = 0; i < n; i++) {
      const value = features[i]!;
      for (let j = 0; j < n; j++) this.#matrix[i * n + j]! += value * features[j]!;
      for (let c = 0; c < 3; c++) this.#right[i * 3 + c]! += value * colour[c]!;
    }
  }

  /** `[3, size]`. The ridge keeps features that never vary from blowing up. */
  solve(ridge = 1e-6): Float32Array {
    const n = this.size;
    const a = this.#matrix.slice();
    const x = this.#right.slice();
    let trace = 0;
    for (let i = 0; i < n; i++) trace += a[i * n + i]!;
    for (let i = 0; i < n; i++) a[i * n + i]! += Math.max((ridge * trace) / n, Number.MIN_VALUE);
    for (let pivot = 0; pivot < n; pivot++) {
      // Symmetric and positive definite: elimination needs no row exchange.
      for (let row = pivot + 1; row < n; row++) {
        const factor = a[row * n + pivot]! / a[pivot * n + pivot]!;
        for (let j = pivot; j < n; j++) a[row * n + j]! -= factor * a[pivot * n + j]!;
        for (let c = 0; c < 3; c++) x[row * 3 + c]! -= factor * x[pivot * 3 + c]!;
      }
    }
    for (let row = n - 1; row >= 0; row--) {
      for (let c = 0; c < 3; c++) {
        let sum = x[row * 3 + c]!;
        for (let j = row + 1; j < n; j++) sum -= a[row * n + j]! * x[j * 3 + c]!;
        x[row * 3 + c] = sum / a[row * n + row]!;
      }
    }
    return Float32Array.from({ length: 3 * n }, (_, index) => x[(index % n) * 3 + Math.floor(index / n)]!);
  }
}
