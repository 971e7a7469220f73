/**
 * Why no native binary could be loaded -> what to type. Each cause has its own remedy; what was tried tells causes
 * apart.
 */

import { isError } from "../base/kinds.js";

/** What is known when no binary could be loaded. */
export interface LoadFailure {
  platform: NodeJS.Platform;
  arch: string;
  root: string; // package root
  attempts: { path: string; error: unknown }[];
  isCheckout: boolean; // sources lie beside, so that a build is possible
  /** Who named the path, where somebody did. */
  named?: "option" | "environment" | null;
  /** Whether the package's own folder was found above this code. It is not in a bundle. Default: yes. */
  packageFound?: boolean;
  /** Whether Node runs with its permission model. */
  permissionModel?: boolean;
  /** Binaries that the package brings, such as `linux-x64/nextscale.glibc.node`; null: not known. */
  prebuilds?: string[] | null;
  /** This system's C library: `glibc 2.36`, `musl`; empty where there is no such choice. */
  libc?: string;
}

export function explainLoadFailure(failure: LoadFailure): string {
  const lines = [
    `nextscale has no native binary that works on ${failure.platform}-${failure.arch} (Node ${process.version}).`,
  ];
  for (const { path, error } of failure.attempts) lines.push(`  tried ${path}: ${firstLine(error)}`);
  lines.push("Possible solutions:", ...remedies(failure).map((remedy) => `  - ${remedy}`));
  return lines.join("\n");
}

const NAME_IT =
  "name a binary yourself: environment NEXTSCALE_BINDING=/path/to/nextscale.node, or the option nativeBinding";

function remedies(failure: LoadFailure): string[] {
  const build = failure.isCheckout
    ? [`build it: run ./setup in ${failure.root}; or, with the compiler's packages there, "npm run prepare"`]
    : [];
  const causes = CAUSES.map((cause) => cause(failure)).filter((remedy) => remedy !== null);
  if (causes.length > 0) return [...causes, ...build, NAME_IT];
  if (build.length > 0) return [...build, NAME_IT];
  return [
    "install the package again on this very machine (a node_modules folder copied from another platform does not work)",
    NAME_IT,
  ];
}

type Cause = (failure: LoadFailure) => string | null;

/** The remedy, if any error that was met says this. */
function said(pattern: RegExp, remedy: (match: RegExpExecArray, failure: LoadFailure) => string): Cause {
  return (failure) => {
    for (const { error } of failure.attempts) {
      const match = pattern.exec(`${(error as NodeJS.ErrnoException | null)?.code ?? ""} ${String(error)}`);
      if (match !== null) return remedy(match, failure);
    }
    return null;
  };
}

/** Only the first of several causes that exclude each other. */
function firstOf(...causes: Cause[]): Cause {
  return (failure) => {
    for (const cause of causes) {
      const remedy = cause(failure);
      if (remedy !== null) return remedy;
    }
    return null;
  };
}

const forbidden = firstOf(
  said(/ERR_DLOPEN_DISABLED|loading addons is disabled|allow-addons/i, (_, { permissionModel }) =>
    permissionModel
      ? "Node's permission model forbids addons: add --allow-addons to --permission"
      : "Node was started with --no-addons (look into NODE_OPTIONS, too): start it without",
  ),
  said(
    /ERR_ACCESS_DENIED|Access to this API has been restricted/,
    (_, { root }) =>
      `Node's permission model hides the package's files: add --allow-fs-read=${root} and --allow-addons to --permission`,
  ),
);

const bundled: Cause = ({ packageFound = true, named }) =>
  packageFound || named
    ? null
    : 'this code was bundled away from its package: leave nextscale out of the bundle (esbuild and tsup: external: ["nextscale"]; webpack: externals; Next.js: serverExternalPackages: ["nextscale"]; Vite: ssr.external) and ship node_modules/nextscale beside it';

const misnamed: Cause = ({ named, attempts }) => {
  const missing = attempts.some(({ error }) =>
    /MODULE_NOT_FOUND|ENOENT|Cannot find module|no such file/i.test(
      `${(error as NodeJS.ErrnoException | null)?.code ?? ""} ${String(error)}`,
    ),
  );
  if (!named || !missing) return null;
  const path = attempts[0]?.path;
  return named === "environment"
    ? `NEXTSCALE_BINDING names ${path}, which is not there: correct or unset it`
    : `the option nativeBinding names ${path}, which is not there: correct it or leave it out`;
};

