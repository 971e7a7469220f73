/**
 * What PyTorch's pickles mean: the allow-list of names, storages, tensors. Nothing is executed: a tensor is a note of
 * where its numbers lie. Source: torch/serialization.py and torch/_utils.py of PyTorch 1.13 and 2.x.
 */

import { InvalidCheckpointError, UnsafeCheckpointError } from "../errors.js";
import { bytesOf, numElements, type StoredDType, spanOf } from "./dtype.js";
import { isOpaque } from "./opaque.js";
import type { PickleHost } from "./pickle.js";
import {
  HostValue,
  kindOf,
  PickleDict,
  PickleGlobal,
  PickleOpaque,
  PickleTuple,
  type PickleValue,
  printable,
} from "./pickle-values.js";

/** A run of numbers in the file, known by its key. */
export class TorchStorage extends HostValue {
  readonly kind = "storage";

  constructor(
    readonly key: string,
    readonly dtype: StoredDType,
    readonly length: number, // elements
  ) {
    super();
  }
}

/** A view of a storage. */
export class TorchTensor extends HostValue {
  readonly kind = "tensor";

  constructor(
    readonly storage: TorchStorage,
    readonly offset: number, // elements
    readonly shape: number[],
    readonly strides: number[], // elements
    readonly dtype: StoredDType = storage.dtype,
  ) {
    super();
  }
}

const STORAGES: Record<string, StoredDType> = {
  "torch.FloatStorage": "F32",
  "torch.HalfStorage": "F16",
  "torch.BFloat16Storage": "BF16",
  "torch.DoubleStorage": "F64",
  "torch.LongStorage": "I64",
  "torch.IntStorage": "I32",
  "torch.ShortStorage": "I16",
  "torch.CharStorage": "I8",
  "torch.ByteStorage": "U8",
  "torch.BoolStorage": "BOOL",
  "torch.ComplexFloatStorage": "C64",
  "torch.ComplexDoubleStorage": "C128",
  "torch.storage.UntypedStorage": "U8", // its tensors say their format themselves
};

/** Formats without a storage class of their own. */
const DTYPES: Record<string, StoredDType> = {
  "torch.float8_e4m3fn": "F8_E4M3",
  "torch.float8_e5m2": "F8_E5M2",
  "torch.float8_e8m0fnu": "F8_E8M0",
  "torch.float8_e4m3fnuz": "F8_E4M3FNUZ",
  "torch.float8_e5m2fnuz": "F8_E5M2FNUZ",
  "torch.uint16": "U16",
  "torch.uint32": "U32",
  "torch.uint64": "U64",
};

type Call = (host: TorchHost, args: readonly PickleValue[]) => PickleValue;

const CALLS: Record<string, Call> = {
  "collections.OrderedDict": (host, args) => {
    if (args.length !== 0) throw host.broken("collections.OrderedDict is called with arguments");
    return new PickleDict();
  },
  "collections.defaultdict": () => new PickleDict(), // what it makes for missing keys is of no use here
  "torch._utils._rebuild_tensor_v2": (host, args) => host.tensor(args),
  "torch._utils._rebuild_tensor_v3": (host, args) => host.tensor(args, args[6]),
  "torch._utils._rebuild_parameter": (host, [tensor]) => {
    if (!(tensor instanceof TorchTensor)) throw host.broken(`a parameter is made of ${kindOf(tensor)}`);
    return tensor;
  },
  "torch.Size": (host, [sizes]) => {
    if (!(sizes instanceof PickleTuple)) throw host.broken(`torch.Size is made of ${kindOf(sizes)}`);
    return sizes;
  },
  "torch.device": (host, [name]) => {
    if (typeof name !== "string") throw host.broken(`torch.device is made of ${kindOf(name)}`);
    return name;
  },
};

const MAX_RANK = 16;

export class TorchHost implements PickleHost {
  private readonly storages = new Map<string, TorchStorage>();

  constructor(private readonly path: string) {}

  /** The storage of this key, if the pickle named it. */
  storage(key: string): TorchStorage | undefined {
    return this.storages.get(key);
  }

  resolve(name: string): PickleGlobal {
    if ([STORAGES, CALLS, DTYPES].some((names) => Object.hasOwn(names, name)) || isOpaque(name))
      return new PickleGlobal(name);
    throw this.unsafe(name);
  }

  call({ name }: PickleGlobal, args: PickleTuple, how: "call" | "create"): PickleValue {
    if (isOpaque(name, how)) return new PickleOpaque(name);
    if (isOpaque(name)) throw this.unsafe(name); // made in another way than its own
    const call = CALLS[name];
    if (call === undefined) throw this.broken(`${name} is called`);
    return call(this, args.items);
  }

  private unsafe(name: string): UnsafeCheckpointError {
    const hint = HINTS.find(([names]) => names.test(name))?.[1];
    return new UnsafeCheckpointError(
      `${this.path}: the pickle names ${printable(name)}, which is not on the list of allowed names; nothing of it was run${hint === undefined ? "" : `. ${hint}`}`,
    );
  }

