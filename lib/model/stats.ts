/** A model's engine and its pool at one moment. */

/** The KV pool at this moment. All figures in bytes. */
export interface PoolStats {
  capacityBytes: number;
  usedBytes: number;
  peakBytes: number;
  /** Promised to running generations. */
  reservedBytes: number;
  generations: { id: number; usedBytes: number; reservedBytes: number }[];
}

/** Measured time of one scale at one depth. */
export interface ScaleTime {
  scale: number;
  depth: number;
  rows: number;
  ms: number;
}

/** The engine at this moment. */
export interface ModelStats {
  pool: PoolStats;
  running: number;
  /** Generations that wait for room in the pool. */
  waiting: number;
  /** Steps of the engine: one scale of a shared batch each. */
  steps: number;
  /** Tokens drawn since the model was opened. */
  tokens: number;
  /** Milliseconds that the engine computed. */
  busyMs: number;
  tokensPerSecond: number;
  maxBatchRows: number;
  scaleTimes: ScaleTime[];
}
