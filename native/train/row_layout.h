// Which rows a block runs in the teacher-forced pass of a depth plan.
//
// x holds every token of every image, image after image, scale after scale. At a block, the tokens of the scales whose
// subnet has it take part; the others pass unchanged and are invisible there.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "native/model/subnet.h"
#include "native/ops/attention.h"
#include "native/ops/attention_gradient.h"
#include "native/ops/rows.h"
#include "native/tokenizer/scale_schedule.h"

namespace nextscale {

// Rows of one block; refilled for every block, nothing is allocated after construction.
struct BlockRows {
  BlockRows(size_t num_scales, size_t max_images);

  std::vector<RowSpan> spans;                // image after image; one per run of neighbouring scales
  std::vector<AttentionSequence> attention;  // one per image and scale: its keys are the rows up to its end
  std::vector<CausalSequence> sequences;     // image after image; they share `ends`
  std::vector<size_t> ends;                  // rows of one image up to the end of each of its scales
  size_t num_rows = 0;                       // of all images
};

// What the rows of a block point into.
struct RowTargets {
  const float* modulations = nullptr;  // the block's vector of image i begins at i · modulation_stride
  float* dmodulations = nullptr;       // likewise
  size_t modulation_stride = 0;
  float* qkv = nullptr;  // [M, qkv_stride]: keys and values stay there; null where there is no attention
  size_t qkv_stride = 0, width = 0;
};

class RowLayout {
 public:
  RowLayout(const ScaleSchedule& schedule, const SubnetTable& subnets);

  // The plan of the passes that follow. depths: per scale, each one that the subnets have.
  void SetPlan(std::span<const int32_t> depths);
  // Whether any scale runs the block.
  bool Runs(size_t block_index) const;

  void Fill(size_t block_index, size_t num_images, const RowTargets& targets, BlockRows& rows) const;
  // The same for what runs at every scale: the head.
  void FillAll(size_t num_images, const RowTargets& targets, BlockRows& rows) const;

 private:
  template <typename RunsScale>
  void FillWhere(const RunsScale& runs, size_t num_images, const RowTargets& targets, BlockRows& rows) const;

  const ScaleSchedule& schedule_;
  const SubnetTable& subnets_;
  std::vector<uint8_t> runs_;  // [blocks, scales]
};

}  // namespace nextscale
