/** What callers hear of generations: each scale, and (for logs and metrics) everything that a model does. */

import type { ErrorCode } from "../errors.js";
import type { Image } from "../image/image.js";
import type { TokenMap } from "../values/tokens.js";

/** What a listener receives after each scale. */
export interface ScaleEvent {
  /** 0-based. */
  index: number;
  /** Number of scales. */
  total: number;
  /** Tokens per row and column. */
  side: number;
  /** Blocks that ran. */
  depth: number;
  /** Why this depth: the plan, a `setDepth`, the deadline, or a deadline that is already missed (`"late"`). */
  reason: "plan" | "set" | "deadline" | "late";
  /** Milliseconds since the generation started to run (waiting for the pool not counted). */
  elapsedMs: number;
  /** Milliseconds that this scale took. */
  scaleMs: number;
  /** Share of all tokens drawn so far, 0..1. */
  progress: number;
  /** One token map per image. */
  tokens: TokenMap[];
  /** One picture per image, when `preview` asks for it. */
  previews: Image[] | null;
  /** Picture of the first image: `previews?.[0]`. */
  preview: Image | null;
}

/**
 * What `onEvent` is told of a generation, in this order: one `request`, one `start` unless it ends in line, its scales,
 * one `end`. `id` is the one of {@link PoolStats.generations}.
 */
export type ModelEvent =
  /** Handed to the engine: it runs, or waits in line for room in the pool. `depths` is its plan. */
  | { type: "request"; id: number; images: number; seed: number | bigint; depths: number[]; deadlineMs: number | null }
  /** It runs; told together with its first scale. `waitedMs`: time in line. */
  | { type: "start"; id: number; waitedMs: number }
  | {
      type: "scale";
      id: number;
      index: number;
      depth: number;
      reason: ScaleEvent["reason"];
      scaleMs: number;
      elapsedMs: number;
    }
  /** `setDepth` was called; `accepted` is false when the pool had no room for it. */
  | { type: "depth"; id: number; depth: number; accepted: boolean }
  /** `code` is null when all scales are drawn. `totalMs` since the request. */
  | { type: "end"; id: number; code: ErrorCode | null; scales: number; totalMs: number };
