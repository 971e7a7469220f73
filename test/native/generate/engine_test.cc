#include "native/generate/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <random>
#include <thread>

#include "test/native/generate/engine_harness.h"

namespace nextscale {
namespace {

TEST(Engine, ScalesComeInOrderWithTheirPlan) {
  TestModel model;
  const auto engine = Open(model);
  Recording recording;
  engine->Start(Simple({1, 2}, 5, {6, 4, 3, 2}), recording.MakeListener());
  ASSERT_TRUE(recording.Wait().ok);
  const auto scales = recording.scales();
  ASSERT_EQ(scales.size(), kScales);
  const std::vector<size_t> depths = {6, 4, 3, 2};
  for (size_t k = 0; k < kScales; ++k) {
    EXPECT_EQ(scales[k].index, k);
    EXPECT_EQ(scales[k].side, model.config.tokenizer.sides[k]);
    EXPECT_EQ(scales[k].depth, depths[k]);
    EXPECT_EQ(scales[k].reason, DepthReason::kPlan);
    EXPECT_EQ(scales[k].tokens.size(), 2 * scales[k].side * scales[k].side);
  }
  const std::vector<int32_t> tokens = recording.tokens();
  EXPECT_GT(*std::max_element(tokens.begin(), tokens.end()), *std::min_element(tokens.begin(), tokens.end()));
  EXPECT_EQ(engine->Stats().pool.peak_bytes, engine->PeakBytes({6, 4, 3, 2}, 4));
  ExpectIdle(*engine);
}

// Same tokens alone, in shuffled mixes, at any number of threads, with a pool that makes some wait.
TEST(Engine, TokensDoNotDependOnCompany) {
  TestModel model;
  const std::vector<Request> mix = Mix(11, 12);
  std::vector<std::vector<int32_t>> expected;
  {
    const auto engine = Open(model);
    for (const Request& request : mix) expected.push_back(Alone(*engine, request));
  }
  size_t distinct = 0;
  for (size_t i = 1; i < expected.size(); ++i) distinct += expected[i] != expected[0];
  EXPECT_EQ(distinct, expected.size() - 1);
  std::mt19937_64 random(12);
  for (size_t round = 0; round < 6; ++round) {
    const size_t rows = 6 * 14 * 6 + 25 * 6;  // the greatest possible peak of one of them
    const auto engine = Open(model, 1 + round % 3, (round < 3 ? 100 : 2) * rows * kRowBytes);
    std::vector<size_t> order(mix.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), random);
    std::vector<Recording> recordings(mix.size());
    for (size_t i : order) engine->Start(mix[i], recordings[i].MakeListener());
    for (size_t i : order) {
      const GenerationEnd end = recordings[i].Wait();
      ASSERT_TRUE(end.ok) << end.message;
      EXPECT_EQ(recordings[i].tokens(), expected[i]) << "request " << i << " round " << round;
    }
    ExpectIdle(*engine);
  }
}

// A request that is larger than a batch runs image by image; every image is what it is alone.
TEST(Engine, ImagesOfALargeRequestAreIndependent) {
  TestModel model;
  const auto engine = Open(model, 2);
  std::vector<int32_t> labels(60);  // 60 · 2 · 25 rows at the last scale
  for (size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<int32_t>(i % 6);
  Recording recording;
  engine->Start(Simple(labels, 3), recording.MakeListener());
  ASSERT_TRUE(recording.Wait().ok);
  EXPECT_LE(engine->Stats().max_batch_rows, 2048u);
  EXPECT_GT(engine->Stats().steps, kScales);
  const auto scales = recording.scales();
  for (size_t image : {0, 17, 41, 59}) {
    Request single = Simple({labels[image]}, 3);
    single.first_image = image;
    const std::vector<int32_t> alone = Alone(*engine, single);
    std::vector<int32_t> found;
    for (const ScaleResult& scale : scales) {
      const size_t n = scale.side * scale.side;
      found.insert(found.end(), scale.tokens.begin() + image * n, scale.tokens.begin() + (image + 1) * n);
    }
    EXPECT_EQ(found, alone) << "image " << image;
  }
}

TEST(Engine, CancellingOneLeavesTheOthersBitIdentical) {
  TestModel model;
  const auto engine = Open(model, 2);
  Request other = Simple({1, 2, 3}, 9, {6, 5, 4, 3});
  other.capture = true;
  Recording solo;
  engine->Start(other, solo.MakeListener());
  ASSERT_TRUE(solo.Wait().ok);
  for (size_t at = 0; at < kScales; ++at) {
    Recording victim, survivor;
    std::atomic<uint64_t> id{0};
    Gate gate;
    // Both stand before the same scale when the victim is cancelled.
    id = engine->Start(Simple({0, 4}, 1), victim.MakeListener([&](const ScaleResult& scale) {
      if (scale.index + 1 == at) gate.Enter();
    }));
    engine->Start(other, survivor.MakeListener());
    if (at > 0) gate.AwaitEntered();
    engine->Cancel(id);
    gate.Open();
    const GenerationEnd end = victim.Wait();
    if (at > 0) {
      EXPECT_FALSE(end.ok);
      EXPECT_EQ(end.code, ErrorCode::kAborted);
      EXPECT_LE(victim.scales().size(), at);
    }
    ASSERT_TRUE(survivor.Wait().ok);
    EXPECT_EQ(survivor.tokens(), solo.tokens());
    for (size_t k = 0; k < kScales; ++k) {
      EXPECT_EQ(survivor.scales()[k].logits, solo.scales()[k].logits);
      EXPECT_EQ(survivor.scales()[k].hidden, solo.scales()[k].hidden);
    }
    EXPECT_EQ(victim.ends(), 1);
  }
  ExpectIdle(*engine);
}

TEST(Engine, BadRequestsAreRefused) {
  TestModel model;
  const auto engine = Open(model);
  std::vector<Request> bad(11, Simple({1}, 1));
  bad[0].labels = {6};
  bad[1].labels = {};
  bad[2].depths = {6, 6, 6};
  bad[3].depths[1] = 1;
  bad[4].guidance[2] = std::numeric_limits<float>::quiet_NaN();
  bad[5].given_tokens.assign(kTokens, 32);
  bad[6].top_k = 33;
  bad[7].given_tokens.assign(kTokens, -2);
  bad[8].given_tokens.assign(kTokens - 1, 1);
  bad[9].deadline_ms = std::numeric_limits<double>::infinity();
  bad[10].deadline_depths = {4, 3};
  for (size_t i = 0; i < bad.size(); ++i) {
    Recording recording;
    EXPECT_EQ(CodeOf([&] { engine->Start(bad[i], recording.MakeListener()); }), ErrorCode::kInvalidArgument) << i;
    EXPECT_EQ(recording.ends(), 0);
  }
  ExpectIdle(*engine);
}

// Finite weights whose product overflows: only the generation that meets them fails.
TEST(Engine, LogitsThatAreNotFiniteFailOnlyTheirGeneration) {
  TestModel model;
  std::vector<float>& embedding = model.Values("var.class_emb.weight");
  for (size_t i = 0; i < 24; ++i) embedding[3 * 24 + i] = 3e38f;  // label 3
  const auto engine = Open(model);
  Recording broken, good;
  engine->Start(Simple({3}, 1), broken.MakeListener());
  engine->Start(Simple({1}, 1), good.MakeListener());
  const GenerationEnd end = broken.Wait();
  EXPECT_EQ(end.code, ErrorCode::kNotFinite);
  EXPECT_NE(end.message.find("scale 0"), std::string::npos) << end.message;
  EXPECT_TRUE(good.Wait().ok);
  ExpectIdle(*engine);
}

TEST(Engine, ForcedTokensAndCaptureReplayAGeneration) {
  TestModel model;
  const auto engine = Open(model);
  Request request = Simple({1, 3}, 6, {6, 3, 6, 2});
  request.capture = true;
  Recording drawn, forced;
  engine->Start(request, drawn.MakeListener());
  ASSERT_TRUE(drawn.Wait().ok);
  for (size_t image = 0; image < 2; ++image) {
    for (const ScaleResult& scale : drawn.scales()) {
      const size_t n = scale.side * scale.side;
      request.given_tokens.insert(request.given_tokens.end(), scale.tokens.begin() + image * n,
                                  scale.tokens.begin() + (image + 1) * n);
    }
  }
  request.seed = 99;
  engine->Start(request, forced.MakeListener());
  ASSERT_TRUE(forced.Wait().ok);
  EXPECT_EQ(forced.tokens(), drawn.tokens());
  for (size_t k = 0; k < kScales; ++k) {
    const ScaleResult scale = drawn.scales()[k];
    const size_t n = scale.side * scale.side;
    EXPECT_EQ(forced.scales()[k].logits, scale.logits);
    EXPECT_EQ(scale.logits.size(), 2 * n * 32);
    EXPECT_EQ(scale.f_hat.size(), 2 * 4 * 25u);
    EXPECT_EQ(scale.hidden.size(), (1 + scale.depth) * 4 * n * 24);
    EXPECT_EQ(scale.next_input.empty(), k + 1 == kScales);
  }
}

TEST(Engine, LossesAreTheCrossEntropyOfTheConditionalLogits) {
  TestModel model;
  const auto engine = Open(model, 2);
  std::mt19937_64 random(4);
  for (const size_t num_images : {size_t{1}, size_t{3}, size_t{50}}) {  // the last one in parts
    Request request = Simple(std::vector<int32_t>(num_images, 2), 1, {6, 3, 6, 2}, 0);
    for (size_t i = 0; i < num_images * kTokens; ++i)
      request.given_tokens.push_back(static_cast<int32_t>(random() % 32));
    request.losses = request.capture = true;
    Recording captured, guided;
    engine->Start(request, captured.MakeListener());
    ASSERT_TRUE(captured.Wait().ok);
    request.capture = false;
    request.guidance.assign(kScales, 2.0f);
    engine->Start(request, guided.MakeListener());
    ASSERT_TRUE(guided.Wait().ok);
    for (size_t k = 0; k < kScales; ++k) {
      const ScaleResult scale = captured.scales()[k];
      ASSERT_EQ(scale.losses.size(), scale.tokens.size());
      for (size_t row = 0; row < scale.losses.size(); ++row) {
        const float* logits = scale.logits.data() + row * 32;
        double sum = 0;
        for (size_t i = 0; i < 32; ++i) sum += std::exp(static_cast<double>(logits[i]));
        const double expected = std::log(sum) - static_cast<double>(logits[scale.tokens[row]]);
        EXPECT_NEAR(scale.losses[row], expected, 1e-5 * (1 + std::abs(expected)));
      }
      EXPECT_EQ(guided.scales()[k].losses, scale.losses);  // guidance plays no part
    }
  }
  Request drawn = Simple({1}, 1);
  drawn.losses = true;
  EXPECT_EQ(CodeOf([&] { engine->Start(drawn, {}); }), ErrorCode::kInvalidArgument);
  drawn.given_tokens.assign(kTokens, 3);
  drawn.given_tokens[7] = Request::kDraw;
  EXPECT_EQ(CodeOf([&] { engine->Start(drawn, {}); }), ErrorCode::kInvalidArgument);
}

TEST(Engine, LossesThatAreNotFiniteFailTheirGeneration) {
  TestModel model;
  std::vector<float>& embedding = model.Values("var.class_emb.weight");
  for (size_t i = 0; i < 24; ++i) embedding[3 * 24 + i] = 3e38f;  // label 3
  const auto engine = Open(model);
  Request request = Simple({3}, 1, {6, 6, 6, 6}, 0);
  request.given_tokens.assign(kTokens, 1);
  request.losses = true;
  Recording recording;
  engine->Start(request, recording.MakeListener());
  EXPECT_EQ(recording.Wait().code, ErrorCode::kNotFinite);
  ExpectIdle(*engine);
}

// scale_ms counts the steps in which a scale had rows: alone, that is all the time there is.
TEST(Engine, AloneNothingIsWaitedFor) {
  TestModel model;
  const auto engine = Open(model);
  Recording recording;
  engine->Start(Simple(std::vector<int32_t>(60, 1), 3), recording.MakeListener());
  ASSERT_TRUE(recording.Wait().ok);
  double in_steps = 0;
  for (const ScaleResult& scale : recording.scales()) {
    EXPECT_GT(scale.scale_ms, 0);
    in_steps += scale.scale_ms;
  }
  const double elapsed = recording.scales().back().elapsed_ms;
  EXPECT_LE(in_steps, elapsed);
  EXPECT_GT(in_steps, 0.3 * elapsed);
}

TEST(Engine, DecodeOfAGenerationIsDecodeOfItsTokens) {
  TestModel model;
  const auto engine = Open(model);
  Recording recording;
  const uint64_t id = engine->Start(Simple({1, 3}, 6), recording.MakeListener());
  ASSERT_TRUE(recording.Wait().ok);
  std::vector<int32_t> tokens;
  for (size_t image = 0; image < 2; ++image) {
    for (const ScaleResult& scale : recording.scales()) {
      const size_t n = scale.side * scale.side;
      tokens.insert(tokens.end(), scale.tokens.begin() + image * n, scale.tokens.begin() + (image + 1) * n);
    }
  }
  const size_t numbers = 2 * 3 * 10 * 10;
  std::vector<float> first(numbers), second(numbers);
  std::vector<uint8_t> bytes(numbers);
  Recording a, b, c, d;
  engine->DecodeGeneration(id, {nullptr, first.data()}, a.MakeDone());
  engine->tokenizer().Decode(tokens, {nullptr, second.data()}, b.MakeDone());
  engine->tokenizer().Decode(tokens, {bytes.data(), nullptr}, c.MakeDone());
  EXPECT_TRUE(a.Wait().ok && b.Wait().ok && c.Wait().ok);
  EXPECT_EQ(first, second);
  for (size_t pixel = 0; pixel < 100; ++pixel) {
    for (size_t channel = 0; channel < 3; ++channel) {
      EXPECT_EQ(bytes[300 + pixel * 3 + channel],
                static_cast<uint8_t>(second[300 + channel * 100 + pixel] * 255 + 0.5f));
    }
  }
  engine->Release(id);
  engine->DecodeGeneration(id, {nullptr, first.data()}, d.MakeDone());
  EXPECT_EQ(d.Wait().code, ErrorCode::kInvalidArgument);
}

TEST(Engine, EncodeGivesTheTokensOfItsTrace) {
  TestModel model;
  const auto engine = Open(model);
  std::mt19937 random(1);
  std::vector<float> pixels(300), f(100), f_hats(kScales * 100), decoded(300), traced(300);
  for (float& value : pixels) value = std::uniform_real_distribution<float>(-1, 1)(random);
  std::vector<int32_t> tokens(kTokens);
  Recording a, b;
  engine->tokenizer().Encode(pixels, tokens.data(), a.MakeDone());
  engine->tokenizer().EncodeTrace(pixels, f.data(), f_hats.data(), b.MakeDone());
  ASSERT_TRUE(a.Wait().ok) << a.Wait().message;
  ASSERT_TRUE(b.Wait().ok);
  Request forced = Simple({0}, 0);
  forced.given_tokens = tokens;
  forced.capture = true;
  Recording replay;
  engine->Start(forced, replay.MakeListener());
  ASSERT_TRUE(replay.Wait().ok);
  for (size_t k = 0; k < kScales; ++k) {
    EXPECT_EQ(replay.scales()[k].f_hat, std::vector<float>(f_hats.begin() + k * 100, f_hats.begin() + (k + 1) * 100));
  }
}

TEST(Engine, PreviewsAreMadeWhenAskedFor) {
  TestModel model;
  const auto engine = Open(model);
  std::vector<float> matrix(15);
  matrix[4] = 0.5f;  // red: a constant
  matrix[9] = 2.0f;  // green: more than white
  engine->SetPreviewMatrix(matrix);
  EXPECT_THROW(engine->SetPreviewMatrix({1, 2}), Error);
  Request request = Simple({1, 2}, 1);
  request.preview = Preview::kLinear;
  Recording linear;
  engine->Start(request, linear.MakeListener());
  ASSERT_TRUE(linear.Wait().ok);
  const ScaleResult scale = linear.scales()[2];
  ASSERT_EQ(scale.preview.size(), 2 * 25 * 3u);
  EXPECT_EQ(std::vector<uint8_t>(scale.preview.begin(), scale.preview.begin() + 3),
            (std::vector<uint8_t>{128, 255, 0}));

  request.preview = Preview::kDecode;
  Recording decode, beside;
  const uint64_t id = engine->Start(request, decode.MakeListener());
  engine->Start(Simple({4}, 2), beside.MakeListener());
  ASSERT_TRUE(decode.Wait().ok && beside.Wait().ok);
  EXPECT_EQ(decode.tokens(), linear.tokens());
  std::vector<uint8_t> image(600);
  Recording done;
  engine->DecodeGeneration(id, {image.data(), nullptr}, done.MakeDone());
  ASSERT_TRUE(done.Wait().ok);
  EXPECT_EQ(decode.scales().back().preview, image);
}

// tokens [scale][image][token], as scales report them, as [image][scale][token], as a request gives them.
std::vector<int32_t> ByImage(const std::vector<ScaleResult>& scales, size_t num_images) {
  std::vector<int32_t> tokens;
  for (size_t image = 0; image < num_images; ++image) {
    for (const ScaleResult& scale : scales) {
      const size_t n = scale.tokens.size() / num_images;
      tokens.insert(tokens.end(), scale.tokens.begin() + static_cast<std::ptrdiff_t>(image * n),
                    scale.tokens.begin() + static_cast<std::ptrdiff_t>((image + 1) * n));
    }
  }
  return tokens;
}

TEST(Engine, NothingGivenIsAPlainGeneration) {
  TestModel model;
  const auto engine = Open(model, 2);
  Request plain = Simple({1, 4, 5}, 17, {6, 5, 3, 2});
  const std::vector<int32_t> expected = Alone(*engine, plain);
  plain.given_tokens.assign(3 * kTokens, Request::kDraw);
  EXPECT_EQ(Alone(*engine, plain), expected);
}

// Whatever is given stands in the result, and what was drawn before is drawn again, token by token: giving some of a
// generation's own tokens changes nothing, and giving others changes no draw of the scale in which they stand first.
TEST(Engine, GivenTokensStandAndTheOthersAreDrawnAsEver) {
  TestModel model;
  const auto engine = Open(model, 2);
  std::mt19937 random(5);
  for (int round = 0; round < 12; ++round) {
    SCOPED_TRACE(round);
    const size_t num_images = 1 + random() % 3;
    Request request = Simple(std::vector<int32_t>(num_images, 2), random(), {6, 6, 4, 2}, round % 2 == 0 ? 2.0f : 0.0f);
    Recording plain;
    engine->Start(request, plain.MakeListener());
    ASSERT_TRUE(plain.Wait().ok);
    const std::vector<int32_t> own = ByImage(plain.scales(), num_images);
    const double share = (round % 4) / 3.0;  // from nothing to everything
    std::vector<bool> mask;
    for (size_t i = 0; i < own.size(); ++i) mask.push_back(std::generate_canonical<double, 20>(random) < share);

    request.given_tokens.assign(own.size(), Request::kDraw);
    for (size_t i = 0; i < own.size(); ++i) {
      if (mask[i]) request.given_tokens[i] = own[i];
    }
    EXPECT_EQ(Alone(*engine, request), plain.tokens());

    // Others from the third scale on (5 tokens stand before it): the draws of that scale are what they were.
    for (size_t i = 0; i < own.size(); ++i) {
      request.given_tokens[i] = mask[i] && i % kTokens >= 5 ? static_cast<int32_t>(random() % 32) : Request::kDraw;
    }
    Recording mixed;
    engine->Start(request, mixed.MakeListener());
    ASSERT_TRUE(mixed.Wait().ok);
    const std::vector<int32_t> found = ByImage(mixed.scales(), num_images);
    for (size_t i = 0; i < own.size(); ++i) {
      const int32_t given = request.given_tokens[i];
      if (given != Request::kDraw) {
        EXPECT_EQ(found[i], given) << i;
      } else if (i % kTokens < 5 + 9) {
        EXPECT_EQ(found[i], own[i]) << i;
      }
    }
  }
}

// A generation that is given all tokens but one image's is a plain one for that image.
TEST(Engine, ImagesOfOneGenerationMayBeGivenDifferentTokens) {
  TestModel model;
  const auto engine = Open(model);
  Request request = Simple({1, 3}, 9);
  Recording plain;
  engine->Start(request, plain.MakeListener());
  ASSERT_TRUE(plain.Wait().ok);
  const std::vector<int32_t> own = ByImage(plain.scales(), 2);
  request.given_tokens.assign(2 * kTokens, Request::kDraw);
  std::fill_n(request.given_tokens.begin(), kTokens, 11);
  Recording mixed;
  engine->Start(request, mixed.MakeListener());
  ASSERT_TRUE(mixed.Wait().ok);
  const std::vector<int32_t> found = ByImage(mixed.scales(), 2);
  EXPECT_TRUE(std::all_of(found.begin(), found.begin() + kTokens, [](int32_t token) { return token == 11; }));
  EXPECT_TRUE(std::equal(found.begin() + kTokens, found.end(), own.begin() + kTokens));
}

// Counted in pictures: when the flag is set, at most the one whose turn it is begins.
TEST(Engine, ADecodeThatIsNoLongerWantedEndsWithinOnePicture) {
  TestModel model;
  const auto engine = Open(model);
  constexpr size_t kImages = 400;
  Recording recording;
  const uint64_t id =
      engine->Start(Simple(std::vector<int32_t>(kImages, 1), 3, {2, 2, 2, 2}, 0), recording.MakeListener());
  ASSERT_TRUE(recording.Wait().ok);
  std::vector<uint8_t> pictures(kImages * 300);
  Recording aborted;
  const auto flag = engine->DecodeGeneration(id, {pictures.data(), nullptr}, aborted.MakeDone());
  while (engine->Stats().jobs.parts == 0) std::this_thread::yield();
  flag->Set();
  const size_t begun = engine->Stats().jobs.parts;
  EXPECT_EQ(aborted.Wait().code, ErrorCode::kAborted);
  EXPECT_LE(engine->Stats().jobs.parts, begun + 1);
  EXPECT_EQ(engine->Stats().jobs.unfinished, 0u);
  // The generation is as finished as before: who wants its pictures after all gets them.
  Recording again;
  engine->DecodeGeneration(id, {pictures.data(), nullptr}, again.MakeDone());
  EXPECT_TRUE(again.Wait().ok);
}

}  // namespace
}  // namespace nextscale
