/** Where the native binary is, and the one place that loads it. The build script asks the same functions. */

import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { isVisible } from "../base/exists.js";
import { IoError, NoBinaryError } from "../errors.js";
import type { NativeAddon } from "./contract.js";
import { explainLoadFailure } from "./explain.js";

const requireFrom = createRequire(import.meta.url); // "require" itself is taken in the CommonJS build

/** Which binary is in use, for `doctor`. */
export interface BindingInfo {
  path: string;
  /** How it was found. */
  origin: "option" | "environment" | "local build" | "prebuild";
  version: string;
}

/** Folder of the package: the nearest one above that holds our package.json. */
export function packageRoot(): string {
  return findPackageRoot() ?? resolve(here(), "..");
}

/** null in a bundle: there is no folder of ours above the code. */
function findPackageRoot(): string | null {
  for (let folder = here(); ; folder = dirname(folder)) {
    if (nameIn(join(folder, "package.json")) === "nextscale") return folder;
    if (folder === dirname(folder)) return null;
  }
}

function here(): string {
  return dirname(fileURLToPath(import.meta.url));
}

/** A manifest that is not there, that may not be read, or that is not JSON, is not ours. */
function nameIn(manifest: string): string | undefined {
  try {
    return (JSON.parse(readFileSync(manifest, "utf8")) as { name?: string }).name;
  } catch {
    return undefined;
  }
}

/** Path of the bundled digits model. */
export function bundledModelPath(): string {
  return join(packageRoot(), "models", "digits.safetensors");
}

/** The binary that would be loaded: the override, else what node-gyp-build finds (a local build, then prebuilds). */
export function findBinding(override?: string): Omit<BindingInfo, "version"> {
  if (override !== undefined) return { path: absolute(override), origin: "option" };
  const fromEnvironment = process.env.NEXTSCALE_BINDING;
  if (fromEnvironment) return { path: absolute(fromEnvironment), origin: "environment" };
  const root = packageRoot();
  try {
    const gyp = requireFrom("node-gyp-build") as { resolve(root: string): string };
    const path = gyp.resolve(root);
    return { path, origin: path.startsWith(join(root, "prebuilds")) ? "prebuild" : "local build" };
  } catch (error) {
    throw noBinary([{ path: join(root, "{build/Release,prebuilds}"), error }], error);
  }
}

/** A relative path has no meaning where the working directory is gone. */
function absolute(path: string): string {
  try {
    return resolve(path);
  } catch (cause) {
    throw new IoError(`cannot find ${path}: the working directory does not exist any more`, { cause });
  }
}

const loaded = new Map<string, NativeAddon>();

/** Loads the addon (once per path and thread). Throws a NoBinaryError that says what to do. */
export function loadBinding(override?: string): NativeAddon {
  const { path, origin } = findBinding(override);
  const known = loaded.get(path);
  if (known !== undefined) return known;
  try {
    const addon = requireFrom(path) as NativeAddon;
    if (typeof addon.openModel !== "function") throw new Error("this is not a nextscale binary");
    loaded.set(path, addon);
    return addon;
  } catch (error) {
    throw noBinary([{ path, error }], error, origin);
  }
}

/** Loads the addon and says which one it is. */
export function describeBinding(override?: string): BindingInfo {
  const found = findBinding(override);
  return { ...found, version: loadBinding(override).version };
}

function noBinary(
  attempts: { path: string; error: unknown }[],
  cause: unknown,
  origin?: BindingInfo["origin"],
): NoBinaryError {
  const root = packageRoot();
  const { platform, arch } = process;
  const explanation = explainLoadFailure({
    platform,
    arch,
    root,
    attempts,
    isCheckout: isVisible(join(root, "native")),
    named: origin === "option" || origin === "environment" ? origin : null,
    packageFound: findPackageRoot() !== null,
    permissionModel: "permission" in process && process.permission !== undefined,
    prebuilds: listPrebuilds(join(root, "prebuilds")),
    libc: libcOfSystem(),
  });
  return new NoBinaryError(explanation, { cause });
}

/** Binaries of the package, such as `linux-x64/nextscale.glibc.node`; null where the folder cannot be read. */
function listPrebuilds(folder: string): string[] | null {
  try {
    return readdirSync(folder, { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".node"))
      .map((name) => name.replaceAll("\\", "/"));
  } catch {
    return null;
  }
}

/** As Node's own report tells it: `glibc 2.36`, or `musl` where a Linux has no glibc. */
function libcOfSystem(): string {
  if (process.platform !== "linux") return "";
  const { excludeNetwork } = process.report as { excludeNetwork?: boolean };
  try {
    // Else it asks for names of network peers, which takes time.
    Object.assign(process.report, { excludeNetwork: true });
    const { header } = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
    return header?.glibcVersionRuntime === undefined ? "musl" : `glibc ${header.glibcVersionRuntime}`;
  } catch {
    return "";
  } finally {
    if (excludeNetwork !== undefined) Object.assign(process.report, { excludeNetwork });
  }
}
