/** `nextscale doctor`: what this machine is, which binary runs on it and why. Made for pasting into an issue. */

import { statSync } from "node:fs";
import { arch, cpus, platform, release } from "node:os";
import { Command } from "commander";
import { isVisible } from "../../base/exists.js";
import { NextscaleError } from "../../errors.js";
import { type BindingInfo, bundledModelPath, describeBinding, loadBinding } from "../../native/binding.js";
import type { NativeCpuInfo } from "../../native/contract.js";
import { tryCuda } from "../../native/cuda.js";
import { type MachineMemory, type MachineThreads, machineMemory, machineThreads } from "../../native/machine.js";
import { type CliContext, printJson } from "../context.js";
import { addFlags, OUTPUT } from "../flags.js";
import { formatBytes, formatSection } from "../format.js";
import { EXIT_FAILURE, Failed } from "../report.js";
import { packageVersion } from "../version.js";

const EXAMPLES = `
Examples:
  $ nextscale doctor
  $ nextscale doctor --json | jq .binary

Exits with 1 when no native binary works here.
`;

export interface Diagnosis {
  version: string;
  node: string;
  system: { platform: string; arch: string; release: string; libc: string | null };
  cpu: { model: string; cores: number; boundBy: MachineThreads["boundBy"]; target: string | null; supported: string[] };
  memory: { totalBytes: number; freeBytes: number; limitBytes: number | null; boundBy: MachineMemory["boundBy"] };
  binary: BindingInfo | null;
  /** Why there is no binary. */
  binaryError: string | null;
  devices: { name: string; available: boolean; reason: string }[];
  sharp: string | null;
  bundledModel: { path: string; bytes: number | null };
  environment: Record<string, string>;
}

export function doctorCommand(context: CliContext): Command {
  const command = new Command("doctor").description(
    "say what this machine is, which binary was loaded and which device would be used",
  );
  return addFlags(command, [OUTPUT.pick("json")])
    .addHelpText("after", EXAMPLES)
    .action(async (flags: { json?: boolean }) => {
      const diagnosis = await diagnose(context.env);
      if (flags.json) printJson(context, diagnosis);
      else context.stdout.write(print(diagnosis));
      if (diagnosis.binary === null) throw new Failed(EXIT_FAILURE);
    });
}

export async function diagnose(env: NodeJS.ProcessEnv): Promise<Diagnosis> {
  const { binary, binaryError, info } = probeBinary();
  const modelPath = bundledModelPath();
  const threads = machineThreads();
  const { totalBytes, availableBytes, limitBytes, boundBy } = machineMemory();
  return {
    version: packageVersion(),
    node: process.version,
    system: { platform: platform(), arch: arch(), release: release(), libc: libc() },
    cpu: {
      model: cpus()[0]?.model.trim() ?? "unknown",
      cores: threads.count,
      boundBy: threads.boundBy,
      target: info?.target ?? null,
      supported: info?.supported ?? [],
    },
    memory: { totalBytes, freeBytes: availableBytes, limitBytes, boundBy },
    binary,
    binaryError,
    devices: [
      { name: "cpu", available: binary !== null, reason: cpuReason(info) },
      ...(binary === null ? [] : await cudaDevices()),
    ],
    sharp: await sharpVersion(),
    bundledModel: { path: modelPath, bytes: isVisible(modelPath) ? statSync(modelPath).size : null },
    environment: Object.fromEntries(
      Object.entries(env).filter((entry): entry is [string, string] => /^(NEXTSCALE_|NODE_OPTIONS$)/.test(entry[0])),
    ),
  };
}

function probeBinary(): { binary: BindingInfo | null; binaryError: string | null; info: NativeCpuInfo | null } {
  try {
    return { binary: describeBinding(), binaryError: null, info: loadBinding().cpuInfo() };
  } catch (error) {
    if (!(error instanceof NextscaleError)) throw error;
    return { binary: null, binaryError: error.message, info: null };
  }
}

/** Every CUDA device, or one line that says why there is none. Tried in a child process. */
async function cudaDevices(): Promise<Diagnosis["devices"]> {
  const { devices, problem } = await tryCuda();
  if (devices.length === 0)
    return [{ name: "cuda", available: false, reason: problem ?? "the driver knows no device" }];
  return devices.map((device) => ({
    name: `cuda:${device.index}`,
    available: device.problem === null,
    reason:
      device.problem ??
      `${device.name}, compute capability ${device.capability}, ${formatBytes(device.freeBytes)} free of ` +
        `${formatBytes(device.totalBytes)}, driver for CUDA ${device.driver}`,
  }));
}

function cpuReason(info: NativeCpuInfo | null): string {
  if (info === null) return "no native binary";
  return `${info.target} kernels, the best of ${info.supported.join(", ")} on this CPU`;
}

/** "glibc 2.36", "musl" or null where there is neither. */
function libc(): string | null {
  if (process.platform !== "linux") return null;
  Object.assign(process.report, { excludeNetwork: true }); // a report asks name servers otherwise
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  return header.glibcVersionRuntime === undefined ? "musl" : `glibc ${header.glibcVersionRuntime}`;
}

async function sharpVersion(): Promise<string | null> {
  try {
    return (await import("sharp")).default.versions.sharp ?? "unknown";
  } catch {
    return null;
  }
}

function print(diagnosis: Diagnosis): string {
  const { system, cpu, memory, binary, bundledModel } = diagnosis;
  const limit = memory.limitBytes === null ? "" : `, limited to ${formatBytes(memory.limitBytes)} (${memory.boundBy})`;
  const environment = Object.entries(diagnosis.environment).map(([name, value]) => `${name}=${value}`);
  const machine = formatSection("machine", [
    ["system", `${system.platform}-${system.arch} ${system.release}${system.libc === null ? "" : `, ${system.libc}`}`],
    ["node", diagnosis.node],
    [
      "cpu",
      `${cpu.model}, ${cpu.cores} core${cpu.cores > 1 ? "s" : ""}${cpu.boundBy === "machine" ? "" : ` (${cpu.boundBy})`}`,
    ],
    ["simd", cpu.target === null ? "unknown (no binary)" : `${cpu.target} of ${cpu.supported.join(", ")}`],
    ["memory", `${formatBytes(memory.totalBytes)}, ${formatBytes(memory.freeBytes)} free${limit}`],
  ]);
  const installation = formatSection("nextscale", [
    ["version", diagnosis.version],
    ["binary", binary === null ? "none" : `${binary.path} (${binary.origin}, version ${binary.version})`],
    [
      "digits",
      bundledModel.bytes === null
        ? `missing: ${bundledModel.path}`
        : `${bundledModel.path}, ${formatBytes(bundledModel.bytes)}`,
    ],
    ["sharp", diagnosis.sharp ?? "cannot be loaded: image files cannot be written (npm install sharp)"],
    ["environment", environment.length === 0 ? "-" : environment.join(" ")],
  ]);
  const devices = formatSection(
    "devices",
    diagnosis.devices.map(({ name, available, reason }) => [name, `${available ? "yes" : "no"}: ${reason}`]),
  );
  const failure = diagnosis.binaryError === null ? "" : `\n${diagnosis.binaryError}\n`;
  return `${installation}\n${machine}\n${devices}${failure}`;
}
