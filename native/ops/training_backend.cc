#include "native/ops/training_backend.h"

#include "native/base/error.h"

namespace nextscale {

void RequireTrainingOps(const TrainingBackend& backend) {
  for (size_t i = 0; i < kTrainingOpNames.size(); ++i) {
    NS_REQUIRE(backend.Supports(static_cast<TrainingOp>(i)), ErrorCode::kInvalidArgument, "the device ", backend.name(),
               " cannot train: it has no ", kTrainingOpNames[i]);
  }
}

}  // namespace nextscale
