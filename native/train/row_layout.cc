#include "native/train/row_layout.h"

#include <algorithm>

namespace nextscale {

BlockRows::BlockRows(size_t num_scales, size_t max_images) {
  spans.reserve(max_images * num_scales);
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

void RowLayout::Fill(size_t block_index, size_t num_images, const float* modulations, float* dmodulations,
                     size_t stride, BlockRows& rows) const {
  const uint8_t* const runs = runs_.data() + block_index * schedule_.num_scales();
  FillWhere([&](size_t k) { return runs[k] != 0; }, num_images, modulations, dmodulations, stride, rows);
}

void RowLayout::FillAll(size_t num_images, const float* modulations, float* dmodulations, size_t stride,
                        BlockRows& rows) const {
  FillWhere([](size_t) { return true; }, num_images, modulations, dmodulations, stride, rows);
}

template <typename RunsScale>
void RowLayout::FillWhere(const RunsScale& runs, size_t num_images, const float* modulations, float* dmodulations,
                          size_t stride, BlockRows& rows) const {
  rows.spans.clear();
  rows.sequences.clear();
  rows.ends.clear();
  size_t image_rows = 0;
  for (size_t k = 0; k < schedule_.num_scales(); ++k) {
    if (runs(k)) rows.ends.push_back(image_rows += schedule_.tokens[k]);
  }
  rows.num_rows = num_images * image_rows;
  if (image_rows == 0) return;
  for (size_t image = 0; image < num_images; ++image) {
    size_t compact_row = image * image_rows;
    rows.sequences.push_back({.first_row = compact_row, .ends = rows.ends});
    for (size_t k = 0; k < schedule_.num_scales(); ++k) {
      if (!runs(k)) continue;
      if (k > 0 && runs(k - 1)) {
        rows.spans.back().num_rows += schedule_.tokens[k];
      } else {
        rows.spans.push_back({.compact_row = compact_row,
                              .x_row = image * schedule_.num_tokens + schedule_.offsets[k],
                              .num_rows = schedule_.tokens[k],
                              .modulation = modulations + image * stride,
                              .dmodulation = dmodulations == nullptr ? nullptr : dmodulations + image * stride});
      }
      compact_row += schedule_.tokens[k];
    }
  }
}

}  // namespace nextscale
