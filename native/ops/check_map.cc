#include "native/ops/check_map.h"

#include "native/base/error.h"

namespace nextscale {
namespace {

void CheckMap(const char* op, const char* argument, const void* data, size_t stride, size_t channels) {
  NS_REQUIRE(data != nullptr, ErrorCode::kInvalidArgument, op, ": ", argument, " is missing");
  NS_REQUIRE(stride >= MapStride(channels) && stride % 16 == 0, ErrorCode::kInvalidArgument, op, ": stride of ",
             argument, " is ", stride, ", expected a multiple of 16 >= ", channels);
}

}  // namespace

void CheckPackConv(const TensorView& weights, const std::vector<float>& bias, const char* name) {
  NS_REQUIRE(weights.shape.size() == 4 && weights.shape[2] == 3 && weights.shape[3] == 3 && weights.shape[0] > 0 &&
                 weights.shape[1] > 0,
             ErrorCode::kInvalidArgument, name, ": expected the shape [out, in, 3, 3]");
  NS_REQUIRE(weights.data != nullptr, ErrorCode::kInvalidArgument, name, ": no data");
  NS_REQUIRE(bias.size() == weights.shape[0], ErrorCode::kInvalidArgument, name, ": ", bias.size(),
             " biases, expected ", weights.shape[0]);
}

void CheckCodebook(const std::vector<float>& rows, size_t size, size_t dim) {
  NS_REQUIRE(size > 0 && dim > 0 && rows.size() == size * dim, ErrorCode::kInvalidArgument, "codebook: ", rows.size(),
             " numbers for ", size, " codes of ", dim);
}

void CheckConv(const ConvArgs& args) {
  NS_REQUIRE(args.weights != nullptr, ErrorCode::kInvalidArgument, "conv: weights are missing");
  CheckMap("conv", "in", args.in, args.in_stride, args.weights->cin);
  CheckMap("conv", "out", args.out, args.out_stride, args.weights->cout);
  if (args.residual != nullptr) CheckMap("conv", "residual", args.residual, args.residual_stride, args.weights->cout);
  NS_REQUIRE(args.in != args.out, ErrorCode::kInvalidArgument, "conv: out may not be in");
  NS_REQUIRE((args.gain == nullptr) == (args.shift == nullptr), ErrorCode::kInvalidArgument,
             "conv: gain and shift go together");
  NS_REQUIRE(args.out_height() > 0 && args.out_width() > 0, ErrorCode::kInvalidArgument, "conv: map of ",
             args.in_height, " × ", args.in_width, " pixels is too small");
  NS_REQUIRE(args.kind != ConvKind::kDown || args.algorithm != ConvAlgorithm::kWinograd, ErrorCode::kInvalidArgument,
             "conv: no Winograd form at stride 2");
}

void CheckConvWorkspace(const ConvArgs& args, size_t needed) {
  NS_REQUIRE(args.workspace_floats >= needed && (needed == 0 || args.workspace != nullptr), ErrorCode::kInvalidArgument,
             "conv: workspace of ", args.workspace_floats, " floats, expected ", needed);
}

void CheckGroupNorm(const GroupNormArgs& args) {
  CheckMap("group norm", "x", args.x, args.x_stride, args.channels);
  NS_REQUIRE(args.num_pixels > 0, ErrorCode::kInvalidArgument, "group norm: empty map");
  NS_REQUIRE(args.num_groups > 0 && args.channels > 0 && args.channels % args.num_groups == 0,
             ErrorCode::kInvalidArgument, "group norm: ", args.channels, " channels in ", args.num_groups, " groups");
  NS_REQUIRE(args.gain != nullptr && args.shift != nullptr && args.weight != nullptr && args.bias != nullptr &&
                 args.workspace != nullptr,
             ErrorCode::kInvalidArgument, "group norm: an array is missing");
}

void CheckNormalizeMap(const NormalizeMapArgs& args) {
  CheckMap("normalize map", "x", args.x, args.x_stride, args.channels);
  CheckMap("normalize map", "out", args.out, args.out_stride, args.channels);
  NS_REQUIRE(args.gain != nullptr && args.shift != nullptr, ErrorCode::kInvalidArgument,
             "normalize map: gain or shift is missing");
}

void CheckBicubic(const BicubicArgs& args) {
  CheckMap("bicubic", "in", args.in, args.in_stride, args.channels);
  CheckMap("bicubic", "out", args.out, args.out_stride, args.channels);
  NS_REQUIRE(args.in_side > 0 && args.out_side > 0, ErrorCode::kInvalidArgument, "bicubic: empty map");
}

void CheckAreaDown(const AreaDownArgs& args) {
  NS_REQUIRE(args.in != nullptr && args.out != nullptr, ErrorCode::kInvalidArgument, "area: in or out is missing");
  NS_REQUIRE(args.out_side > 0 && args.out_side <= args.in_side, ErrorCode::kInvalidArgument, "area: side ",
             args.out_side, ", expected 1..", args.in_side);
  NS_REQUIRE(args.out_stride >= args.channels && args.in_stride >= args.channels, ErrorCode::kInvalidArgument,
             "area: strides ", args.in_stride, " and ", args.out_stride, " for ", args.channels, " channels");
}

void CheckNearestCode(const NearestCodeArgs& args) {
  NS_REQUIRE(args.codebook != nullptr && args.codebook->size > 0, ErrorCode::kInvalidArgument,
             "nearest code: no codebook");
  NS_REQUIRE(args.rows != nullptr && args.tokens != nullptr, ErrorCode::kInvalidArgument,
             "nearest code: an array is missing");
  NS_REQUIRE(args.stride >= args.codebook->dim, ErrorCode::kInvalidArgument, "nearest code: stride ", args.stride,
             ", expected >= ", args.codebook->dim);
}

void CheckAddCodes(const AddCodesArgs& args) {
  NS_REQUIRE(args.codebook != nullptr && args.codebook->size > 0, ErrorCode::kInvalidArgument,
             "add codes: no codebook");
  NS_REQUIRE(args.f != nullptr && args.tokens != nullptr && args.workspace != nullptr, ErrorCode::kInvalidArgument,
             "add codes: an array is missing");
  NS_REQUIRE(args.in_side > 0 && args.side > 0, ErrorCode::kInvalidArgument, "add codes: empty map");
  if (args.residual_conv == nullptr) return;
  const PackedConv& conv = *args.residual_conv;
  NS_REQUIRE(conv.cin == args.codebook->dim && conv.cout == args.codebook->dim, ErrorCode::kInvalidArgument,
             "add codes: residual convolution of ", conv.cin, " to ", conv.cout, " channels, expected ",
             args.codebook->dim);
}

void CheckEmbed(const EmbedArgs& args) {
  NS_REQUIRE(args.x != nullptr && args.position != nullptr, ErrorCode::kInvalidArgument, "embed: an array is missing");
  NS_REQUIRE(args.width > 0 && args.stride >= args.width, ErrorCode::kInvalidArgument, "embed: stride ", args.stride,
             " for rows of ", args.width);
  NS_REQUIRE(args.num_branches == 1 || args.num_branches == 2, ErrorCode::kInvalidArgument,
             "embed: ", args.num_branches, " branches, expected 1 or 2");
  if (args.starts == nullptr) return;
  NS_REQUIRE(args.start_position != nullptr, ErrorCode::kInvalidArgument, "embed: starts without start_position");
  NS_REQUIRE(args.conditions.size() == args.num_images * args.num_branches, ErrorCode::kInvalidArgument,
             "embed: ", args.conditions.size(), " conditions, expected ", args.num_images * args.num_branches);
}

void CheckCondition(const ConditionArgs& args) {
  NS_REQUIRE(args.start != nullptr && args.vector != nullptr && args.embedding != nullptr, ErrorCode::kInvalidArgument,
             "condition: an array is missing");
  NS_REQUIRE(args.width > 0, ErrorCode::kInvalidArgument, "condition: width 0");
  NS_REQUIRE(args.num_mixed > 0 && args.rows.size() % args.num_mixed == 0, ErrorCode::kInvalidArgument, "condition: ",
             args.rows.size(), " rows in mixes of ", args.num_mixed);
  NS_REQUIRE(args.weights.size() == args.rows.size() || (args.weights.empty() && args.num_mixed == 1),
             ErrorCode::kInvalidArgument, "condition: ", args.weights.size(), " weights for ", args.rows.size(), " rows");
}

void CheckAddOffset(const AddOffsetArgs& args) {
  NS_REQUIRE(args.out != nullptr && args.in != nullptr && args.offset != nullptr, ErrorCode::kInvalidArgument,
             "add offset: an array is missing");
  NS_REQUIRE(args.out_stride >= args.width && args.in_stride >= args.width, ErrorCode::kInvalidArgument,
             "add offset: strides ", args.out_stride, " and ", args.in_stride, " for rows of ", args.width);
}

void CheckImageToMap(const ImageToMapArgs& args) {
  CheckMap("image to map", "map", args.map, args.stride, args.channels);
  NS_REQUIRE(args.planar != nullptr, ErrorCode::kInvalidArgument, "image to map: planar is missing");
}

void CheckMapToImage(const MapToImageArgs& args) {
  CheckMap("map to image", "map", args.map, args.stride, args.channels);
  NS_REQUIRE((args.planar == nullptr) != (args.bytes == nullptr), ErrorCode::kInvalidArgument,
             "map to image: expected either planar or bytes");
}

}  // namespace nextscale
