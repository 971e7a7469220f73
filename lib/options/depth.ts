/**
 * Depth plans: a number, a list, zones or a deadline become one depth per scale.
 *
 * A bare number `d` is the depth of every scale after the checkpoint's bridge; a checkpoint that names no bridge has
 * none, so that every scale runs at depth `d`. Depth 1 exists only in a network of one block: a subnet has the first
 * and the last.
 */

import { type TSchema, Type } from "@sinclair/typebox";
import { checkInteger, fail } from "./check.js";
import { checkedLater, integer, listOf, number, oneOrMore } from "./kinds.js";
import { type OptionsOf, row, table } from "./table.js";

const bridge = row(integer(0), "leading scales at full depth", {
  otherwise: "what the checkpoint was trained with, else 0",
  flag: "-b, --bridge <n>",
});

export const ZONES = table({
  bridge,
  subnet: row(checkedLater<number>(integer(1).schema), "depth of the remaining scales, 2..D", { needed: true }),
});

export const DEADLINE = table({
  deadlineMs: row(
    number(0.001, 1e9),
    "milliseconds from the start of the generation to its last token map (decoding comes on top): each scale runs at the deepest depth that still meets it",
    { needed: true, flag: "--deadline <ms>" },
  ),
  bridge,
  depths: row(listOf(integer(1), "a non-empty array of depths"), "depths to choose from", {
    otherwise: "those the checkpoint was trained for, else powers of two and D",
  }),
});

/** Depth by zones: full depth for the first scales, a subnet for the rest. */
export interface ZonePlan extends OptionsOf<typeof ZONES> {}

/**
 * Depth by deadline: at each scale the deepest depth that still meets it; the bridge runs at full depth while it allows
 * that.
 */
export interface DeadlinePlan extends OptionsOf<typeof DEADLINE> {}

/**
 * How deep each scale runs.
 * - a number `d`: depth `d` at every scale after the checkpoint's bridge (which is 0 when the checkpoint names none);
 * - a list: one depth per scale;
 * - zones, or a deadline.
 */
export type DepthOption = number | number[] | ZonePlan | DeadlinePlan;

const depths = oneOrMore(integer(1), "a number or one number per scale");

/** @param plans what is accepted beside a number and a list: {@link ZONES}, {@link DEADLINE} */
export const depth = <T>(...plans: { schema: TSchema }[]) =>
  checkedLater<T>(Type.Union([depths.schema, ...plans.map(({ schema }) => schema)]), (option, text) =>
    depths.check(option, depths.parse?.(option, text)),
  );

/** What a plan depends on. */
export interface DepthContext {
  fullDepth: number; // D
  numScales: number;
  /** Scales at full depth that the checkpoint was trained with; 0 when it names none. */
  bridge: number;
  /** Depths that the checkpoint was trained for, ascending; only [D] for a plain network. */
  trainedDepths: readonly number[];
}

/** The canonical form. */
export interface DepthPlan {
  depths: Int32Array; // per scale; the ceiling when there is a deadline
  deadlineMs: number; // 0 = none
  deadlineDepths: Int32Array; // ascending; empty without a deadline
}

/** Least depth that a network of `fullDepth` blocks can run at. */
export function minDepth(fullDepth: number): number {
  return Math.min(2, fullDepth);
}

export function checkDepth(option: string, value: unknown, fullDepth: number): number {
  return checkInteger(option, value, minDepth(fullDepth), fullDepth);
}

/** Validates a {@link DepthOption} and resolves it. `undefined` is full depth. */
export function resolveDepth(option: unknown, context: DepthContext): DepthPlan {
  const { fullDepth, numScales } = context;
  if (option === undefined) return plan(context, numScales, fullDepth);
  if (typeof option === "number") return plan(context, context.bridge, checkDepth("depth", option, fullDepth));
  if (Array.isArray(option)) return listPlan(option, context);
  if (typeof option !== "object" || option === null) {
    fail("depth", option, "a number, one number per scale, { bridge, subnet } or { deadlineMs }");
  }
  if ("deadlineMs" in option) return deadlinePlan(option, context);
  if ("depths" in option) fail("depth.depths", option.depths, "a deadlineMs beside it");
  const zones = ZONES.read(option, "depth");
  const bridge = checkInteger("depth.bridge", zones.bridge ?? context.bridge, 0, numScales);
  return plan(context, bridge, checkDepth("depth.subnet", zones.subnet, fullDepth));
}

/** A plan as people write it: `30×7, 16×3`. */
export function formatDepths(depths: Iterable<number>): string {
  const runs: [depth: number, count: number][] = [];
  for (const depth of depths) {
    const last = runs.at(-1);
    if (last?.[0] === depth) last[1]++;
    else runs.push([depth, 1]);
  }
  return runs.map(([depth, count]) => `${depth}×${count}`).join(", ");
}

/** Depths that a deadline may choose from when neither the caller nor the checkpoint says: powers of two, and D. */
export function defaultDepths(fullDepth: number): number[] {
  const depths: number[] = [];
  for (let depth = minDepth(fullDepth); depth < fullDepth; depth *= 2) depths.push(depth);
  return [...depths, fullDepth];
}

function plan({ fullDepth, numScales }: DepthContext, bridge: number, subnet: number): DepthPlan {
  const depths = Int32Array.from({ length: numScales }, (_, index) => (index < bridge ? fullDepth : subnet));
  return { depths, deadlineMs: 0, deadlineDepths: new Int32Array(0) };
}

function listPlan(list: unknown[], { fullDepth, numScales }: DepthContext): DepthPlan {
  if (list.length !== numScales) fail("depth", list, `one number per scale (${numScales} of them)`);
  const depths = list.map((depth, index) => checkDepth(`depth[${index}]`, depth, fullDepth));
  return { depths: Int32Array.from(depths), deadlineMs: 0, deadlineDepths: new Int32Array(0) };
}

/**
 * Full depth is offered to the bridge only, the given depths to every scale: the ceiling says where, the choices say
 * what. The engine takes the deepest choice under the ceiling that still meets the deadline.
 */
function deadlinePlan(option: object, context: DepthContext): DepthPlan {
  const { fullDepth, numScales } = context;
  if ("subnet" in option) fail("depth.subnet", option.subnet, "no subnet beside deadlineMs (give depths)");
  const zones = DEADLINE.read(option, "depth");
  const bridge = checkInteger("depth.bridge", zones.bridge ?? context.bridge, 0, numScales);
  const known = context.trainedDepths.length > 1 ? context.trainedDepths : defaultDepths(fullDepth);
  const choices = (zones.depths ?? known).map((depth, index) => checkDepth(`depth.depths[${index}]`, depth, fullDepth));
  const ceiling = plan(context, bridge, Math.max(...choices)).depths;
  const all = new Set(bridge > 0 ? [...choices, fullDepth] : choices);
  return { depths: ceiling, deadlineMs: zones.deadlineMs, deadlineDepths: Int32Array.from(all).sort() };
}
