// Embedding sums: memory traffic only, so plain loops that the compiler vectorises.
#include "native/ops/embed.h"

#include <algorithm>
#include <cmath>

#include "native/ops/check.h"
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
  if (args.class_embedding == nullptr) {
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
    const float* const start = args.start + token * width;
    const float* const label = args.class_embedding + static_cast<size_t>(args.labels[row / args.num_tokens]) * width;
    float* const out = args.x + row * args.stride;
    for (size_t column = 0; column < width; ++column) out[column] = label[column] + start[column] + add[column];
  });
}

void LabelCondition(Context&, const LabelConditionArgs& args) {
  CheckLabelCondition(args);
  CheckFloat(args.out_dtype, "label condition: out");
  for (size_t i = 0; i < args.labels.size(); ++i) {
    const float* const from = args.class_embedding + static_cast<size_t>(args.labels[i]) * args.width;
    float* const out = static_cast<float*>(args.out) + i * args.out_stride;
    for (size_t column = 0; column < args.width; ++column) out[column] = from[column] / (1.0f + std::exp(-from[column]));
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

}  // namespace nextscale
