/** Images as tokens on disk: made once, read by training and evaluation. */

export { requireTokens, type TokenReader } from "./fit.js";
export type { PictureSettings, SkippedFile } from "./manifest.js";
export { epochOrder } from "./order.js";
export { TokenSet, type TokenSetOptions } from "./token-set.js";
export { type TokenEncoder, type TokenizeOptions, type TokenizeResult, tokenizeImages } from "./tokenize.js";
