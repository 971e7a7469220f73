#!/usr/bin/env node
/** Entry of `nextscale`: gives the process's streams and signals to run(). */

import { loadModel } from "../model/load.js";
import { Interrupt } from "./report.js";
import { run } from "./run.js";

const SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;
const controller = new AbortController();

for (const [name, exitCode] of Object.entries(SIGNALS)) {
  // Once: the second one meets no listener and kills the process.
  process.once(name, () => {
    process.stderr.write(process.stderr.isTTY ? "\nstopping (once more to kill)\n" : "");
    controller.abort(new Interrupt(name, exitCode));
  });
}
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0); // whoever read the output has seen enough
  process.stderr.write(`error [IO]: cannot write the output: ${error.message}\n`); // a full disk behind it
  process.exit(1);
});

const { stdout, stderr, env } = process;
process.exitCode = await run(process.argv.slice(2), { stdout, stderr, env, signal: controller.signal, loadModel });
