// What this machine can do, measured in the same process as whatever is compared with it: fused multiply-adds from
// registers, and reading memory. Both on all threads of a pool.
#pragma once

#include <cstddef>

#include "native/backend/cpu/context.h"
#include "native/base/thread_pool.h"

namespace nextscale::bench {

// Best of `repeats` runs, GFLOP/s (a fused multiply-add counts two).
double PeakGflops(ThreadPool& pool, int repeats = 20);

// Best of `repeats` runs over a buffer much larger than the caches, GB/s.
double ReadGigabytesPerSecond(ThreadPool& pool, int repeats = 5);

// Best of `repeats` runs of this library's own linear layer on a product that suits the caches, GFLOP/s.
double GemmGflops(Context& context, int repeats = 40);

}  // namespace nextscale::bench
