/**
 * What PyTorch's pickles mean: the allow-list of names, storages, tensors. Nothing is executed: a tensor is a note of where
 * its numbers lie. Source: torch/serialization.py and torch/_utils.py of PyTorch 1.13 and 2.x.
 */

import { InvalidCheckpointError, UnsafeCheckpointError } from "../errors.js";
import { numElements, type StoredDType } from "./dtype.js";
import type { PickleHost } from "./pickle.js";
import {
  HostValue,
  kindOf,
  PickleDict,
  PickleGlobal,
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
};

type Call = (host: TorchHost, args: readonly PickleValue[]) => PickleValue;

const CALLS: Record<string, Call> = {
  "collections.OrderedDict": (host, args) => {
    if (args.length !== 0) throw host.broken("collections.OrderedDict is called with arguments");
    return new PickleDict();
  },
  "torch._utils._rebuild_tensor_v2": (host, args) => host.tensor(args),
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
    if (Object.hasOwn(STORAGES, name) || Object.hasOwn(CALLS, name)) return new PickleGlobal(name);
    throw new UnsafeCheckpointError(
      `${this.path}: the pickle names ${printable(name)}, which is not on the list of allowed names; nothing of it was run`,
    );
  }

  call(callee: PickleGlobal, args: PickleTuple): PickleValue {
    const call = CALLS[callee.name];
    if (call === undefined) throw this.broken(`${callee.name} is called`);
    return call(this, args.items);
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

  /** `(storage, offset, shape, strides, requires_grad, hooks)`. */
  tensor([storage, offset, shape, strides]: readonly PickleValue[]): TorchTensor {
    if (!(storage instanceof TorchStorage)) throw this.broken(`a tensor is made of ${kindOf(storage)}`);
    const sizes = sizesOf(shape);
    const steps = sizesOf(strides);
    if (!isSize(offset) || sizes === null || steps === null || sizes.length !== steps.length) {
      throw this.broken(`a tensor in storage ${printable(storage.key)} has no valid offset, shape and strides`);
    }
    return new TorchTensor(storage, offset, sizes, steps);
  }

  broken(found: string): InvalidCheckpointError {
    return new InvalidCheckpointError(`${this.path}: damaged pickle: ${found}`);
  }
}

/** @throws InvalidCheckpointError unless the tensor is row-major without gaps and inside its storage */
export function requireContiguous(path: string, name: string, tensor: TorchTensor): void {
  const { shape, strides, offset, storage } = tensor;
  const about = `${path}: tensor ${printable(name)} [${shape.join(", ")}]`;
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1 && strides[axis] !== expected) {
      const found = `strides [${strides.join(", ")}]`;
      throw new InvalidCheckpointError(
        `${about} is not contiguous (${found}): it was transposed or expanded; save tensor.contiguous() instead`,
      );
    }
    expected *= shape[axis]!;
  }
  if (!(offset + numElements(shape) <= storage.length)) {
    throw new InvalidCheckpointError(
      `${about} at element ${offset} reaches beyond its storage of ${storage.length} elements`,
    );
  }
}

function sizesOf(value: PickleValue | undefined): number[] | null {
  if (!(value instanceof PickleTuple) || value.items.length > MAX_RANK || !value.items.every(isSize)) return null;
  return [...value.items];
}

function isSize(value: PickleValue | undefined): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
