// What the model asks of a device. The model's code is written against this class only; native/backend/cpu and
// native/backend/cuda implement it.
//
// Ops are issued in order and may run later; Wait (and nothing else) makes their results visible to the host. Pointers
// in arguments are the device's; tables (spans, sequences, slots, conditions) are the host's and may be changed as soon
// as the call returns. One thread issues at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "native/ops/attention.h"
#include "native/ops/codes.h"
#include "native/ops/conv.h"
#include "native/ops/cross_entropy.h"
#include "native/ops/embed.h"
#include "native/ops/group_norm.h"
#include "native/ops/image.h"
#include "native/ops/linear.h"
#include "native/ops/norm.h"
#include "native/ops/resample.h"
#include "native/ops/sample.h"
#include "native/tensor/buffer.h"

namespace nextscale {

class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string_view name() const = 0;  // "cpu", "cuda:0"
  // Of everything between two ops but the residual stream, logits, modulations and f_hat, which are f32.
  virtual DType activation_dtype() const = 0;
  // Whether an op can still be called off between two blocks of one batch, because it has run when it was issued.
  virtual bool immediate() const = 0;
  // Rows of one batch of a transformer of this width: enough to fill the device, few enough that a step stays short.
  virtual size_t batch_rows(size_t width) const = 0;
  // Rows of one generation in a step, by width and number of blocks, beyond which a larger part is no faster or keeps
  // whoever arrives waiting too long.
  virtual size_t part_rows(size_t width, size_t depth) const = 0;

  // ---- memory
  // Device memory, 256-byte aligned (the CPU: 64), zeroed. Throws kOutOfMemory; `what` names the use in the message.
  // The buffer may be given back on any thread, and must not outlive the backend.
  virtual Buffer Allocate(size_t bytes, const char* what) = 0;
  // Copies in the order of ops. Upload: `from` may be changed when it returns. Download: `to` is filled when Wait has
  // returned. Both are ordered with ops.
  virtual void Upload(void* to, const void* from, size_t bytes) = 0;
  virtual void Download(void* to, const void* from, size_t bytes) = 0;
  virtual void Copy(void* to, const void* from, size_t bytes) = 0;  // within the device
  virtual void Clear(void* at, size_t bytes) = 0;                   // zeros
  // A hint: what is issued from here to the next Section will probably be issued again just so.
  virtual void Section() = 0;
  // Returns when everything issued has run. Throws what went wrong since the last Wait: kOutOfMemory, or kDeviceLost
  // with the names of kernel and op; after kDeviceLost the backend takes no more work.
  virtual void Wait() = 0;

  // ---- weights
  // The row-major [n, k] matrix at `weights` (the layout of torch.nn.Linear.weight) and the kernels at `weights` (that
  // of torch.nn.Conv2d.weight), in the device's order. Throw kNotFinite with the tensor's name.
  virtual PackedMatrix PackMatrix(const TensorView& weights, const char* name) = 0;
  virtual PackedConv PackConv(const TensorView& weights, const std::vector<float>& bias, const char* name,
                              ConvUse use) = 0;
  // rows [size, dim].
  virtual Codebook MakeCodebook(const std::vector<float>& rows, size_t size, size_t dim) = 0;

  // ---- transformer
  virtual void Linear(const LinearArgs& args) = 0;
  virtual void ModulatedNorm(const ModulatedNormArgs& args) = 0;
  // Linear, then SplitHeads of its result (epilogue kStore).
  virtual void Qkv(const LinearArgs& linear, const SplitHeadsArgs& split) = 0;
  virtual void Attention(const AttentionArgs& args) = 0;
  virtual void Embed(const EmbedArgs& args) = 0;
  virtual void Condition(const ConditionArgs& args) = 0;
  virtual void AddOffset(const AddOffsetArgs& args) = 0;
  virtual void Sample(std::span<const SampleArgs> images) = 0;
  virtual void CrossEntropy(const CrossEntropyArgs& args) = 0;

  // ---- tokenizer. A workspace's size follows from sizes, kinds and weights alone.
  virtual size_t AddCodesWorkspace(const AddCodesArgs& args) = 0;  // floats
  virtual void AddCodes(const AddCodesArgs& args) = 0;
  virtual void AreaDown(const AreaDownArgs& args) = 0;
  virtual void NearestCode(const NearestCodeArgs& args) = 0;
  virtual size_t ConvWorkspace(const ConvArgs& args) = 0;  // floats
  virtual void Conv(const ConvArgs& args) = 0;
  virtual size_t GroupNormWorkspace(size_t num_pixels, size_t num_groups) = 0;  // doubles
  virtual void GroupNorm(const GroupNormArgs& args) = 0;
  virtual void NormalizeMap(const NormalizeMapArgs& args) = 0;
  virtual void ImageToMap(const ImageToMapArgs& args) = 0;
  virtual void MapToImage(const MapToImageArgs& args) = 0;
};

}  // namespace nextscale
