// One step's arithmetic: the units that the scheduler collected run as one batch, and every image gets its tokens and
// grows its f_hat. Engine::Impl::Step tells the story; these are its verbs.
#pragma once

#include <vector>

#include "native/generate/scheduler.h"
#include "native/model/transformer.h"
#include "native/tokenizer/quantizer.h"

namespace nextscale {

// The verbs are called in the order in which they stand here, with the same units. A unit whose generation was
// cancelled on the way is left unfinished; one that fails ends up in `failed`; the others go on. What concerns the
// batch as a whole throws.
class Stepper {
 public:
  Stepper(Backend& backend, const ModelConfig& config, Transformer& transformer, Quantizer& quantizer);

  // The rows of all units, as one ragged batch.
  void Compose(const std::vector<Unit>& units);
  // Embeds them, runs every block for those whose subnet has it, and the head where logits are needed.
  void Forward();
  // The tokens of this scale: those that are given, and one draw for each of the others; losses where wanted.
  void ChooseTokens(const std::vector<Unit>& units, std::vector<Scheduler::Ended>& failed);
  // Adds their code vectors to f_hat, and makes the next scale's input of it.
  void GrowLatents(const std::vector<Unit>& units, std::vector<Scheduler::Ended>& failed);
  // Waits for the device; a result that is not finite is a failure, the others are counted as done.
  void Settle(const std::vector<Unit>& units, std::vector<Scheduler::Ended>& failed);
  // Charges every unit its share of the time: its rows at every block, and one more for head, draw and latent.
  void ShareTime(const std::vector<Unit>& units, double ms) const;

  size_t num_rows() const { return batch_.num_rows; }

  // Times a linear layer at two batch sizes and scales to a whole block.
  BlockCost MeasureBlock();

 private:
  // Runs task(unit, group) for every unit that is still active.
  template <typename Task>
  void EachActive(const std::vector<Unit>& units, std::vector<Scheduler::Ended>& failed, const Task& task);
  void AddGroup(const Unit& unit);
  void PrepareCapture(Generation& generation) const;
  bool Draws(const Generation& generation, size_t image) const;  // any token of an image at the scale that runs
  void Draw(const Unit& unit, const BatchGroup& group);
  void TakeGiven(const Unit& unit) const;
  void Losses(const Unit& unit, const BatchGroup& group);
  void AddToLatent(const Unit& unit);
  void CheckFinite(const Unit& unit) const;

  const ModelConfig config_;
  const ScaleSchedule schedule_;
  Backend& backend_;
  Transformer& transformer_;
  Quantizer& quantizer_;
  Batch batch_;
  std::vector<SampleArgs> samples_;  // of one unit
};

}  // namespace nextscale
