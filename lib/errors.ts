/** The one error family of nextscale: classes for `instanceof`, stable `code`s for everything else. */

import { isError } from "./base/kinds.js";

/** Every code that can appear on a {@link NextscaleError}. The list only grows. */
export const ERROR_CODES = [
  "NO_BINARY",
  "DEVICE_UNAVAILABLE",
  "DEVICE_LOST",
  "OUT_OF_MEMORY",
  "POOL_EXHAUSTED",
  "DISPOSED",
  "ABORTED",
  "INVALID_CHECKPOINT",
  "UNSAFE_CHECKPOINT",
  "INVALID_TOKENS",
  "INVALID_OPTION",
  "IO",
  "NOT_FINITE",
  "TRAINING_DIVERGED",
  "INTERNAL",
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

/** Written out, because a minifier renames classes. AbortError is what fetch and the timers of Node use. */
const NAMES: Record<ErrorCode, string> = {
  NO_BINARY: "NoBinaryError",
  DEVICE_UNAVAILABLE: "DeviceUnavailableError",
  DEVICE_LOST: "DeviceLostError",
  OUT_OF_MEMORY: "OutOfMemoryError",
  POOL_EXHAUSTED: "PoolExhaustedError",
  DISPOSED: "DisposedError",
  ABORTED: "AbortError",
  INVALID_CHECKPOINT: "InvalidCheckpointError",
  UNSAFE_CHECKPOINT: "UnsafeCheckpointError",
  INVALID_TOKENS: "InvalidTokensError",
  INVALID_OPTION: "InvalidOptionError",
  IO: "IoError",
  NOT_FINITE: "NotFiniteError",
  TRAINING_DIVERGED: "TrainingDivergedError",
  INTERNAL: "InternalError",
};

/**
 * On every error of the family, in every copy of this package that a process may hold (ESM, CommonJS, a bundle, a
 * realm).
 */
const FAMILY = Symbol.for("nextscale.error");

/**
 * Base of every error that nextscale throws on purpose. `instanceof` asks for the code, not for the class: an error of
 * another copy of the package is one of the family, too.
 */
export class NextscaleError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = NAMES[code];
    this.code = code;
  }

  /** @internal */
  get [FAMILY](): boolean {
    return true;
  }
}

/** No native binary for this platform could be loaded; the message says what to type. */
export class NoBinaryError extends NextscaleError {
  constructor(message: string, options?: ErrorOptions) {
    super("NO_BINARY", message, options);
  }
}

/** The device that was asked for cannot be used; `reason` says why. */
export class DeviceUnavailableError extends NextscaleError {
  readonly device: string;
  readonly reason: string;

  constructor(device: string, reason: string, options?: ErrorOptions) {
    super("DEVICE_UNAVAILABLE", `device "${device}" is not available: ${reason}`, options);
    this.device = device;
    this.reason = reason;
  }
}

/**
 * Something failed on the device in the middle of the work; the message names kernel and op. This model is of no use
 * any more (dispose of it, load it again); other models and the process are.
 */
export class DeviceLostError extends NextscaleError {
  constructor(message: string, options?: ErrorOptions) {
    super("DEVICE_LOST", message, options);
  }
}

/** The operating system or the device refused memory. The model stays usable. */
export class OutOfMemoryError extends NextscaleError {
  constructor(message: string, options?: ErrorOptions) {
    super("OUT_OF_MEMORY", message, options);
  }
}

/** The KV pool has no room (now, or ever) for the depth plan that was asked for. */
export class PoolExhaustedError extends NextscaleError {
  /** Bytes that the plan needs at its peak. */
  readonly neededBytes: number;
  /** Bytes that the pool could give. */
  readonly availableBytes: number;
  /** Deepest depth of the flexible zone that would fit; 0 when none does. */
  readonly deepestFit: number;

  constructor(
    message: string,
    figures: { neededBytes: number; availableBytes: number; deepestFit: number },
    options?: ErrorOptions,
  ) {
    super("POOL_EXHAUSTED", message, options);
    this.neededBytes = figures.neededBytes;
    this.availableBytes = figures.availableBytes;
    this.deepestFit = figures.deepestFit;
  }
}

