/** Which class does a name, a number or a file of names mean? */

export {
  CLASS_RULES,
  type ClassMap,
  type ClassNames,
  type ClassRule,
  describeClassMap,
  isIdentity,
  mapClasses,
  mappedNames,
} from "./class-map.js";
export { type Conditions, type LabelMix, partOf, repeated, resolveCondition, resolveConditions } from "./conditions.js";
export { parseLabels, readLabelFile } from "./file.js";
export { duplicates } from "./names.js";
export { ambiguities, checkTyped, type Label, type LabelContext, resolveLabel, resolveLabels } from "./resolve.js";
