// Steps of a tool, counted: what passed, what failed, what could not run here and why.

import { run } from "./run.mjs";

export class Tally {
  passed = 0;
  failed = 0;
  skipped = 0;

  record(name, { passed = 0, failed = 0, skipped = 0 }, note = "") {
    this.passed += passed;
    this.failed += failed;
    this.skipped += skipped;
    console.log(`-- ${name}: ${passed} passed, ${failed} failed, ${skipped} skipped${note && ` (${note})`}`);
  }

  /** A Node program whose exit status is the whole answer counts as one test. */
  check(name, args) {
    console.log(`== ${name}`);
    const ok = run(process.execPath, args).status === 0;
    this.record(name, ok ? { passed: 1 } : { failed: 1 });
    return ok;
  }

  /** The last line, and the exit code: nothing that ran is a failure, too. */
  conclude() {
    process.exitCode = this.failed > 0 || this.passed === 0 ? 1 : 0;
    console.log(`${this.passed} passed, ${this.failed} failed, ${this.skipped} skipped`);
  }
}
