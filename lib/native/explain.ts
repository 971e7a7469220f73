/** Load errors of the native binary -> what to type. */

/** What is known when no binary could be loaded. */
export interface LoadFailure {
  platform: NodeJS.Platform;
  arch: string;
  root: string; // package root
  attempts: { path: string; error: unknown }[];
  isCheckout: boolean; // sources lie beside, so that a build is possible
}

export function explainLoadFailure(failure: LoadFailure): string {
  const lines = [
    `nextscale has no native binary that works on ${failure.platform}-${failure.arch} (Node ${process.version}).`,
  ];
  for (const { path, error } of failure.attempts) lines.push(`  tried ${path}: ${firstLine(error)}`);
  lines.push("Possible solutions:", ...remedies(failure).map((remedy) => `  - ${remedy}`));
  return lines.join("\n");
}

function remedies({ attempts, isCheckout, root }: LoadFailure): string[] {
  const texts = attempts.map(({ error }) => String(error));
  const found: string[] = [];
  if (isCheckout) {
    found.push(`build it: run ./setup in ${root}; or, with the compiler's packages there, "npm run prepare"`);
  } else {
    found.push(
      "install the package again on this very machine (a node_modules folder copied from another platform does not work)",
    );
  }
  if (texts.some((text) => /GLIBC|GLIBCXX/.test(text))) {
    found.push("the C library of this system is older than the binary's: build from a checkout");
  }
  if (texts.some((text) => /musl|Error relocating/.test(text)))
    found.push("on Alpine, build from a checkout with g++ and cmake");
  if (texts.some((text) => /asar/.test(text)) || process.versions.electron !== undefined) {
    found.push('in Electron, add "node_modules/nextscale/**" to asarUnpack');
  }
  if (texts.some((text) => /self.register/.test(text)))
    found.push("two different builds were loaded into one process: keep one");
  found.push(
    "name a binary yourself: environment NEXTSCALE_BINDING=/path/to/nextscale.node, or the option nativeBinding",
  );
  return found;
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n", 1)[0]!;
}
