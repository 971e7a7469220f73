#include "native/ops/check_attention_gradient.h"

#include "native/base/error.h"

namespace nextscale {
namespace {

constexpr auto kBad = ErrorCode::kInvalidArgument;
constexpr size_t kMaxHeadDim = 1024;

void Need(const void* pointer, const char* op, const char* name) {
  NS_REQUIRE(pointer != nullptr, kBad, op, ": ", name, " is missing");
}

void CheckHeads(size_t num_heads, size_t head_dim, size_t qkv_stride, const char* op) {
  NS_REQUIRE(num_heads >= 1, kBad, op, ": no heads");
  NS_REQUIRE(head_dim >= 1 && head_dim <= kMaxHeadDim, kBad, op, ": head_dim ", head_dim, ", expected 1..",
             kMaxHeadDim);
  NS_REQUIRE(qkv_stride >= 3 * num_heads * head_dim, kBad, op, ": qkv_stride is ", qkv_stride, ", expected at least ",
             3 * num_heads * head_dim);
}

void CheckSequences(std::span<const CausalSequence> sequences, const char* op) {
  for (const CausalSequence& sequence : sequences) {
    NS_REQUIRE(!sequence.ends.empty(), kBad, op, ": a sequence without rows");
    size_t previous = 0;
    for (const size_t end : sequence.ends) {
      NS_REQUIRE(end > previous, kBad, op, ": ends must ascend; found ", end, " after ", previous);
      previous = end;
    }
  }
}

}  // namespace

void CheckNormalizeHeads(const NormalizeHeadsArgs& args) {
  constexpr const char* kOp = "normalize heads";
  CheckHeads(args.num_heads, args.head_dim, args.qkv_stride, kOp);
  Need(args.qkv, kOp, "qkv");
  Need(args.inverse_norms, kOp, "inverse_norms");
  Need(args.head_factor, kOp, "head_factor");
}

void CheckNormalizeHeadsGradient(const NormalizeHeadsGradientArgs& args) {
  constexpr const char* kOp = "normalize heads gradient";
  CheckHeads(args.num_heads, args.head_dim, args.qkv_stride, kOp);
  Need(args.dqkv, kOp, "dqkv");
  Need(args.qkv, kOp, "qkv");
  Need(args.inverse_norms, kOp, "inverse_norms");
  Need(args.head_factor, kOp, "head_factor");
  Need(args.dhead_factor, kOp, "dhead_factor");
}

void CheckCausalAttention(const CausalAttentionArgs& args) {
  constexpr const char* kOp = "causal attention";
  CheckHeads(args.num_heads, args.head_dim, args.qkv_stride, kOp);
  NS_REQUIRE(args.out_stride >= args.num_heads * args.head_dim, kBad, kOp, ": out_stride is ", args.out_stride,
             ", expected at least ", args.num_heads * args.head_dim);
  Need(args.out, kOp, "out");
  Need(args.qkv, kOp, "qkv");
  CheckSequences(args.sequences, kOp);
}

void CheckCausalAttentionGradient(const CausalAttentionGradientArgs& args) {
  constexpr const char* kOp = "causal attention gradient";
  CheckHeads(args.num_heads, args.head_dim, args.qkv_stride, kOp);
  NS_REQUIRE(args.out_stride >= args.num_heads * args.head_dim, kBad, kOp, ": out_stride is ", args.out_stride,
             ", expected at least ", args.num_heads * args.head_dim);
  Need(args.dqkv, kOp, "dqkv");
  Need(args.dout, kOp, "dout");
  Need(args.out, kOp, "out");
  Need(args.log_sums, kOp, "log_sums");
  Need(args.qkv, kOp, "qkv");
  CheckSequences(args.sequences, kOp);
}

}  // namespace nextscale
