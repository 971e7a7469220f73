/** `nextscale train`: what it prints, writes and refuses. Processes of their own are in 86.kill.test.ts. */

import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { trainCommand } from "../lib/cli/commands/train.js";
import { memoryStream, runCli, scratchFolder } from "./support/cli.js";
import { fakeAddon } from "./support/fake-trainer.js";
import { smallBase, tensorsOf, writeTokenSet } from "./support/training.js";

/** The command over the fake trainer, as run() would call it. */
async function cli(
  words: string[],
  options: { signal?: AbortSignal; onWrite?: (text: string) => void; tty?: boolean } = {},
) {
  const [stdout, stderr] = [memoryStream(options.tty), memoryStream(options.tty)];
  const write = stderr.write.bind(stderr);
  stderr.write = (text) => {
    options.onWrite?.(text);
    return write(text);
  };
  const signal = options.signal ?? new AbortController().signal;
  const loadModel = () => Promise.reject(new Error("this test must not open a model"));
  const command = trainCommand({ stdout, stderr, env: {}, signal, loadModel }, { addon: fakeAddon() });
  const error = await command
    .exitOverride()
    .parseAsync(words, { from: "user" })
    .then(
      () => null,
      (thrown: Error & { code?: string }) => thrown,
    );
  return { error, stdout: stdout.text, stderr: stderr.text };
}

async function config(more: object = {}) {
  const folder = scratchFolder();
  const { pair, fingerprint, tokens } = await smallBase("cli");
  await writeTokenSet(join(folder, "tokens"), tokens);
  await writeTokenSet(join(folder, "heldout"), { ...tokens, fingerprint });
  const path = join(folder, "supernet.json");
  const options = {
    base: pair,
    tokens: "tokens",
    heldout: "heldout",
    depths: [2],
    bridge: 1,
    steps: 6,
    batch: 4,
    samples: 0,
    threads: 1,
  };
  writeFileSync(path, JSON.stringify({ ...options, ...more }));
  return { folder, path };
}