/** Work was asked of a model that has been disposed. */
export class DisposedError extends NextscaleError {
  constructor(message = "the model has been disposed", options?: ErrorOptions) {
    super("DISPOSED", message, options);
  }
}

/**
 * The work was cancelled: by `cancel()`, by a `break`, by an `AbortSignal` (its reason is the `cause`) or by disposal.
 */
export class AbortError extends NextscaleError {
  constructor(message = "the generation was cancelled", options?: ErrorOptions) {
    super("ABORTED", message, options);
  }
}

/** A checkpoint cannot be read or does not describe a model; the message names file and tensor. */
export class InvalidCheckpointError extends NextscaleError {
  constructor(message: string, options?: ErrorOptions) {
    super("INVALID_CHECKPOINT", message, options);
  }
}

/** A pickle names something outside the allow-list. Nothing of the file was executed. */
export class UnsafeCheckpointError extends NextscaleError {
  constructor(message: string, options?: ErrorOptions) {
    super("UNSAFE_CHECKPOINT", message, options);
  }
}

/** A folder of token shards is damaged, unfinished, or was made with another tokenizer than the model's. */
export class InvalidTokensError extends NextscaleError {
  /** The file or folder. */
  readonly path: string;
  /** What was found, as text. */
  readonly found: string;
  /** What was expected, as text. */
  readonly expected: string;

  constructor(path: string, found: string, expected: string, options?: ErrorOptions) {
    super("INVALID_TOKENS", `${path}: expected ${expected}, found ${found}`, options);
    this.path = path;
    this.found = found;
    this.expected = expected;
  }
}

/** An option has the wrong type, range, name or combination. */
export class InvalidOptionError extends NextscaleError {
  /** Path of the option, such as `depth.subnet` or `labels[2]`. */
  readonly option: string;
  /** What was found, as text. */
  readonly found: string;
  /** What is accepted, as text. */
  readonly expected: string;

  constructor(option: string, found: string, expected: string, options?: ErrorOptions) {
    super("INVALID_OPTION", `option "${option}": expected ${expected}, found ${found}`, options);
    this.option = option;
    this.found = found;
    this.expected = expected;
  }
}

/** A file or folder could not be read or written. */
export class IoError extends NextscaleError {
  constructor(message: string, options?: ErrorOptions) {
    super("IO", message, options);
  }
}

/** Weights or activations are NaN or infinite. */
export class NotFiniteError extends NextscaleError {
  constructor(message: string, options?: ErrorOptions) {
    super("NOT_FINITE", message, options);
  }
}

/** The loss or a gradient of a training step became NaN or infinite. The weights are those of the step before. */
export class TrainingDivergedError extends NextscaleError {
  /** Number of the step, from 1. */
  readonly step: number;
  /** The last good checkpoint, or null when none has been written. */
  readonly checkpoint: string | null;

  constructor(message: string, place: { step: number; checkpoint: string | null }, options?: ErrorOptions) {
    super("TRAINING_DIVERGED", message, options);
    this.step = place.step;
    this.checkpoint = place.checkpoint;
  }
}

/** A promise of nextscale itself was broken: please report it. */
export class InternalError extends NextscaleError {
  constructor(message: string, options?: ErrorOptions) {
    super("INTERNAL", message, options);
  }
}

const CLASSES = {
  NO_BINARY: NoBinaryError,
  DEVICE_UNAVAILABLE: DeviceUnavailableError,
  DEVICE_LOST: DeviceLostError,
  OUT_OF_MEMORY: OutOfMemoryError,
  POOL_EXHAUSTED: PoolExhaustedError,
  DISPOSED: DisposedError,
  ABORTED: AbortError,
  INVALID_CHECKPOINT: InvalidCheckpointError,
  UNSAFE_CHECKPOINT: UnsafeCheckpointError,
  INVALID_TOKENS: InvalidTokensError,
  INVALID_OPTION: InvalidOptionError,
  IO: IoError,
  NOT_FINITE: NotFiniteError,
  TRAINING_DIVERGED: TrainingDivergedError,
  INTERNAL: InternalError,
} satisfies Record<ErrorCode, unknown>;

/** The code of each class. */
const CODES = new Map<unknown, ErrorCode>(ERROR_CODES.map((code) => [CLASSES[code], code]));

