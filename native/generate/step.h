// One step: the units that the scheduler collected run as one batch, and every image draws its tokens and grows its
// f_hat.
#pragma once

#include <vector>

#include "native/generate/scheduler.h"
#include "native/model/transformer.h"
#include "native/tokenizer/quantizer.h"

namespace nextscale {

class Stepper {
 public:
  Stepper(Backend& backend, const ModelConfig& config, Transformer& transformer, Quantizer& quantizer);

  // Runs the batch. Units whose generation was cancelled on the way are left unfinished. A generation whose logits are
  // not finite ends up in `failed`, the others go on. Throws on failures of the batch as a whole.
  void Run(const std::vector<Unit>& units, std::vector<Scheduler::Ended>& failed);
  size_t num_rows() const { return batch_.num_rows; }

  // Times a linear layer at two batch sizes and scales to a whole block.
  BlockCost MeasureBlock();

 private:
  void AddGroup(const Unit& unit);
  void PrepareCapture(Generation& generation) const;
  // What follows the head, in order: issued for each unit; then one Wait; then the results are looked at.
  void Issue(const Unit& unit, const BatchGroup& group);
  void Draw(const Unit& unit, const BatchGroup& group);
  void Force(const Unit& unit) const;
  void Losses(const Unit& unit, const BatchGroup& group);
  void AddToLatent(const Unit& unit);
  void Finish(const Unit& unit);

  const ModelConfig config_;
  const ScaleSchedule schedule_;
  Backend& backend_;
  Transformer& transformer_;
  Quantizer& quantizer_;
  Batch batch_;
  std::vector<SampleArgs> samples_;  // of one unit
};

}  // namespace nextscale