describe("train", () => {
  test("--dry-run prints steps, depths and memory, and writes nothing", async () => {
    const { folder, path } = await config();
    const { error, stdout } = await cli(["--config", path, "--dry-run", "-o", join(folder, "run")]);
    expect(error).toBe(null);
    expect(stdout).toMatch(/steps +6 of 4 images: 1\.2 times 20 images/);
    expect(stdout).toMatch(/depths +2, 4; the first 1 scales at full depth/);
    expect(stdout).toMatch(/memory +\d+(\.\d+)? [KM]iB/);
    expect(existsSync(join(folder, "run"))).toBe(false);
    const { stdout: json } = await cli(["--config", path, "--dry-run", "--json", "-o", join(folder, "run")]);
    expect(JSON.parse(json)).toMatchObject({ plan: { recipe: { totalSteps: 6, subnets: [2] } } });
  });

  test("writes a run, prints the memory before it starts and the held-out table at its end", async () => {
    const { folder, path } = await config();
    const run = join(folder, "run");
    const { error, stdout, stderr } = await cli(["--config", path, "-o", run, "--verbose"]);
    expect(error).toBe(null);
    expect(stderr.indexOf("memory")).toBeGreaterThanOrEqual(0);
    expect(stderr.indexOf("memory")).toBeLessThan(stderr.indexOf("step 1 of 6"));
    expect(stderr).toMatch(/step 6 of 6 {2}loss 2: \d\.\d+ {2}4: \d\.\d+ {2}[\d.]+( k| M)? tokens\/s {2}0 s left/);
    expect(stdout).toMatch(/depth +held-out nats per token +images\n +2 +\d/);
    expect(stdout).toContain(join(run, "model.safetensors"));
    for (const name of ["run.json", "metrics.jsonl", "step-000006.checkpoint", "model.safetensors", "report.html"]) {
      expect(existsSync(join(run, name)), name).toBe(true);
    }
  });

  test("flags override the file; --steps replaces its epochs", async () => {
    const { folder, path } = await config({ steps: undefined, epochs: 100, ratio: 0.5, optimizer: { beta1: 0.8 } });
    const words = [
      "--config",
      path,
      "--dry-run",
      "--json",
      "-o",
      join(folder, "run"),
      "--steps",
      "9",
      "--ratio",
      "0.1:0.7",
    ];
    const more = [
      "--depths",
      "3,2",
      "--bridge",
      "0",
      "--seed",
      "4",
      "--learning-rate",
      "0.001",
      "--memory",
      "1GiB",
      "--average-decay",
      "0.5",
      "--clip-norm",
      "0.25",
    ];
    const { error, stdout } = await cli([...words, ...more]);
    expect(error).toBe(null);
    expect(JSON.parse(stdout)).toMatchObject({
      plan: {
        recipe: {
          totalSteps: 9,
          subnets: [2, 3],
          bridge: 0,
          seed: 4,
          averageDecay: 0.5,
          ratio: { start: 0.1, end: 0.7 },
          optimizer: { beta1: 0.8, clipNorm: 0.25 },
        },
      },
      memory: { budgetBytes: 2 ** 30 },
    });
  });

  test("--no-average is a decay of 0, whatever the file says; without it the file's counts", async () => {
    const { folder, path } = await config({ averageDecay: 0.9 });
    const words = ["--config", path, "--dry-run", "--json", "-o", join(folder, "run")];
    const decayOf = async (...more: string[]) =>
      JSON.parse((await cli([...words, ...more])).stdout).plan.recipe.averageDecay;
    expect(await decayOf()).toBe(0.9);
    expect(await decayOf("--no-average")).toBe(0);
  });

  test("Ctrl-C saves and says how to go on; --resume alone remembers the settings and ends with the same bits", async () => {
    const { folder, path } = await config();
    const [whole, cut] = [join(folder, "whole"), join(folder, "cut")];
    expect((await cli(["-c", path, "-o", whole])).error).toBe(null);
    const controller = new AbortController();
    const onWrite = (text: string) => void (text.includes("step 3 of 6") && controller.abort());
    const stopped = await cli(["-c", path, "-o", cut, "--verbose"], { signal: controller.signal, onWrite });
    expect(stopped.error).toMatchObject({ code: "ABORTED" });
    expect(stopped.stderr).toMatch(/stopped after step 3, which is saved in .*\(--resume\)/);
    const resumed = await cli(["--resume", "-o", cut, "--verbose"]);
    expect(resumed.error).toBe(null);
    expect(resumed.stderr).toContain("resumed after step 3");
    expect(tensorsOf(join(cut, "model.safetensors"))).toEqual(tensorsOf(join(whole, "model.safetensors")));
  });

  test("--export writes the newest checkpoint as a model", async () => {
    const { folder, path } = await config();
    const run = join(folder, "run");
    await cli(["-c", path, "-o", run]);
    const file = join(folder, "mine.safetensors");
    const { error, stdout } = await cli(["--export", run, "-o", file, "--name", "mine"]);
    expect(error).toBe(null);
    expect(stdout).toMatch(/mine\.safetensors: .* weights after step 6/);
    expect(tensorsOf(file)).toEqual(tensorsOf(join(run, "model.safetensors")));
    expect((await cli(["--export", run, "-o", join(folder, "mine.pth")])).error).toMatchObject({ option: "--output" });
    expect((await cli(["--export", folder, "-o", file])).error).toMatchObject({ option: "run" });
  });

  test("shows a bar with the loss of each depth on a terminal", async () => {
    const { folder, path } = await config();
    const { stderr } = await cli(["-c", path, "-o", join(folder, "run")], { tty: true });
    expect(stderr).toMatch(/[█░]{12} 6\/6 {2}loss 2: \d\.\d{3}/);
  });
});

describe("refusals", () => {
  test("go through the one error format, with exit code 2 for usage", async () => {
    const none = await runCli(["train"]);
    expect(none).toMatchObject({ code: 2 });
    expect(none.stderr).toMatch(/error \[INVALID_OPTION\]: .*--config.*--base and --tokens/);
    const { code, stderr } = await runCli(["train", "--ratio", "2"]);
    expect({ code, text: stderr.includes("0..1") }).toEqual({ code: 2, text: true });
    expect((await runCli(["train", "--memory", "lots"])).stderr).toContain("8GiB");
    const missing = await runCli(["train", "--config", join(scratchFolder(), "none.json")]);
    expect(missing).toMatchObject({ code: 1 });
    expect(missing.stderr).toMatch(/error \[IO\]/);
  });

  test("an unknown key of the file, and a folder without tokens, are named", async () => {
    const { folder, path } = await config({ brigde: 2, depth: [2] });
    const { error } = await cli(["-c", path, "-o", join(folder, "run")]);
    expect(error?.message).toMatch(/option "brigde": .*did you mean "bridge"/);
    const other = await config({ tokens: "nothing" });
    mkdirSync(join(other.folder, "nothing"));
    const refused = await cli(["-c", other.path, "-o", join(other.folder, "run")]);
    expect(refused.error).toMatchObject({ code: "INVALID_TOKENS" });
  });

  test("--resume of a folder without a run wants a config", async () => {
    const { error } = await cli(["--resume", "-o", join(scratchFolder(), "none")]);
    expect(error).toMatchObject({ code: "INVALID_OPTION", option: "--output" });
  });

  test("--help has examples", async () => {
    const { code, stdout } = await runCli(["train", "--help"]);
    expect(code).toBe(0);
    expect(stdout).toContain("nextscale train --config supernet.json -o run --resume");
  });
});
