/** The events of a training as one moving line, or as plain lines. */

import type { TrainEvent } from "../train/events.js";
import { formatBytes, formatCount } from "./format.js";
import { bar, type Progress } from "./progress.js";

const REDRAW_MS = 100;

export class TrainProgress {
  readonly #progress: Progress;
  #shownAt = 0;
  #lastPercent = -1;

  constructor(progress: Progress) {
    this.#progress = progress;
  }

  show(event: TrainEvent): void {
    if (event.type === "step") this.#step(event);
    else if (event.type === "warning") this.#progress.warn(event.message);
    else if (event.type === "export") this.#progress.update(`${bar(event.fraction)} writing ${event.path}`);
    else this.#say(describe(event));
  }

  #say(text: string | null): void {
    if (text === null) return;
    this.#progress.log(text);
    this.#progress.update(text);
    this.#shownAt = performance.now();
  }

  #step(event: Extract<TrainEvent, { type: "step" }>): void {
    const { step, totalSteps, averages, tokensPerSecond, remainingMs } = event;
    const now = performance.now();
    const percent = Math.floor((100 * step) / totalSteps);
    if (now - this.#shownAt < REDRAW_MS && step < totalSteps && percent === this.#lastPercent) return;
    const losses = Object.entries(averages).map(([depth, loss]) => `${depth}: ${loss.toFixed(3)}`);
    const figures = `loss ${losses.join("  ")}  ${formatCount(Math.round(tokensPerSecond))} tokens/s  ${left(remainingMs)} left`;
    this.#progress.update(`${bar(step / totalSteps, 12)} ${step}/${totalSteps}  ${figures}`);
    if (percent > this.#lastPercent) this.#progress.log(`step ${step} of ${totalSteps}  ${figures}`);
    this.#lastPercent = percent;
    this.#shownAt = now;
  }
}

/** What is worth a line of its own. */
function describe(event: TrainEvent): string | null {
  switch (event.type) {
    case "start":
      return event.resumed ? `resumed after step ${event.step}` : `${formatBytes(event.memoryBytes)} taken`;
    case "evaluation":
      return `step ${event.step}  held-out loss at depth ${event.depth}: ${event.loss.toFixed(4)}`;
    case "save":
      return `step ${event.step}  saved ${formatBytes(event.bytes)} in ${Math.round(event.ms)} ms`;
    case "report":
      return `report: ${event.path}`;
    default:
      return null;
  }
}

/** `1 h 5 min`, `12 min`, `40 s`. */
function left(ms: number): string {
  const minutes = Math.round(ms / 60_000);
  if (minutes >= 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return minutes >= 2 ? `${minutes} min` : `${Math.ceil(ms / 1000)} s`;
}
