// The op cases: every op of Backend against a reference in double precision, on random odd shapes. A suite stops at the
// first case that fails.
#pragma once

#include <vector>

#include "test/native/ops/bench.h"

namespace nextscale::test {

struct LinearShape {
  size_t m, n, k;
  DType dtype, out_dtype;
  Epilogue epilogue = Epilogue::kStore;
  bool bias = true;
  size_t a_pad = 0, out_pad = 0;
};

struct HeadsShape {
  size_t m, num_heads, head_dim, k;
  DType dtype, kv_dtype;
  bool normalised = true;
};

struct SequenceShape {
  size_t num_rows, num_keys, tail_rows;
};

struct HeadShape {
  size_t num_heads, head_dim;
  DType dtype, kv_dtype;
  size_t pad = 0;
};

void CheckStore(Backend& backend, const LinearShape& shape, DType file, uint64_t seed);
void CheckQkv(Backend& backend, const HeadsShape& heads, uint64_t seed);
void CheckRowsDoNotDependOnBatch(Bench& bench, DType dtype, uint64_t seed);
void LinearSuite(Bench& bench, size_t num_trials);
void QkvSuite(Bench& bench);
void ConvSuite(Bench& bench);
void CheckAttention(Backend& backend, const HeadShape& heads, const std::vector<SequenceShape>& shape, uint64_t seed);
void AttentionSuite(Bench& bench, size_t num_trials);
void AttentionRowSuite(Bench& bench);
void WideAttentionSuite(Bench& bench);
void NormSuite(Bench& bench);
void EmbedSuite(Bench& bench);
void LossSuite(Bench& bench);
void SampleSuite(Bench& bench, size_t num_trials);
void GroupNormSuite(Bench& bench);
void LatentSuite(Bench& bench);
void PictureSuite(Bench& bench);

}  // namespace nextscale::test
