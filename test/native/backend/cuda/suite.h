// The cases as tests, for any runner.
#pragma once

#include "test/native/backend/cuda/cases.h"

namespace nextscale::cuda::test {

inline constexpr DType kHalves[] = {DType::kBF16, DType::kF16};
// Number of multiprocessors that makes the choice; kSmall: small tiles, and narrow ones where they will do.
inline constexpr uint32_t kLarge = 1, kSmall = ~0u;

// Shapes in multiples of 8 go to tensor cores, others to the plain kernel.
inline void LinearSuite(Runner& runner, uint64_t num_trials) {
  Random random(1);
  for (uint64_t trial = 0; trial < num_trials; ++trial) {
    const DType dtype = trial % 5 == 4 ? DType::kF32 : kHalves[trial / 4 % 2];
    const DType out_dtype = trial % 3 == 0 ? DType::kF32 : dtype;
    const bool pieces = trial % 4 != 3;
    LinearShape shape{random.Index(1, trial % 2 == 0 ? 16 : 150), random.Index(1, 150),
                      pieces ? 8 * random.Index(1, 40) : random.Index(1, 90), dtype, out_dtype};
    shape.bias = trial % 7 != 0;
    shape.a_pad = pieces ? 8 * random.Index(0, 2) : random.Index(0, 3);
    shape.out_pad = random.Index(0, 5);
    shape.residual = trial % 6 == 1;
    shape.epilogue = !shape.residual && trial % 3 == 1 ? LinearEpilogue::kGelu : LinearEpilogue::kStore;
    const uint32_t small_tiles = DivideUp(shape.m, 64) * DivideUp(shape.n, 64);
    const uint32_t choice = trial / 2 % 3 == 0 ? kLarge : trial / 2 % 3 == 1 ? small_tiles : kSmall;
    ASSERT_NO_FATAL_FAILURE(CheckStore(runner, shape, choice, trial));
    if (!shape.residual) {  // as the map of a convolution: whole tiles of columns, and a padding behind them
      LinearShape map = shape;
      map.n = 64 * DivideUp(shape.n, 64);
      map.out_pad = 8;
      map.padded = true;
      ASSERT_NO_FATAL_FAILURE(CheckStore(runner, map, choice, trial));
    }
    shape.epilogue = LinearEpilogue::kStore;
    if (trial % 2 == 1) {
      ASSERT_NO_FATAL_FAILURE(CheckResidual(runner, shape, choice, trial + 1000));
    }
  }
}

inline void QkvSuite(Runner& runner) {
  uint64_t seed = 1;
  for (const DType dtype : kHalves) {
    for (const DType kv_dtype : {dtype, DType::kF32}) {
      ASSERT_NO_FATAL_FAILURE(CheckQkv(runner, 11, 2, 64, 72, dtype, kv_dtype, true, true, kLarge, ++seed));
      ASSERT_NO_FATAL_FAILURE(CheckQkv(runner, 27, 2, 64, 200, dtype, kv_dtype, true, true, kLarge, ++seed));
      ASSERT_NO_FATAL_FAILURE(CheckQkv(runner, 70, 3, 64, 136, dtype, kv_dtype, true, true, kSmall, ++seed));
      ASSERT_NO_FATAL_FAILURE(
          CheckQkv(runner, 131, 1, 64, 72, dtype, kv_dtype, kv_dtype == dtype, true, kLarge, ++seed));
      ASSERT_NO_FATAL_FAILURE(CheckQkv(runner, 9, 3, 64, 40, dtype, kv_dtype, false, true, kLarge, ++seed));
      ASSERT_NO_FATAL_FAILURE(CheckQkv(runner, 19, 3, 40, 40, dtype, kv_dtype, true, false, kSmall, ++seed));
    }
  }
  ASSERT_NO_FATAL_FAILURE(CheckQkv(runner, 23, 2, 33, 50, DType::kF32, DType::kF32, true, false, kSmall, ++seed));
}

inline void ConvSuite(Runner& runner) {
  uint64_t seed = 1;
  for (const ConvShape shape : {ConvShape::kSame, ConvShape::kDown, ConvShape::kUp}) {
    for (const DType dtype : kHalves) {
      ASSERT_NO_FATAL_FAILURE(CheckConv(runner, shape, 2, 7, 6, 24, 40, dtype, true, kSmall, ++seed));
      ASSERT_NO_FATAL_FAILURE(
          CheckConv(runner, shape, 1, 9, 14, 16, 131, dtype, true, 4, ++seed));  // small tiles, or narrow
      ASSERT_NO_FATAL_FAILURE(CheckConv(runner, shape, 1, 9, 8, 16, 131, dtype, false, kLarge, ++seed));
    }
    ASSERT_NO_FATAL_FAILURE(CheckConv(runner, shape, 2, 5, 7, 3, 5, DType::kF32, true, kLarge, ++seed));
    ASSERT_NO_FATAL_FAILURE(CheckConv(runner, shape, 1, 5, 7, 3, 9, DType::kBF16, false, kLarge, ++seed));
  }
}

inline void AttentionSuite(Runner& runner, uint64_t num_trials) {
  Random random(3);
  for (uint64_t trial = 0; trial < num_trials; ++trial) {
    const DType dtype = trial % 5 == 4 ? DType::kF32 : kHalves[trial / 4 % 2];
    const uint32_t limit = trial % 3 == 0 ? 16 : 90;
    std::vector<SequenceShape> shape;
    for (uint32_t s = random.Index(1, 3); s != 0; --s) {
      const uint32_t rows = random.Index(s == 1 ? 1 : 0, limit), keys = rows + random.Index(1, 150);
      shape.push_back({rows, keys, trial % 2 == 0 ? rows : 0});
    }
    const bool pieces = trial % 4 != 3;
    const uint32_t head_dim = trial % 3 == 1 ? 64 : pieces ? 8 * random.Index(1, 16) : random.Index(1, 128);
    const DType kv_dtype = trial % 7 == 6 ? DType::kF32 : dtype;
    ASSERT_NO_FATAL_FAILURE(CheckAttentionCase(runner, random.Index(1, 3), head_dim, dtype, kv_dtype, shape,
                                               pieces ? 8 * random.Index(0, 1) : random.Index(0, 3), trial));
  }
}

// A row alone gives the bytes that it gives in company: other sequences, other block shape.
inline void AttentionRowSuite(Runner& runner) {
  for (const DType dtype : kHalves) {
    Random random(5);
    AttentionData data(2, 64, dtype, dtype, {{40, 150, 0}, {5, 77, 5}}, 0, random);
    data.Upload(runner);
    AttentionArgs args = data.args;
    const size_t row_bytes = size_t{args.out_stride} * 2, count = 45 * row_bytes;
    unsigned char* const to = runner.Upload(Bytes(count, 0xFF));
    args.out = to;
    runner.Run([&](LaunchList& list) { AddAttention(list, args, "test"); });
    const Bytes together = runner.Download(to, count);
    unsigned char* const alone = runner.Upload(Bytes(count, 0xFF));
    args.out = alone;
    args.sequences = runner.Upload(std::vector<SequenceRows>{data.tables.sequences[1]});
    args.num_sequences = 1;
    args.max_rows = 5;
    runner.Run([&](LaunchList& list) { AddAttention(list, args, "test"); });
    const Bytes found = runner.Download(alone, count);
    EXPECT_EQ(std::memcmp(&found[40 * row_bytes], &together[40 * row_bytes], 5 * row_bytes), 0);
  }
}

inline void NormSuite(Runner& runner) {
  Random random(7);
  for (uint64_t trial = 0; trial < 24; ++trial) {
    const DType dtype = trial % 3 == 2 ? DType::kF32 : kHalves[trial % 2];
    ASSERT_NO_FATAL_FAILURE(CheckModulatedNormCase(runner, dtype, random.Index(2, 30), random.Index(2, 400), trial));
    ASSERT_NO_FATAL_FAILURE(CheckGroupNormCase(runner, dtype, random.Index(1, 200), random.Index(1, 12),
                                               random.Index(2, 6), trial % 2 == 0, trial));
  }
}

inline void SampleSuite(Runner& runner, uint64_t num_trials) {
  Random random(9);
  for (uint64_t trial = 0; trial < num_trials; ++trial) {
    const uint32_t size = trial % 10 == 0 ? 4096 : random.Index(2, 700);
    const uint32_t top_k = trial % 4 == 0 ? 0 : trial % 9 == 1 ? 1 : random.Index(2, size);
    const float top_p = std::vector<float>{0.0f, 0.9f, 0.37f, 1e-6f, 1.0f, 0.96f, 1e-20f}[trial % 7];
    ASSERT_NO_FATAL_FAILURE(CheckSampleCase(runner, 3, size, top_k, top_p, trial % 3 != 0, trial % 3 == 2, trial));
  }
  CheckNotFinite(runner, NAN);
  CheckNotFinite(runner, -INFINITY);
}

inline void LatentSuite(Runner& runner) {
  uint64_t seed = 0;
  for (const uint32_t side : {1u, 2u, 3u, 5u, 8u, 9u}) {
    ASSERT_NO_FATAL_FAILURE(CheckLatent(runner, 2, side, 9, 5, 0.5f, ++seed));
    ASSERT_NO_FATAL_FAILURE(CheckLatent(runner, 1, side, 9, 7, 0.0f, ++seed));
  }
}

// One head as wide as a map, keys in a tail: the tokenizer's attention.
inline void WideAttentionSuite(Runner& runner) {
  uint64_t seed = 0;
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
    ASSERT_NO_FATAL_FAILURE(CheckAttentionCase(runner, 1, 136, dtype, dtype, {{9, 9, 9}}, 3, ++seed));
    ASSERT_NO_FATAL_FAILURE(CheckAttentionCase(runner, 1, 520, dtype, dtype, {{5, 300, 5}, {2, 7, 0}}, 0, ++seed));
    ASSERT_NO_FATAL_FAILURE(CheckAttentionCase(runner, 2, 200, dtype, DType::kF32, {{1, 1, 0}, {0, 3, 0}}, 1, ++seed));
  }
}

