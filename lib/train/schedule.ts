/**
 * The curriculum of a supernet: which depth a step trains, and at what learning rate. Everything here is a function of
 * (seed, step) alone. Source: "Progressive Supernet Training for Efficient Visual Autoregressive Modeling", section 3.
 *
 * Steps count from 0; step `s` is the update number `s + 1`.
 */

import type { LearningRate, Phases, Ratio } from "../options/recipe.js";
import { draw } from "./random.js";

export interface ScheduleOptions {
  seed: number;
  totalSteps: number;
  phases: Phases;
  ratio: Ratio;
  /** Depths that a subnet step draws from, each below `fullDepth`. */
  subnets: readonly number[];
  fullDepth: number;
  numScales: number;
  /** Leading scales at full depth, whatever the draw. */
  bridge: number;
  learningRate: LearningRate;
}

/** What one step trains. */
export interface StepPlan {
  step: number;
  /** In the unit of the phases, fractional. */
  epoch: number;
  phase: keyof Phases;
  /** Probability that this step trains a subnet. */
  ratio: number;
  /** Depth of the flexible zone. */
  depth: number;
  /** Per scale. */
  depths: Int32Array;
  learningRate: number;
}

/**
 * p(epoch): `start` in the first phase, a straight line in the second, `end` in the third. Beyond the last phase it
 * stays at `end`.
 */
export function subnetRatio(epoch: number, { joint, transition }: Phases, { start, end }: Ratio): number {
  if (epoch < joint) return start;
  if (epoch >= joint + transition) return end;
  return start + (end - start) * ((epoch - joint) / transition);
}

export function phaseOf(epoch: number, { joint, transition }: Phases): keyof Phases {
  return epoch < joint ? "joint" : epoch < joint + transition ? "transition" : "subnet";
}

/** Sum of the phases. */
export function numEpochs({ joint, transition, subnet }: Phases): number {
  return joint + transition + subnet;
}

/** Rate of a step: a linear rise, then a fall from the peak to the end, reached at the last step. */
export function learningRateAt(step: number, totalSteps: number, rate: LearningRate): number {
  const { peak, schedule, start, end } = rate;
  const warmup = Math.round(rate.warmup * totalSteps);
  if (step < warmup) return peak * (start + (1 - start) * (step / warmup));
  const done = Math.min(1, (step - warmup) / Math.max(1, totalSteps - 1 - warmup));
  if (schedule === "constant") return peak;
  const share = schedule === "cosine" ? 0.5 + 0.5 * Math.cos(Math.PI * done) : 1 - done;
  return peak * (end + (1 - end) * share);
}

export class Schedule {
  constructor(readonly options: ScheduleOptions) {}

  at(step: number): StepPlan {
    const { totalSteps, phases, ratio, learningRate } = this.options;
    const epoch = (numEpochs(phases) * step) / totalSteps;
    const probability = subnetRatio(epoch, phases, ratio);
    const depth = this.#depthAt(step, probability);
    return {
      step,
      epoch,
      phase: phaseOf(epoch, phases),
      ratio: probability,
      depth,
      depths: this.depthsOf(depth),
      learningRate: learningRateAt(step, totalSteps, learningRate),
    };
  }

  /** Depth per scale when the flexible zone runs at `depth`. */
  depthsOf(depth: number): Int32Array {
    const { numScales, bridge, fullDepth } = this.options;
    return Int32Array.from({ length: numScales }, (_, scale) => (scale < bridge ? fullDepth : depth));
  }

  /** Two draws of two streams: whether a subnet, and which one. Changing the depths does not change the first. */
  #depthAt(step: number, probability: number): number {
    const { seed, subnets, fullDepth } = this.options;
    if (subnets.length === 0 || draw(seed, "subnet", step) >= probability) return fullDepth;
    return subnets[Math.floor(draw(seed, "depth", step) * subnets.length)]!;
  }
}