/** The package brings binaries, but not for here. */
const unsupported: Cause = ({
  prebuilds,
  platform,
  arch,
  libc = "",
  named,
  packageFound = true,
  isCheckout,
  attempts,
}) => {
  if (named || !packageFound || isCheckout) return null;
  if (!attempts.some(({ error }) => /No native build was found/.test(String(error)))) return null;
  if (prebuilds === undefined || prebuilds === null || prebuilds.length === 0) {
    return "the package's folder prebuilds is missing or empty: something removed it (a .dockerignore, a file tracer, a patched install): install the package again, with all of its files";
  }
  const here = prebuilds.filter((file) => file.startsWith(`${platform}-${arch}/`));
  if (here.length > 0) {
    return `the package has ${here.join(", ")}, none of which is for ${libc || "this C library"}: build from a checkout (./setup), and name the result with NEXTSCALE_BINDING`;
  }
  const others = [...new Set(prebuilds.map((file) => file.split("/", 1)[0]!))].join(", ");
  return `there is no binary for ${platform}-${arch} in this package (it has ${others}): build one from a checkout of the sources (./setup), and name it with NEXTSCALE_BINDING`;
};

const incompatible = firstOf(
  said(
    /Error relocating|musl|ld-linux[\w.-]*: cannot open|__\w+_chk: symbol not found|fcntl64: symbol/,
    () =>
      "the binary was built for glibc, this system has musl (Alpine): use an image with glibc (node:22-slim), or on Alpine build from a checkout with g++ and cmake",
  ),
  said(/version [`'](GLIBC(?:XX)?_[\d.]+)' not found|(GLIBC(?:XX)?_[\d.]+)/, ([, quoted, bare], { libc = "" }) => {
    const needed = quoted ?? bare;
    const here = libc === "" ? "" : `, this system has ${libc}`;
    return `the C library of this system is older than the binary's (it needs ${needed}${here}): use a newer system or image, or build from a checkout on this one`;
  }),
  said(
    /wrong ELF class|incompatible architecture|wrong architecture|not a valid Win32|Exec format|cannot open shared object file.*machine|ELF file's phentsize/i,
    (_, { platform, arch }) =>
      `the binary is for another processor than ${arch}: node_modules was copied or mounted from another machine, or Node itself is of another architecture; install on ${platform}-${arch} (in Docker: not from the host's folder; npm install --cpu=${arch} --os=${platform})`,
  ),
  said(
    /invalid ELF header|not a mach-o file|slice is not valid|file too short|bad magic/i,
    (_, { platform }) =>
      `the binary is not one for ${platform}, or is damaged: node_modules was copied from another system, or holds a Git LFS pointer; delete it and install here`,
  ),
  said(/(lib[\w+.-]+\.so[\w.]*): cannot open shared object file/, ([, library]) => {
    const name = library!.split(".so", 1)[0]!;
    const packages: Record<string, string> = {
      libhwy: "libhwy1 (Debian and Ubuntu), highway (Fedora, Arch)",
      "libstdc++": "libstdc++6",
      libgcc_s: "libgcc-s1",
    };
    return `the shared library ${library} is missing: install ${packages[name] ?? `the package that has ${name}`}, or use the package's own prebuild, which brings it`;
  }),
  said(
    /(lib[\w+.-]+\.so[\w.]*): (?:undefined symbol|version)|undefined symbol: (\w+)/,
    ([, library]) =>
      `${library ?? "a library"} is of another version than the binary was built with: build again from the checkout ("npm run build")`,
  ),
);

const CAUSES: Cause[] = [
  forbidden,
  misnamed,
  bundled,
  unsupported,
  incompatible,
  (failure) =>
    failure.attempts.some(({ error }) => /asar/.test(String(error))) || process.versions.electron !== undefined
      ? 'in Electron, add "node_modules/nextscale/**" to asarUnpack'
      : null,
  said(/self.register/, () => "two different builds were loaded into one process: keep one"),
  said(/this is not a nextscale binary/, () => "the file is no binary of nextscale's: name another, or none"),
];

function firstLine(error: unknown): string {
  return (isError(error) ? error.message : String(error)).split("\n", 1)[0]!;
}
