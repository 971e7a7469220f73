/** onEvent: what it is told, and that it can break nothing. */

import { afterEach, describe, expect, test, vi } from "vitest";
import type { ModelEvent } from "../lib/model/events.js";
import { fakeModel } from "./support/fake-engine.js";
import { openGolden } from "./support/golden.js";
import { rejection } from "./support/rejections.js";

afterEach(() => vi.restoreAllMocks());

const watched = () => {
  const events: ModelEvent[] = [];
  return { events, ...fakeModel({ onEvent: (event) => void events.push(event) }) };
};

describe("onEvent", () => {
  test("request, start, every scale, end: in this order and once each", async () => {
    const { events, model } = watched();
    await model.generate({ labels: [1, 2], seed: 7, depth: { bridge: 1, subnet: 4 } }).tokens();
    expect(events.map(({ type }) => type)).toEqual(["request", "start", "scale", "scale", "scale", "scale", "end"]);
    const [request] = events;
    expect(request).toEqual({ type: "request", id: 1, images: 2, seed: 7, depths: [8, 4, 4, 4], deadlineMs: null });
    expect(events.filter((event) => event.type === "scale").map(({ depth }) => depth)).toEqual([8, 4, 4, 4]);
    expect(events.at(-1)).toMatchObject({ type: "end", id: 1, code: null, scales: 4 });
    expect((events.at(-1) as { totalMs: number }).totalMs).toBeGreaterThan(0);
  });

  test("a cancelled one ends with ABORTED, a refused one with its code and without a start", async () => {
    const { events, model, engine } = watched();
    const generation = model.generate({ labels: 1 });
    for await (const _ of generation) break;
    expect(events.at(-1)).toMatchObject({ type: "end", code: "ABORTED", scales: 1 });
    events.length = 0;
    engine.failure = { code: "POOL_EXHAUSTED" };
    await rejection(model.generate({ labels: 1 }).tokens());
    expect(events.map((event) => (event.type === "end" ? event.code : event.type))).toEqual([
      "request",
      "POOL_EXHAUSTED",
    ]);
  });

  test("setDepth is told, accepted or not", async () => {
    const { events, model, engine } = watched();
    const generation = model.generate({ labels: 1 });
    expect(generation.setDepth(4)).toBe(true);
    engine.depthFailure = { code: "POOL_EXHAUSTED", message: "no room" };
    expect(() => generation.setDepth(8)).toThrowError("no room");
    await generation.tokens();
    const told = events.flatMap((event) => (event.type === "depth" ? [[event.depth, event.accepted]] : []));
    expect(told).toEqual([
      [4, true],
      [8, false],
    ]);
  });

  test.each([
    [
      "throws",
      () => {
        throw new Error("a listener's fault");
      },
    ],
    [
      "rejects",
      async () => {
        throw new Error("a listener's fault");
      },
    ],
  ] as [string, () => void][])("a listener that %s is warned of once and changes nothing", async (_, onEvent) => {
    const warn = vi.spyOn(process, "emitWarning").mockImplementation(() => undefined);
    const { model } = fakeModel({ onEvent });
    const plain = fakeModel().model;
    const options = { labels: 3, seed: 1 };
    const tokens = await model.generate(options).tokens();
    expect([...tokens.flat]).toEqual([...(await plain.generate(options).tokens()).flat]);
    await model.generate(options).images();
    expect(warn).toHaveBeenCalledTimes(1);
    expect(String(warn.mock.calls[0]![0])).toContain("a listener's fault");
  });

  test("a real engine: ids are those of the pool, waiting is measured, first come first served", async () => {
    const events: ModelEvent[] = [];
    const wide = await openGolden("digits");
    const bytes = wide.peakBytes(8);
    await wide.dispose();
    const model = await openGolden("digits", "var.pth", {
      kvPool: { bytes },
      onEvent: (event) => void events.push(event),
    });
    const all = [1, 2, 3].map((label) => model.generate({ labels: label }).tokens());
    const inPool = new Set<number>();
    const timer = setInterval(() => model.pool.generations.map(({ id }) => inPool.add(id)), 1);
    await Promise.all(all);
    clearInterval(timer);
    const ids = events.flatMap((event) => (event.type === "request" ? [event.id] : []));
    const starts = events.flatMap((event) => (event.type === "start" ? [event] : []));
    expect(starts.map(({ id }) => id)).toEqual(ids);
    expect([...inPool].every((id) => ids.includes(id))).toBe(true);
    // One at a time fits: the third waits for the other two.
    const [first, , third] = starts;
    const total = events.flatMap((event) => (event.type === "end" && event.id === ids[1] ? [event.totalMs] : []))[0]!;
    expect(third!.waitedMs).toBeGreaterThan(0.5 * total);
    expect(first!.waitedMs).toBeLessThan(third!.waitedMs);
    await model.dispose();
  });
});
