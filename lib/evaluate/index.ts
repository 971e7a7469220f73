/** What a model and its subnets cost on images that it has not seen. */

export { type DepthLoss, type EvaluateOptions, type Evaluation, evaluateModel } from "./evaluate.js";
export type { Loss } from "./pass.js";
export { sensitivityPlot } from "./plot.js";
export {
  type BridgeLoss,
  measureSensitivity,
  type RangeLoss,
  type Sensitivity,
  type SensitivityOptions,
} from "./sensitivity.js";
