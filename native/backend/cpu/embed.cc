// Embedding sums and their gradient: memory traffic only, so plain loops that the compiler vectorises.

#include "native/ops/embed.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "native/backend/cpu/kernels.h"
#include "native/ops/check.h"
#include "native/ops/check_gradient.h"
#include "native/ops/check_map.h"

namespace nextscale {
namespace {

constexpr size_t kRowsPerTask = 16;

// task(row) for every row, some rows at a time.
template <typename Task>
void ForRows(Context& context, size_t num_rows, const Task& task) {
  context.pool().ParallelFor((num_rows + kRowsPerTask - 1) / kRowsPerTask, [&](size_t index, size_t) {
    const size_t end = std::min(num_rows, (index + 1) * kRowsPerTask);
    for (size_t row = index * kRowsPerTask; row < end; ++row) task(row);
  });
}

}  // namespace

void Embed(Context& context, const EmbedArgs& args) {
  CheckEmbed(args);
  const size_t width = args.width, branch_rows = args.num_images * args.num_tokens;
  if (args.starts == nullptr) {
    ForRows(context, branch_rows, [&](size_t row) {
      const float* const add = args.position + row % args.num_tokens * width;
      float* const out = args.x + row * args.stride;
      for (size_t column = 0; column < width; ++column) out[column] += add[column];
      if (args.num_branches == 2) std::copy_n(out, width, out + branch_rows * args.stride);
    });
    return;
  }
  ForRows(context, branch_rows * args.num_branches, [&](size_t row) {
    const size_t token = row % args.num_tokens;
    const float* const add = args.position + token * width;
    const float* const place = args.start_position + token * width;
    const float* const start = args.starts + static_cast<size_t>(args.conditions[row / args.num_tokens]) * width;
    float* const out = args.x + row * args.stride;
    for (size_t column = 0; column < width; ++column) out[column] = start[column] + place[column] + add[column];
  });
}

void Condition(Context&, const ConditionArgs& args) {
  CheckCondition(args);
  CheckFloat(args.vector_dtype, "condition: vector");
  for (size_t i = 0; i < args.num(); ++i) {
    float* const start = args.start + i * args.width;
    for (size_t j = i * args.num_mixed; j < (i + 1) * args.num_mixed; ++j) {
      const float* const from = args.embedding + static_cast<size_t>(args.rows[j]) * args.width;
      const float weight = args.weights.empty() ? 1.0f : args.weights[j];
      for (size_t column = 0; column < args.width; ++column) {
        const float part = weight * from[column];
        start[column] = j == i * args.num_mixed ? part : start[column] + part;
      }
    }
    float* const out = static_cast<float*>(args.vector) + i * args.width;
    for (size_t column = 0; column < args.width; ++column)
      out[column] = start[column] / (1.0f + std::exp(-start[column]));
  }
}

void AddOffset(Context&, const AddOffsetArgs& args) {
  CheckAddOffset(args);
  for (size_t row = 0; row < args.num_rows; ++row) {
    const float* const in = args.in + row * args.in_stride;
    float* const out = args.out + row * args.out_stride;
    for (size_t column = 0; column < args.width; ++column) out[column] = in[column] + args.offset[column];
  }
}

void EmbedGradient(Context& context, const EmbedGradientArgs& args) {
  CheckEmbedGradient(args);
  const size_t width = args.width, first_tokens = args.tokens[0];
  const size_t num_tokens = std::accumulate(args.tokens.begin(), args.tokens.end(), size_t{0});
  context.pool().ParallelFor(num_tokens, [&](size_t token, size_t) {
    float* const sum = args.workspace + token * width;
    float* const position = args.dposition + token * width;
    std::copy_n(args.dx + token * args.stride, width, sum);
    for (size_t image = 1; image < args.num_images; ++image) {
      const float* const row = args.dx + (image * num_tokens + token) * args.stride;
      for (size_t c = 0; c < width; ++c) sum[c] += row[c];
    }
    for (size_t c = 0; c < width; ++c) position[c] += sum[c];
  });
  const float* sum = args.workspace;
  for (size_t k = 0; k < args.tokens.size(); ++k) {
    float* const level = args.dlevel + k * width;
    for (size_t token = 0; token < args.tokens[k]; ++token, sum += width) {
      for (size_t c = 0; c < width; ++c) level[c] += sum[c];
    }
  }
  for (size_t i = 0; i < first_tokens * width; ++i) args.dstart_position[i] += args.workspace[i];
  for (size_t image = 0; image < args.num_images; ++image) {
    float* const start = args.dstarts + image * width;
    std::fill_n(start, width, 0.0f);
    for (size_t token = 0; token < first_tokens; ++token) {
      const float* const row = args.dx + (image * num_tokens + token) * args.stride;
      for (size_t c = 0; c < width; ++c) start[c] += row[c];
    }
  }
}

void ConditionGradient(Context&, const ConditionGradientArgs& args) {
  CheckConditionGradient(args);
  for (size_t i = 0; i < args.rows.size() * args.width; ++i) {
    // silu'(e) = σ (1 + e (1 − σ))
    const float e = args.start[i], sigmoid = 1.0f / (1.0f + std::exp(-e));
    float& to = args.dembedding[static_cast<size_t>(args.rows[i / args.width]) * args.width + i % args.width];
    to += args.dstart[i] + args.dvector[i] * sigmoid * (1.0f + e * (1.0f - sigmoid));
  }
}

}  // namespace nextscale