Object.defineProperty(NextscaleError, Symbol.hasInstance, {
  value(this: unknown, value: unknown): boolean {
    if (typeof value !== "object" || value === null || (value as NextscaleError)[FAMILY] !== true) return false;
    if (this === NextscaleError) return true;
    const code = CODES.get(this);
    if (code !== undefined) return (value as NextscaleError).code === code;
    return Function.prototype[Symbol.hasInstance].call(this as () => void, value); // a class that a user has derived
  },
});

/** What the core reports about a failure; the extra figures come with POOL_EXHAUSTED. */
export interface NativeFailure {
  code: string | null;
  message: string;
  neededBytes?: number;
  availableBytes?: number;
  deepestFit?: number;
  /** Images of the request that did not fit; what JavaScript knows of it. */
  images?: number | undefined;
}

/** What else would make a request fit into the pool: the obvious things, in figures. */
function poolAdvice({ neededBytes = 0, availableBytes = 0, deepestFit = 0, images = 1 }: NativeFailure): string {
  const fitting = images > 1 && neededBytes > 0 ? Math.floor(availableBytes / Math.ceil(neededBytes / images)) : 0;
  const fewer = fitting > 0 ? `${fitting} labels at a time (of ${images}), or ` : "";
  return `${deepestFit > 0 ? "; so would " : "; what would fit: "}${fewer}a kvPool.bytes of ${neededBytes} or more`;
}

/** Turns a failure of the core into the class of its code. The stack starts where this is called. */
export function errorFromNative(failure: NativeFailure, options?: ErrorOptions): NextscaleError {
  const { code, message } = failure;
  switch (code) {
    case "NO_BINARY":
      return new NoBinaryError(message, options);
    case "DEVICE_UNAVAILABLE":
      return new DeviceUnavailableError("auto", message, options);
    case "DEVICE_LOST":
      return new DeviceLostError(message, options);
    case "OUT_OF_MEMORY":
      return new OutOfMemoryError(message, options);
    case "POOL_EXHAUSTED":
      return new PoolExhaustedError(
        `${message}${poolAdvice(failure)}`,
        {
          neededBytes: failure.neededBytes ?? 0,
          availableBytes: failure.availableBytes ?? 0,
          deepestFit: failure.deepestFit ?? 0,
        },
        options,
      );
    case "DISPOSED":
      return new DisposedError(message, options);
    case "ABORTED":
      return new AbortError(message, options);
    case "INVALID_CHECKPOINT":
      return new InvalidCheckpointError(message, options);
    case "UNSAFE_CHECKPOINT":
      return new UnsafeCheckpointError(message, options);
    case "INVALID_ARGUMENT": // the core's word for it
    case "INVALID_OPTION": {
      const error = new InvalidOptionError("request", message, "a valid request", options);
      error.message = message; // the core's own sentence is better than a composed one
      return error;
    }
    case "IO":
      return new IoError(message, options);
    case "NOT_FINITE":
      return new NotFiniteError(message, options);
    case "INVALID_TOKENS":
      return new InvalidTokensError("tokens", message, "a valid token set", options);
    case "TRAINING_DIVERGED":
      return new TrainingDivergedError(message, { step: 0, checkpoint: null }, options);
    default:
      return new InternalError(message, options);
  }
}

/** Wraps whatever a call into the addon threw; errors of this family pass unchanged. */
export function wrapNative(thrown: unknown): unknown {
  if (thrown instanceof NextscaleError || !isError(thrown)) return thrown;
  const { code, neededBytes, availableBytes, deepestFit } = thrown as Error & Partial<NativeFailure>;
  if (typeof code !== "string") return thrown; // a bug in JavaScript: keep its own type and stack
  return errorFromNative({ code, message: thrown.message, neededBytes, availableBytes, deepestFit }, { cause: thrown });
}

/** Remembers where the user called, for failures that arrive later from another thread. */
export class CallSite {
  readonly stack?: string;

  /** Frames from the caller of `entry` downwards. */
  constructor(entry: (...args: never[]) => unknown) {
    Error.captureStackTrace(this, entry);
  }

  /** Gives `error` the stack of the call. */
  stamp<T extends Error>(error: T): T {
    const frames = this.stack?.split("\n").slice(1).join("\n") ?? "";
    error.stack = `${error.name}: ${error.message}\n${frames}`;
    return error;
  }
}