inline void EmbedSuite(Runner& runner) {
  uint64_t seed = 0;
  for (const bool labelled : {false, true}) {
    for (const uint32_t branches : {1u, 2u}) {
      ASSERT_NO_FATAL_FAILURE(CheckEmbedCase(runner, 3, branches, 5, 33, labelled, ++seed));
      ASSERT_NO_FATAL_FAILURE(CheckEmbedCase(runner, 1, branches, 1, 300, labelled, ++seed));
    }
  }
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    ASSERT_NO_FATAL_FAILURE(CheckConditionCase(runner, dtype, 131, ++seed));
  }
}

inline void LossSuite(Runner& runner) {
  uint64_t seed = 0;
  for (const uint32_t size : {1u, 31u, 256u, 257u, 4096u}) {
    ASSERT_NO_FATAL_FAILURE(CheckCrossEntropyCase(runner, 3, size, ++seed));
  }
}

inline void TokenizerSuite(Runner& runner) {
  uint64_t seed = 0;
  for (const bool ties : {false, true}) {
    for (const uint32_t size : {1u, 30u, 32u, 259u}) {
      ASSERT_NO_FATAL_FAILURE(CheckNearestCodeCase(runner, size, ties ? 2 : 9, ties, ++seed));
    }
  }
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    ASSERT_NO_FATAL_FAILURE(CheckImageCase(runner, dtype, 77, 3, ++seed));
  }
}

}  // namespace nextscale::cuda::test
