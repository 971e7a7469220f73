/**
 * Which CUDA devices can be used. The library of kernels and the driver behind it are tried in a child process first,
 * so that a broken driver is an error message and not the end of this process.
 */

import { execFile } from "node:child_process";
import { dirname, join } from "node:path";
import { isVisible } from "../base/exists.js";
import { findBinding } from "./binding.js";
import type { NativeCudaDevice } from "./contract.js";

/** What the trial found. */
export interface CudaReport {
  /** Path of the library of kernels, or null where this build has none. */
  library: string | null;
  /** Devices that the driver knows, those that cannot be used among them. */
  devices: NativeCudaDevice[];
  /** Why no device can be used; null when one can. */
  problem: string | null;
}

export interface TrialOptions {
  nativeBinding?: string | undefined;
  /** Milliseconds that the child may take. */
  timeout?: number;
  /** What the child runs instead of the trial; for tests. */
  script?: string;
}

export const NO_CUDA = "this build has no CUDA backend: nvcc was not found when it was compiled";

const NO_DRIVER = "no NVIDIA driver is loaded here (no /dev/nvidiactl)";

const LIBRARY = "libnextscale_cuda.so";
// What a loaded driver leaves in /dev: on Linux, under WSL, on Jetson.
const DRIVER_FILES = ["/dev/nvidiactl", "/dev/dxg", "/dev/nvhost-ctrl-gpu"];
const TIMEOUT_MS = 30_000;

// Answers with one line of JSON: { devices } or { message }.
const TRIAL = `
const [addon, library] = process.argv.slice(1);
let answer;
try {
  answer = { devices: require(addon).probeCuda(library) };
} catch (error) {
  answer = { message: error.message };
}
process.stdout.write("\\n" + JSON.stringify(answer) + "\\n");
`;

/** The library beside the binary in use, or where NEXTSCALE_CUDA_LIBRARY says. Null when there is none. */
export function findCudaLibrary(nativeBinding?: string): string | null {
  const path = process.env.NEXTSCALE_CUDA_LIBRARY || join(dirname(findBinding(nativeBinding).path), LIBRARY);
  return isVisible(path) ? path : null;
}

const trials = new Map<string, Promise<CudaReport>>();

/** Tries the devices, once per process and library. Never rejects for what the trial finds. */
export function tryCuda(options: TrialOptions = {}): Promise<CudaReport> {
  const library = findCudaLibrary(options.nativeBinding);
  if (library === null) return Promise.resolve({ library, devices: [], problem: NO_CUDA });
  if (options.script === undefined && !DRIVER_FILES.some((path) => isVisible(path))) {
    return Promise.resolve({ library, devices: [], problem: NO_DRIVER }); // no need for a child to find out
  }
  const addon = findBinding(options.nativeBinding).path;
  const key = JSON.stringify([addon, library, options.script, options.timeout]);
  let trial = trials.get(key);
  if (trial === undefined) {
    trial = runTrial(addon, library, options);
    trials.set(key, trial);
  }
  return trial;
}

function runTrial(addon: string, library: string, options: TrialOptions): Promise<CudaReport> {
  const { timeout = TIMEOUT_MS, script = TRIAL } = options;
  // NODE_OPTIONS may hold what a short-lived child must not run (a debugger, say); Electron is Node with this variable
  // only.
  const env = { ...process.env, ELECTRON_RUN_AS_NODE: "1", NODE_OPTIONS: "" };
  return new Promise((resolve) => {
    const failed = (problem: string) => resolve({ library, devices: [], problem });
    try {
      execFile(
        process.execPath,
        ["-e", script, addon, library],
        { env, timeout, killSignal: "SIGKILL", maxBuffer: 1 << 20, windowsHide: true },
        (error, stdout, stderr) => {
          const answer = parseAnswer(stdout);
          if (answer !== null) resolve({ library, ...answer });
          else failed(explainChild(error, stdout, stderr, timeout));
        },
      );
    } catch (error) {
      failed(`the trial of the driver could not be started: ${(error as Error).message}`); // the permission model
    }
  });
}

/** The last line of what the child printed: a driver may chat before it. */
function parseAnswer(stdout: string): Omit<CudaReport, "library"> | null {
  const line = stdout.trim().split("\n").at(-1) ?? "";
  let answer: unknown;
  try {
    answer = JSON.parse(line);
  } catch {
    return null;
  }
  if (typeof answer !== "object" || answer === null) return null;
  const { devices, message } = answer as { devices?: unknown; message?: unknown };
  if (typeof message === "string") return { devices: [], problem: message };
  if (!Array.isArray(devices) || !devices.every(isDevice)) return null;
  return { devices, problem: problemOf(devices) };
}

function isDevice(value: unknown): value is NativeCudaDevice {
  if (typeof value !== "object" || value === null) return false;
  const { index, name, freeBytes, problem } = value as Record<string, unknown>;
  return (
    Number.isInteger(index) &&
    typeof name === "string" &&
    typeof freeBytes === "number" &&
    (problem === null || typeof problem === "string")
  );
}

function problemOf(devices: NativeCudaDevice[]): string | null {
  if (devices.length === 0) return "the driver knows no device";
  if (devices.some(({ problem }) => problem === null)) return null;
  return devices.map(({ index, problem }) => `cuda:${index}: ${problem}`).join("; ");
}

function explainChild(
  error: (Error & { killed?: boolean; signal?: string | null; code?: unknown }) | null,
  stdout: string,
  stderr: string,
  timeout: number,
): string {
  const said = (stderr.trim() || stdout.trim()).split("\n").at(-1)?.slice(0, 300) ?? "";
  const words = said === "" ? "" : ` (it said: ${said})`;
  if (error?.killed) return `the trial of the driver took longer than ${timeout / 1000} s and was ended${words}`;
  if (error?.signal) return `the trial of the driver died of ${error.signal}${words}`;
  if (error !== null) return `the trial of the driver failed: exit ${String(error.code)}${words}`;
  return `the trial of the driver gave no answer${words}`;
}
