// Rows of a batch, and how a block sees them.
//
// All running sequences (one per guidance branch of an image) stand in one matrix x [rows, C]. A block is run by some
// of them only; their rows are gathered into compact matrices [M, ...] by the modulated norm, and scattered back by the
// residual epilogue of a linear layer. A RowSpan is one run of rows that belong to one sequence.
#pragma once

#include <cstddef>

namespace nextscale {

struct RowSpan {
  size_t compact_row = 0;  // first row in the compact matrices
  size_t x_row = 0;        // first row in x
  size_t num_rows = 0;
  const float* modulation = nullptr;  // the sequence's modulation vector for this block: chunks of width C
  // Where training collects the gradient of that vector, in its layout. The spans of one sequence are adjacent and name
  // the same one; different sequences name different ones. Null in a pass without gradients.
  float* dmodulation = nullptr;
};

}  // namespace nextscale
