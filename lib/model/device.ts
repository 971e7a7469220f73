/** Where a model will run: what was asked for, what works here, and why. */

import { DeviceUnavailableError, InvalidOptionError } from "../errors.js";
import type { DType, NativeCudaDevice, NativeCudaSpec, TensorEntry } from "../native/contract.js";
import { type CudaReport, tryCuda } from "../native/cuda.js";
import type { ResolvedLoadOptions } from "../options/load.js";

export interface ChosenDevice {
  /** "cpu" or "cuda:N". */
  name: string;
  reason: string;
  /** For the core; null: the CPU. */
  cuda: NativeCudaSpec | null;
  /** Free memory of a CUDA device, in bytes. */
  freeBytes: number | null;
}

type Wish = Pick<ResolvedLoadOptions, "device" | "deviceFrom" | "dtype" | "nativeBinding">;

/** The room that a model needs beside its weights before "auto" takes a device: workspace, pool, tokenizer. */
const SPARE_BYTES = 2 * 2 ** 30;

/**
 * Chooses the device of a model with these tensors.
 *
 * @throws DeviceUnavailableError for a CUDA device that was asked for and cannot be used, InvalidOptionError for a
 *   `dtype` that the CPU does not have
 */
export async function chooseDevice(
  wish: Wish,
  tensors: TensorEntry[],
  report: () => Promise<CudaReport> = () => tryCuda({ nativeBinding: wish.nativeBinding }),
): Promise<ChosenDevice> {
  const asked = wish.deviceFrom === "environment" ? "NEXTSCALE_DEVICE asks for it" : "asked for";
  if (wish.device === "cpu") return onCpu(wish, asked);
  const { library, devices, problem } = await report();
  if (wish.device !== "auto") {
    const index = Number(wish.device.slice("cuda:".length) || "0");
    const device = devices.find((candidate) => candidate.index === index);
    if (library === null || (devices.length === 0 && problem !== null)) {
      throw new DeviceUnavailableError(wish.device, problem ?? "the driver knows no device");
    }
    if (device === undefined) throw new DeviceUnavailableError(wish.device, `there are ${list(devices)}`);
    if (device.problem !== null) throw new DeviceUnavailableError(wish.device, device.problem);
    return onCuda(wish, library, device, tensors, asked);
  }
  const usable = devices.find((device) => device.problem === null);
  if (library === null || usable === undefined) return onCpu(wish, problem ?? "no CUDA device can be used");
  const needed = bytesOf(tensors, computeFormat(wish.dtype, tensors)) + SPARE_BYTES;
  if (usable.freeBytes < needed) {
    return onCpu(wish, `cuda:${usable.index} has ${usable.freeBytes} bytes free, the model needs about ${needed}`);
  }
  return onCuda(wish, library, usable, tensors, `${usable.name}, which passed its trial`);
}

function onCpu({ dtype, device }: Wish, reason: string): ChosenDevice {
  if (dtype === "f16" || dtype === "bf16") {
    if (device === "auto") throw new DeviceUnavailableError("cuda", `${reason}; dtype "${dtype}" needs a CUDA device`);
    throw new InvalidOptionError("dtype", dtype, '"auto" or "f32" on the CPU');
  }
  return { name: "cpu", reason, cuda: null, freeBytes: null };
}

function onCuda(
  { dtype }: Wish,
  library: string,
  { index, freeBytes }: NativeCudaDevice,
  tensors: TensorEntry[],
  reason: string,
): ChosenDevice {
  return { name: `cuda:${index}`, reason, cuda: { library, index, dtype: computeFormat(dtype, tensors) }, freeBytes };
}

/** The format in which most numbers of the file are; bf16 for f32, which no tensor core takes. */
function computeFormat(dtype: "auto" | DType, tensors: TensorEntry[]): DType {
  if (dtype !== "auto") return dtype;
  const f16 = elements(tensors, "f16");
  return f16 > elements(tensors, "bf16") && f16 > elements(tensors, "f32") ? "f16" : "bf16";
}

function elements(tensors: TensorEntry[], dtype: DType): number {
  return tensors.reduce((sum, tensor) => sum + (tensor.dtype === dtype ? count(tensor) : 0), 0);
}

function bytesOf(tensors: TensorEntry[], dtype: DType): number {
  return tensors.reduce((sum, tensor) => sum + count(tensor), 0) * (dtype === "f32" ? 4 : 2);
}

function count({ shape }: TensorEntry): number {
  return shape.reduce((product, side) => product * side, 1);
}

function list(devices: NativeCudaDevice[]): string {
  return devices.map(({ index, name }) => `cuda:${index} (${name})`).join(", ");
}
