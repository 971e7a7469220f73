// How the queries of a sequence are cut into panels under the scale-causal rule: a token of scale s sees the first
// ends[s] rows. A panel computes as many scores as its last query sees, for as many queries as a panel has room, so a
// cut at the end of a scale pays when the next scale is large, and small scales share a panel.
//
// The cuts follow from `ends` and the panel's width alone.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

namespace nextscale {

// A run of queries of one sequence.
struct QueryPanel {
  size_t first = 0;    // query
  size_t size = 0;     // 1..width
  size_t full = 0;     // keys [0, full) are seen by every query
  size_t visible = 0;  // keys [0, visible) are seen by the last one: `full` unless the panel holds several scales
};

// Index of the scale that `row` stands in.
inline size_t ScaleOf(std::span<const size_t> ends, size_t row) {
  return static_cast<size_t>(std::upper_bound(ends.begin(), ends.end(), row) - ends.begin());
}

// First query that sees `key`: the first one of the key's own scale.
inline size_t FirstObserver(std::span<const size_t> ends, size_t key) {
  const size_t scale = ScaleOf(ends, key);
  return scale == 0 ? 0 : ends[scale - 1];
}

// The panel that begins at `first`, a row of the sequence.
inline QueryPanel NextPanel(std::span<const size_t> ends, size_t first, size_t width) {
  const auto panels = [width](size_t rows) { return (rows + width - 1) / width; };
  size_t scale = ScaleOf(ends, first);
  QueryPanel panel{.first = first, .size = 0, .full = ends[scale], .visible = 0};
  while (ends[scale] - first < width && scale + 1 < ends.size()) {
    // Keys that the panels see in all, when the panel ends here and when it goes on.
    const size_t here = ends[scale], next = ends[scale + 1];
    if (panels(next - first) * next > here + panels(next - here) * next) break;
    ++scale;
  }
  panel.size = std::min(width, ends[scale] - first);
  panel.visible = ends[ScaleOf(ends, first + panel.size - 1)];
  return panel;
}

}  // namespace nextscale
