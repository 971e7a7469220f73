#include "native/train/row_layout.h"

#include <algorithm>

namespace nextscale {

BlockRows::BlockRows(size_t num_scales, size_t max_images) {
  spans.reserve(max_images * num_scales);
  attention.reserve(max_images * num_scales);
  sequences.reserve(max_images);
  ends.reserve(num_scales);
}

RowLayout::RowLayout(const ScaleSchedule& schedule, const SubnetTable& subnets)
    : schedule_(schedule), subnets_(subnets), runs_(subnets.full_depth() * schedule.num_scales(), 1) {}

void RowLayout::SetPlan(std::span<const int32_t> depths) {
  std::fill(runs_.begin(), runs_.end(), uint8_t{0});
  for (size_t k = 0; k < depths.size(); ++k) {
    for (const uint32_t block_index : subnets_.Blocks(static_cast<size_t>(depths[k]))) {
      runs_[block_index * schedule_.num_scales() + k] = 1;
    }
  }
}

bool RowLayout::Runs(size_t block_index) const {
  const auto first = runs_.begin() + static_cast<std::ptrdiff_t>(block_index * schedule_.num_scales());
  return std::find(first, first + static_cast<std::ptrdiff_t>(schedule_.num_scales()), 1) !=
         first + static_cast<std::ptrdiff_t>(schedule_.num_scales());
}

void RowLayout::Fill(size_t block_index, size_t num_images, const RowTargets& targets, BlockRows& rows) const {
  const uint8_t* const runs = runs_.data() + block_index * schedule_.num_scales();
  FillWhere([&](size_t k) { return runs[k] != 0; }, num_images, targets, rows);
}

void RowLayout::FillAll(size_t num_images, const RowTargets& targets, BlockRows& rows) const {
  FillWhere([](size_t) { return true; }, num_images, targets, rows);
}

template <typename RunsScale>
void RowLayout::FillWhere(const RunsScale& runs, size_t num_images, const RowTargets& targets, BlockRows& rows) const {
  rows.spans.clear();
  rows.attention.clear();
  rows.sequences.clear();
  rows.ends.clear();
  size_t image_rows = 0;
  for (size_t k = 0; k < schedule_.num_scales(); ++k) {
    if (runs(k)) rows.ends.push_back(image_rows += schedule_.tokens[k]);
  }
  rows.num_rows = num_images * image_rows;
  if (image_rows == 0) return;
  for (size_t image = 0; image < num_images; ++image) {
    const size_t first_row = image * image_rows, modulation = image * targets.modulation_stride;
    rows.sequences.push_back({.first_row = first_row, .ends = rows.ends});
    size_t row = 0;  // of the image
    for (size_t k = 0; k < schedule_.num_scales(); ++k) {
      if (!runs(k)) continue;
      const size_t num_rows = schedule_.tokens[k];
      if (k > 0 && runs(k - 1)) {
        rows.spans.back().num_rows += num_rows;
      } else {
        rows.spans.push_back({.compact_row = first_row + row,
                              .x_row = image * schedule_.num_tokens + schedule_.offsets[k],
                              .num_rows = num_rows,
                              .modulation = targets.modulations + modulation,
                              .dmodulation = targets.dmodulations + modulation});
      }
      if (targets.qkv != nullptr) {
        AttentionSequence& sequence = rows.attention.emplace_back();
        sequence.compact_row = first_row + row;
        sequence.num_rows = num_rows;
        sequence.kv.tail = reinterpret_cast<std::byte*>(targets.qkv + first_row * targets.qkv_stride + targets.width);
        sequence.kv.tail_rows = row + num_rows;
        sequence.kv.tail_stride = targets.qkv_stride;
      }
      row += num_rows;
    }
  }
}

}  // namespace nextscale
