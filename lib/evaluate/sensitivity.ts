/**
 * The asymmetry experiment of VARiant (arXiv 2511.16546): what does a shallow subnet cost at one scale alone, in one
 * zone of scales, and at all scales after a bridge? From the last of these comes a recommendation for the length of the
 * bridge.
 */

import type { TokenSet } from "../data/index.js";
import type { ClassMap } from "../labels/index.js";
import type { Model } from "../model/model.js";
import { resolveSensitivitySettings, type SensitivitySettings } from "../options/evaluate.js";
import { numTokens } from "../values/architecture.js";
import { checkModel } from "./evaluate.js";
import { contextOf, type Loss, openTokensFor, Scorer } from "./pass.js";

export interface SensitivityOptions extends SensitivitySettings {
  model: Model;
  /** The set, or its folder. */
  tokens: TokenSet | string | URL;
}

/** The subnet at the scales `[first, last]`, full depth at all others. */
export interface RangeLoss extends Loss {
  first: number;
  last: number;
  /** Nats per token (over all tokens) more than at full depth. */
  cost: number;
  /** The same cost, summed over an image and divided by the tokens of these scales alone. */
  costPerToken: number;
}

/** Full depth at the first `bridge` scales, the subnet at all others. */
export interface BridgeLoss extends Loss {
  bridge: number;
  cost: number;
}

export interface Sensitivity {
  /** Folder of the set. */
  tokens: string;
  images: number;
  /** Which of the model's classes those of the set are, and what decided it. */
  classes: ClassMap;
  sides: number[];
  fullDepth: number;
  /** Of the subnet. */
  depth: number;
  full: Loss;
  /** Each scale alone. */
  scales: RangeLoss[];
  /** Zones of consecutive scales, as equal as they can be. */
  zones: RangeLoss[];
  /** Every length of the bridge, from none to all scales (which costs nothing). */
  bridges: BridgeLoss[];
  /** Nats per token. */
  lossBudget: number;
  /** The shortest bridge that stays within the budget, and so do all longer ones. */
  recommendedBridge: number;
}

/** The first and the last scale of a zone. */
type Range = [first: number, last: number];

/**
 * Default budget, as a share of what no bridge at all costs. In cross entropy every token counts the same, so nearly
 * all of the cost is that of the large, late scales: a small budget would only ever recommend full depth everywhere.
 */
const DEFAULT_SHARE = 0.9;

/**
 * Measures the cost of a subnet (by default half of the blocks) by scale, by zone and by bridge, in held-out cross
 * entropy.
 *
 * @throws InvalidOptionError, InvalidTokensError, IoError, AbortError, DisposedError
 */
export async function measureSensitivity(options: SensitivityOptions): Promise<Sensitivity> {
  const { model: given, tokens, ...settings } = options ?? {};
  const model = checkModel(given);
  const set = await openTokensFor(model, tokens);
  const context = contextOf(model, set);
  const { depth, zones: numZones, lossBudget: budget, ...scoring } = resolveSensitivitySettings(settings, context);
  const { fullDepth, numScales } = context;
  const all = Array.from({ length: numScales }, (_, scale) => scale);
  const ranges: Record<"scales" | "zones" | "bridges", Range[]> = {
    scales: all.map((scale) => [scale, scale]),
    zones: zoneRanges(numScales, numZones),
    bridges: all.map((bridge) => [bridge, numScales - 1]),
  };
  const toPlan = ([first, last]: Range) => all.map((scale) => (scale >= first && scale <= last ? depth : fullDepth));
  const plans = [all.map(() => fullDepth), ...Object.values(ranges).flat().map(toPlan)];
  const { losses, classes } = await scoreEach(plans, (passes) => new Scorer(model, set, scoring, passes));
  const full = losses.get(plans[0]!.join())!;
  const measured = (range: Range): RangeLoss => {
    const loss = losses.get(toPlan(range).join())!;
    const cost = loss.mean - full.mean;
    const [first, last] = range;
    const shallow = numTokens(set.sides.slice(first, last + 1));
    return { first, last, cost, costPerToken: (cost * set.numTokens) / shallow, ...loss };
  };
  const bridges: BridgeLoss[] = ranges.bridges.map((range) => {
    const { first: bridge, last: _, costPerToken: __, ...loss } = measured(range);
    return { bridge, ...loss };
  });
  bridges.push({ bridge: numScales, cost: 0, ...full });
  const lossBudget = budget ?? DEFAULT_SHARE * Math.max(0, bridges[0]!.cost);
  return {
    tokens: set.folder,
    images: scoring.indices.length,
    classes,
    sides: [...set.sides],
    fullDepth,
    depth,
    full,
    scales: ranges.scales.map(measured),
    zones: ranges.zones.map(measured),
    bridges,
    lossBudget,
    recommendedBridge: recommendBridge(bridges, lossBudget),
  };
}

/** The shortest bridge from which on every one stays within the budget. `bridges` ascend to all scales. */
export function recommendBridge(bridges: readonly Pick<BridgeLoss, "bridge" | "cost">[], lossBudget: number): number {
  let recommended = bridges.at(-1)!.bridge; // full depth everywhere costs nothing
  for (const { bridge, cost } of [...bridges].reverse()) {
    if (cost > lossBudget) break;
    recommended = bridge;
  }
  return recommended;
}

/** `[first, last]` of each zone; for 10 scales and 3 zones those of the paper: 0-2, 3-5, 6-9. */
export function zoneRanges(numScales: number, numZones: number): Range[] {
  const start = (zone: number) => Math.floor((zone * numScales) / numZones);
  return Array.from({ length: numZones }, (_, zone) => [start(zone), start(zone + 1) - 1]);
}

/** Every plan once: the longest bridge is the last scale alone, which is measured already. */
async function scoreEach(
  plans: number[][],
  scorerOf: (passes: number) => Scorer,
): Promise<{ losses: Map<string, Loss>; classes: ClassMap }> {
  const distinct = new Map(plans.map((plan) => [plan.join(), plan]));
  const scorer = scorerOf(distinct.size);
  const losses = new Map<string, Loss>();
  for (const [key, plan] of distinct) losses.set(key, await scorer.score(plan));
  return { losses, classes: scorer.classes };
}
