// 3×3 convolutions over maps (1×1 convolutions are linear layers, see linear.h).
//
// A map is rows of channels: pixel (y, x) at (y · width + x) · stride, channels contiguous. The stride is at least
// MapStride(channels), the base is 64-byte aligned, and the columns past `channels` up to MapStride are padding: ops
// may read them and write anything finite there.
#pragma once

#include <cstddef>
#include <vector>

#include "native/tensor/buffer.h"
#include "native/tensor/tensor_table.h"

namespace nextscale {

constexpr size_t MapStride(size_t channels) { return (channels + 15) / 16 * 16; }

enum class ConvUse {
  kMap,     // by Conv
  kLatent,  // by AddCodes: always f32
};

// Weights [cout, cin, 3, 3] in the order and format that a device's kernels read. Immutable after packing.
// CPU: the format of the file, panels[ceil(cout / panel)][9 taps][cin][panel], zero padded.
struct PackedConv {
  DType dtype = DType::kF32;
  size_t cout = 0, cin = 0;
  size_t panel = 0;  // output channels of one panel
  Buffer data;
  Buffer bias;  // f32 [ceil(cout / panel) · panel], zero padded

  size_t num_panels() const { return (cout + panel - 1) / panel; }
  size_t padded_cout() const { return num_panels() * panel; }
};

enum class ConvKind {
  kSame,  // stride 1, zero padding 1:            out [height, width]
  kDown,  // stride 2, zero padding (0, 1, 0, 1): out [height / 2, width / 2] (reference: Downsample2x); sides >= 2
  kUp,    // nearest ×2 first, then as kSame:     out [2 height, 2 width]     (reference: Upsample2x)
};

enum class ConvAlgorithm {
  kAuto,      // the faster of the two by a cost model fitted to measurements
  kDirect,    // implicit matrix product: one chain of fused multiply-adds per output over taps, then channels
  kWinograd,  // F(4×4, 3×3): a quarter of the multiplications; relative error about 1e-6 of the largest sum. Not kDown.
};

// out = conv3x3(in') + bias (+ residual), in' = in or, with gain, silu(in · gain[c] + shift[c]) (a group norm, see
// group_norm.h). The result does not depend on the number of threads.
struct ConvArgs {
  void* out = nullptr;            // may not alias in
  DType out_dtype = DType::kF32;  // of out and residual
  size_t out_stride = 0;
  const void* in = nullptr;
  DType in_dtype = DType::kF32;
  size_t in_stride = 0;
  size_t in_height = 0, in_width = 0;
  ConvKind kind = ConvKind::kSame;
  const PackedConv* weights = nullptr;
  const void* residual = nullptr;  // map of the shape of out, or out itself, or null
  size_t residual_stride = 0;
  const float* gain = nullptr;  // [MapStride(cin)], both or none
  const float* shift = nullptr;
  ConvAlgorithm algorithm = ConvAlgorithm::kAuto;
  float* workspace = nullptr;   // as aligned as Backend::Allocate
  size_t workspace_floats = 0;  // >= Backend::ConvWorkspace

  size_t out_height() const { return OutSide(in_height); }
  size_t out_width() const { return OutSide(in_width); }

 private:
  size_t OutSide(size_t side) const {
    return kind == ConvKind::kUp ? 2 * side : kind == ConvKind::kDown ? side / 2 : side;
  }
};

}  // namespace nextscale
