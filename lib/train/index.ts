/** Training of supernets: how does a folder of tokens become a model that works at many depths? */

export type { EvaluationMetrics, MemoryFigures, StepMetrics, TrainEvent } from "./events.js";
export { type ExportOptions, type ExportResult, exportRun } from "./export.js";
export type { Recipe, TrainPlan } from "./recipe.js";
export { type PlannedTraining, planTraining, type TrainResult, trainSupernet } from "./train.js";
