/** Many images of every class, for measuring a model. */

export { type SampleOptions, type SampleResult, sampleModel } from "./sample.js";
