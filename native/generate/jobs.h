// Work beside the steps: decoding and encoding, one image at a time, so that no generation waits longer than one image.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>

#include "native/generate/outcome.h"

namespace nextscale {

struct Job {
  size_t num_images = 0;
  std::function<void(size_t image)> run;  // engine thread; may throw, which ends the job
  Done done;                              // engine thread, exactly once
  size_t next_image = 0;
};

// Jobs take turns, image by image.
class JobQueue {
 public:
  // False, and nothing happens, once closed.
  bool Add(Job job);
  // Runs one image of the first job. False when there was none. Engine thread.
  bool RunOne();
  size_t size() const;  // jobs that are not done
  // Ends every job with this result and takes no more. Engine thread.
  void Close(const EndResult& result);

 private:
  mutable std::mutex mutex_;
  bool closed_ = false;
  std::deque<Job> jobs_;
};

}  // namespace nextscale
