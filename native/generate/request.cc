#include "native/generate/request.h"

#include <algorithm>
#include <string>
#include <type_traits>

#include "native/base/error.h"

namespace nextscale {
namespace {

constexpr auto kBad = ErrorCode::kInvalidArgument;

struct Checker {
  template <typename Value>
  void operator()(const char* name, const Value& value, const Limits& limits) const {
    if constexpr (std::is_arithmetic_v<Value> && !std::is_same_v<Value, bool>) {
      if (!Fits(value, limits)) Refuse(name, value, limits);
    }
  }
  template <typename Value>
  void operator()(const char* name, const std::vector<Value>& list, const Limits& limits) const {
    if (limits.optional && list.empty()) return;
    NS_REQUIRE(list.size() >= limits.least && list.size() <= limits.most, kBad, name, " has ", list.size(),
               " elements; expected ", limits.least,
               limits.most == limits.least ? std::string() : Message(" to ", limits.most));
    for (size_t i = 0; i < list.size(); ++i) {
      if (!Fits(list[i], limits)) Refuse(Message(name, "[", i, "]"), list[i], limits);
    }
    NS_REQUIRE(!limits.ascending || std::is_sorted(list.begin(), list.end()), kBad, name, " must ascend");
  }

 private:
  template <typename Value>
  static bool Fits(Value value, const Limits& limits) {  // false for NaN
    return static_cast<double>(value) >= limits.low && static_cast<double>(value) <= limits.high;
  }
  template <typename Value>
  [[noreturn]] static void Refuse(const std::string& name, Value value, const Limits& limits) {
    throw Error(kBad, Message(name, " is ", value, "; expected ", limits.low, " to ", limits.high));
  }
};

}  // namespace

void CheckRequest(const Request& request, const ModelConfig& config) {
  ForEach(request, config, Checker());
  NS_REQUIRE(request.labels.size() % request.num_mixed == 0, kBad, "labels has ", request.labels.size(),
             " elements; expected a multiple of numMixed, which is ", request.num_mixed);
  NS_REQUIRE(request.num_mixed == 1 || !request.weights.empty(), kBad, "weights is missing: ", request.num_mixed,
             " classes are mixed");
  NS_REQUIRE(!request.losses ||
                 (!request.given_tokens.empty() && !AnyDrawn(request.given_tokens.data(), request.given_tokens.size())),
             kBad, "losses need all tokens given");
}

bool AnyDrawn(const int32_t* given, size_t num_tokens) {
  return given == nullptr ||
         std::any_of(given, given + num_tokens, [](int32_t token) { return token == Request::kDraw; });
}

}  // namespace nextscale
