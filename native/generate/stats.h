// What an engine has done and holds at this moment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "native/base/job_runner.h"

namespace nextscale {

struct PoolStats {
  struct PerGeneration {
    uint64_t id;
    size_t used_bytes, reserved_bytes;
  };
  size_t capacity_bytes = 0, used_bytes = 0, peak_bytes = 0, reserved_bytes = 0;
  std::vector<PerGeneration> generations;
};

struct ScaleTime {
  size_t scale_index, depth, rows;
  double ms;
};

struct EngineStats {
  PoolStats pool;
  size_t running = 0, waiting = 0, steps = 0, tokens = 0, max_batch_rows = 0;
  double busy_ms = 0;
  JobStats jobs;
  std::vector<ScaleTime> scale_times;
};

}  // namespace nextscale
