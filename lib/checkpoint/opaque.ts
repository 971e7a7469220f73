/**
 * Names that trainers leave beside the weights: arguments, counters, paths. An object of one stays opaque: it is noted
 * that it is there, nothing of it is looked at, and nothing is called.
 */

/** How Python writes such an object down: by `__new__` alone, or by a call of the class or of a function. */
type Form = "create" | "call";
/** Some names are only mentioned. */
type Forms = Form | "both" | "mention";

const OPAQUE: Record<string, Forms> = {
  "argparse.Namespace": "create",
  "types.SimpleNamespace": "both",
  "numpy.core.multiarray.scalar": "call",
  "numpy._core.multiarray.scalar": "call",
  "numpy.core.multiarray._reconstruct": "call",
  "numpy._core.multiarray._reconstruct": "call",
  "numpy._core.numeric._frombuffer": "call",
  "numpy.core.numeric._frombuffer": "call",
  "numpy.dtype": "call",
  "numpy.ndarray": "both",
  "_codecs.encode": "call",
  "builtins.set": "call",
  "builtins.frozenset": "call",
  "builtins.bytearray": "call",
  "builtins.complex": "call",
  "__builtin__.set": "call",
  "__builtin__.frozenset": "call",
  "__builtin__.bytearray": "call",
  "__builtin__.complex": "call",
  "collections.Counter": "call",
  "collections.deque": "call",
  "datetime.date": "call",
  "datetime.datetime": "call",
  "datetime.timedelta": "call",
  "decimal.Decimal": "call",
  "uuid.UUID": "create",
  "easydict.EasyDict": "create",
  "addict.addict.Dict": "create",
  "yacs.config.CfgNode": "create",
  "ml_collections.config_dict.config_dict.ConfigDict": "create",
};

/** Families of such names: any class of these modules. */
const FAMILIES: [RegExp, Forms][] = [
  [/^pathlib(\._local)?\.(Pure)?(Posix|Windows)?Path$/, "call"],
  [/^numpy\.dtypes\.\w+DType$/, "call"],
  [/^omegaconf\.(dictconfig\.DictConfig|listconfig\.ListConfig|base\.(ContainerMetadata|Metadata))$/, "both"],
  [/^omegaconf\.nodes\.\w+Node$/, "both"],
  [/^torch\.(float|double|half|float16|float32|float64|bfloat16|u?int\d+|long|bool|complex\d+)$/, "mention"],
  [/^(builtins|__builtin__)\.(dict|list|tuple|int|float|str|bool|bytes)$/, "mention"],
];

/** Whether a name is on the list, and (given a form) whether its objects are made so. */
export function isOpaque(name: string, form?: Form): boolean {
  const how = Object.hasOwn(OPAQUE, name) ? OPAQUE[name] : FAMILIES.find(([names]) => names.test(name))?.[1];
  return how !== undefined && (form === undefined || how === "both" || how === form);
}
