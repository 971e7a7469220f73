#include "native/model/config.h"

#include "native/base/error.h"

namespace nextscale {

void Validate(const ModelConfig& config) {
  const TransformerConfig& transformer = config.transformer;
  RequireRange("depth", transformer.depth, 1, 256);
  RequireRange("width", transformer.width, 1, 16384);
  RequireRange("number of heads", transformer.num_heads, 1, transformer.width);
  NS_REQUIRE(transformer.width % transformer.num_heads == 0, ErrorCode::kInvalidCheckpoint, "width ", transformer.width,
             " is not divisible by ", transformer.num_heads, " heads");
  RequireRange("head size", transformer.width / transformer.num_heads, 1, 1024);
  RequireRange("feed-forward width", transformer.mlp_width, 1, 65536);
  RequireRange("number of classes", transformer.num_classes, 1, size_t{1} << 20);
  Validate(config.tokenizer);
}

}  // namespace nextscale
