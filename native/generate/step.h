// One step: the units that the scheduler collected run as one batch, and every image draws its tokens and grows its
// f_hat.
#pragma once

#include <vector>

#include "native/generate/scheduler.h"
#include "native/model/transformer.h"
#include "native/model/vae.h"

namespace nextscale {

class Stepper {
 public:
  Stepper(const ModelConfig& config, Context& context, Transformer& transformer, Quantizer& quantizer);

  // Runs the batch. Units whose generation was cancelled on the way are left unfinished. A generation whose logits are
  // not finite ends up in `failed`, the others go on. Throws on failures of the batch as a whole.
  void Run(const std::vector<Unit>& units, std::vector<Scheduler::Ended>& failed);
  size_t num_rows() const { return batch_.num_rows; }

  // Times a linear layer at two batch sizes and scales to a whole block.
  BlockCost MeasureBlock();

 private:
  void AddGroup(const Unit& unit);
  void Force(const Unit& unit) const;
  void Losses(const Unit& unit, const BatchGroup& group);
  void PrepareCapture(Generation& generation) const;
  void FinishUnit(const Unit& unit, const BatchGroup& group);
  void Draw(Generation& generation, const BatchGroup& group, size_t image_in_group, size_t image);
  void AddToLatent(Generation& generation, size_t image);

  const ModelConfig config_;
  const ScaleSchedule schedule_;
  Context& context_;
  Transformer& transformer_;
  Quantizer& quantizer_;
  Batch batch_;
};

}  // namespace nextscale