  /** `("storage", class, key, location, elements)`, in the legacy format followed by an optional view. */
  persistent(id: PickleValue): TorchStorage {
    if (!(id instanceof PickleTuple)) throw this.broken(`a persistent id is ${kindOf(id)}`);
    const [tag, type, key, , length, view] = id.items;
    const dtype = type instanceof PickleGlobal ? STORAGES[type.name] : undefined;
    if (tag !== "storage" || dtype === undefined || typeof key !== "string" || !isSize(length)) {
      throw this.broken("a persistent id does not describe a storage");
    }
    if (view !== undefined && view !== null)
      throw this.broken(`storage ${printable(key)} is a view of another storage`);
    const known = this.storages.get(key);
    if (known === undefined) {
      const storage = new TorchStorage(key, dtype, length);
      this.storages.set(key, storage);
      return storage;
    }
    if (known.dtype !== dtype || known.length !== length) {
      throw this.broken(`storage ${printable(key)} is described in two ways`);
    }
    return known;
  }

  /** `(storage, offset, shape, strides, requires_grad, hooks)`; its format is the storage's unless it is named. */
  tensor([storage, offset, shape, strides]: readonly PickleValue[], format?: PickleValue): TorchTensor {
    if (!(storage instanceof TorchStorage)) throw this.broken(`a tensor is made of ${kindOf(storage)}`);
    const sizes = sizesOf(shape);
    const steps = sizesOf(strides);
    if (!isSize(offset) || sizes === null || steps === null || sizes.length !== steps.length) {
      throw this.broken(`a tensor in storage ${printable(storage.key)} has no valid offset, shape and strides`);
    }
    if (format === undefined) return new TorchTensor(storage, offset, sizes, steps);
    const dtype = format instanceof PickleGlobal ? DTYPES[format.name] : undefined;
    if (dtype === undefined) throw this.broken(`a tensor in storage ${printable(storage.key)} has no known format`);
    return new TorchTensor(storage, offset, sizes, steps, dtype);
  }

  broken(found: string): InvalidCheckpointError {
    return new InvalidCheckpointError(`${this.path}: damaged pickle: ${found}`);
  }
}

/** Row-major without gaps? Strides of dimensions with one element mean nothing. */
export function isContiguous({ shape, strides }: TorchTensor): boolean {
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1 && strides[axis] !== expected) return false;
    expected *= shape[axis]!;
  }
  return true;
}

/** A view of a few numbers that lie far apart is not worth the bytes between them. */
const MAX_SPREAD = 16;
const SMALL_BYTES = 2 ** 24;

/** @throws InvalidCheckpointError unless the tensor lies inside its storage, and not too thinly spread */
export function requireView(path: string, name: string, tensor: TorchTensor, itemSize: number): void {
  const { shape, strides, offset, storage } = tensor;
  const about = `${path}: tensor ${printable(name)} [${shape.join(", ")}]`;
  const span = spanOf(shape, isContiguous(tensor) ? undefined : strides, itemSize);
  const elements = numElements(shape);
  const size = storage.length * bytesOf(storage.dtype);
  if (!(Number.isSafeInteger(elements) && offset * itemSize + span <= size)) {
    const steps = isContiguous(tensor) ? "" : ` with strides [${strides.join(", ")}]`;
    throw new InvalidCheckpointError(
      `${about} at element ${offset}${steps} reaches beyond its storage of ${storage.length} elements`,
    );
  }
  const bytes = elements * itemSize;
  if (span > SMALL_BYTES && span > MAX_SPREAD * bytes) {
    throw new InvalidCheckpointError(
      `${about} is not contiguous (strides [${strides.join(", ")}]) and spread over ${span} bytes: save tensor.contiguous() instead`,
    );
  }
  if (!isContiguous(tensor) && bytes > SMALL_BYTES && bytes > MAX_SPREAD * span) {
    throw new InvalidCheckpointError(
      `${about} is expanded from ${span} bytes to ${bytes}: save tensor.contiguous() instead`,
    );
  }
}

/** What a refused name tells about the file. */
const HINTS: [RegExp, string][] = [
  [
    /^(torch\.nn\.|__main__\.|models?\.|torch\.jit\.|torch\.fx\.)/,
    "The file holds a whole module instead of its weights: save model.state_dict()",
  ],
  [
    /^torch\.distributed\.|DTensor|ShardedTensor/,
    "Its tensors are spread over several processes: gather them (full_tensor(), FullStateDictConfig) and save those",
  ],
  [/_rebuild_meta_tensor/, "Its tensors are on the meta device: they have no numbers"],
  [/_rebuild_qtensor|torch\.Q\w+Storage/, "Its weights are quantized: save them in float32, float16 or bfloat16"],
  [/_rebuild_sparse/, "Its weights are sparse: save tensor.to_dense()"],
  [
    /_rebuild_(from_type|wrapper_subclass)|torchao\.|bitsandbytes\./,
    "Its weights are of a class of their own, such as a quantized one: save plain tensors",
  ],
  [/^transformers\.|^diffusers\./, "Save the weights alone, as safetensors or as a state dict"],
];

function sizesOf(value: PickleValue | undefined): number[] | null {
  if (!(value instanceof PickleTuple) || value.items.length > MAX_RANK || !value.items.every(isSize)) return null;
  return [...value.items];
}

function isSize(value: PickleValue | undefined): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
