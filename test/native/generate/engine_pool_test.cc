// The engine's promises about the pool, depth and shutdown.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <random>
#include <thread>

#include "native/generate/engine.h"
#include "test/native/generate/engine_harness.h"

namespace nextscale {
namespace {

TEST(Engine, SetDepthIsThePlanItSets) {
  TestModel model;
  const auto engine = Open(model);
  for (const bool keep : {false, true}) {
    Request planned = Simple({2}, 4, {6, 2, 5, 5});
    planned.keep_dropped_cache = keep;
    const std::vector<int32_t> expected = Alone(*engine, planned);
    Request request = Simple({2}, 4, {6, 6, 6, 6});
    request.keep_dropped_cache = keep;
    Recording recording;
    Gate first, second;
    const uint64_t id = engine->Start(request, recording.MakeListener([&](const ScaleResult& scale) {
      if (scale.index == 0) first.Enter();
      if (scale.index == 1) second.Enter();
    }));
    first.AwaitEntered();
    const size_t before = engine->Stats().pool.reserved_bytes;
    engine->SetDepth(id, 2);
    EXPECT_LT(engine->Stats().pool.reserved_bytes, before);
    first.Open();
    second.AwaitEntered();
    engine->SetDepth(id, 5);
    second.Open();
    ASSERT_TRUE(recording.Wait().ok);
    EXPECT_EQ(recording.tokens(), expected) << keep;
    EXPECT_EQ(recording.scales()[1].reason, DepthReason::kSet);
  }
  EXPECT_THROW(engine->SetDepth(1, 1), Error);
  EXPECT_THROW(engine->SetDepth(1, 7), Error);
}

TEST(Engine, KeepingTheCacheChangesWhatComesAfterARise) {
  TestModel model;
  const auto engine = Open(model);
  Request request = Simple({2}, 4, {6, 2, 6, 6});
  const std::vector<int32_t> dropped = Alone(*engine, request);
  request.keep_dropped_cache = true;
  EXPECT_NE(Alone(*engine, request), dropped);
}

TEST(Engine, ARaiseWithoutRoomIsRefusedAndTheGenerationGoesOn) {
  TestModel model;
  const size_t low = 2 * (2 * 14 + 25) * kRowBytes;  // depth 2, two branches
  const auto engine = Open(model, 1, low);
  const Request request = Simple({1}, 8, {2, 2, 2, 2});
  EXPECT_EQ(engine->PeakBytes(request.depths, 2), low);
  const std::vector<int32_t> expected = Alone(*engine, request);
  Recording recording;
  Gate gate;
  const uint64_t id = engine->Start(request, recording.MakeListener([&](const ScaleResult& scale) {
    if (scale.index == 1) gate.Enter();
  }));
  gate.AwaitEntered();
  try {
    engine->SetDepth(id, 6);
    ADD_FAILURE() << "a raise that does not fit was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kPoolExhausted);
  }
  gate.Open();
  ASSERT_TRUE(recording.Wait().ok);
  EXPECT_EQ(recording.tokens(), expected);
  ExpectIdle(*engine);
}

TEST(Engine, WaitersStartInOrderAndTheBudgetHolds) {
  TestModel model;
  const size_t peak = 2 * (6 * 14 + 25) * kRowBytes;
  const auto engine = Open(model, 1, peak);  // one at a time
  std::mutex mutex;
  std::vector<size_t> order;
  std::vector<Recording> recordings(6);
  for (size_t i = 0; i < recordings.size(); ++i) {
    engine->Start(Simple({1}, i), recordings[i].MakeListener([&, i](const ScaleResult& scale) {
      std::lock_guard lock(mutex);
      if (scale.index == 0) order.push_back(i);
    }));
  }
  for (Recording& recording : recordings) EXPECT_TRUE(recording.Wait().ok);
  EXPECT_EQ(order, (std::vector<size_t>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(engine->Stats().pool.peak_bytes, peak);
  ExpectIdle(*engine);
}

TEST(Engine, NobodyOvertakesAWaiter) {
  TestModel model;
  const auto engine = Open(model, 1, 2 * (6 * 14 + 25) * kRowBytes);
  std::mutex mutex;
  std::vector<size_t> order;
  std::vector<Recording> recordings(3);
  Gate gate;
  const auto start = [&](size_t i, int32_t depth) {
    engine->Start(Simple({1}, i, std::vector<int32_t>(kScales, depth)),
                  recordings[i].MakeListener([&, i](const ScaleResult& scale) {
                    if (scale.index != 0) return;
                    {
                      std::lock_guard lock(mutex);
                      order.push_back(i);
                    }
                    if (i == 0) gate.Enter();
                  }));
  };
  start(0, 2);
  gate.AwaitEntered();
  start(1, 6);  // needs the whole pool
  start(2, 2);  // would fit beside the first
  gate.Open();
  for (Recording& recording : recordings) EXPECT_TRUE(recording.Wait().ok);
  EXPECT_EQ(order, (std::vector<size_t>{0, 1, 2}));
}

TEST(Engine, WhatCannotStartIsRefusedWithTheDeepestFit) {
  TestModel model;
  const auto engine = Open(model, 1, 2 * (4 * 14 + 25) * kRowBytes);  // depth 4 fits
  Recording never;
  engine->Start(Simple({1}, 1), never.MakeListener());
  const GenerationEnd end = never.Wait();
  EXPECT_EQ(end.code, ErrorCode::kPoolExhausted);
  EXPECT_EQ(end.needed_bytes, 2 * (6 * 14 + 25) * kRowBytes);
  EXPECT_EQ(end.available_bytes, 2 * (4 * 14 + 25) * kRowBytes);
  EXPECT_EQ(end.deepest_fit, 4u);

  Recording first, second, third;
  Gate gate;
  engine->Start(Simple({1}, 1, {4, 4, 4, 4}), first.MakeListener([&](const ScaleResult&) { gate.Enter(); }));
  gate.AwaitEntered();
  Request impatient = Simple({1}, 1, {2, 2, 2, 2});
  impatient.wait = false;
  engine->Start(impatient, second.MakeListener());
  gate.Open();
  EXPECT_EQ(second.Wait().code, ErrorCode::kPoolExhausted);
  EXPECT_TRUE(first.Wait().ok);
  engine->Start(impatient, third.MakeListener());
  EXPECT_TRUE(third.Wait().ok);
}

TEST(Engine, ADeadlineChoosesDepthsAndSaysWhy) {
  TestModel model;
  const auto engine = Open(model);
  Request request = Simple({1}, 1);
  request.deadline_depths = {2, 4, 6};
  request.deadline_ms = 1e-6;
  Recording late, easy;
  engine->Start(request, late.MakeListener());
  ASSERT_TRUE(late.Wait().ok);
  for (const ScaleResult& scale : late.scales()) {
    EXPECT_EQ(scale.depth, 2u);
    EXPECT_EQ(scale.reason, DepthReason::kLate);
  }
  request.deadline_ms = 1e6;
  engine->Start(request, easy.MakeListener());
  ASSERT_TRUE(easy.Wait().ok);
  for (const ScaleResult& scale : easy.scales()) EXPECT_EQ(scale.depth, 6u);
  EXPECT_EQ(easy.tokens(), Alone(*engine, Simple({1}, 1)));
}

TEST(Engine, CloseEndsEverythingExactlyOnce) {
  TestModel model;
  std::vector<Recording> recordings(8);
  Recording job;
  std::vector<uint8_t> bytes(300);
  {
    const auto engine = Open(model, 2, 4 * (6 * 14 + 25) * kRowBytes);  // two run, the others wait
    Gate gate;
    for (size_t i = 0; i < recordings.size(); ++i) {
      engine->Start(Simple({1}, i), recordings[i].MakeListener([&](const ScaleResult&) { gate.Enter(); }));
    }
    gate.AwaitEntered();
    engine->tokenizer().Decode(std::vector<int32_t>(kTokens), {bytes.data(), nullptr}, job.MakeDone());
    std::thread closer([&] { engine->Close(); });
    gate.Open();
    closer.join();
    engine->Close();
    EXPECT_THROW(engine->Start(Simple({1}, 1), Listener()), Error);
    ExpectIdle(*engine);
  }
  for (Recording& recording : recordings) EXPECT_EQ(recording.ends(), 1);
  EXPECT_EQ(job.ends(), 1);
}

TEST(Engine, RandomLoadFromSeveralThreads) {
  TestModel model;
  const auto engine = Open(model, 2, 8 * (6 * 14 + 25) * kRowBytes);
  std::vector<std::unique_ptr<Recording>> recordings;
  for (size_t i = 0; i < 4 * 25; ++i) recordings.push_back(std::make_unique<Recording>());
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(t);
      const std::vector<Request> mix = Mix(100 + t, 25);
      for (size_t i = 0; i < mix.size(); ++i) {
        Request request = mix[i];
        request.wait = random() % 4 != 0;
        if (random() % 4 == 0) request.deadline_ms = 5, request.deadline_depths = {2, 3};
        Recording& recording = *recordings[t * 25 + i];
        const uint64_t id = engine->Start(request, recording.MakeListener());
        if (random() % 2 == 0) recording.WaitScales(1 + random() % 3);
        for (int change = 0; change < 3; ++change) {
          try {
            engine->SetDepth(id, 2 + random() % 5);
          } catch (const Error& error) {
            EXPECT_EQ(error.code(), ErrorCode::kPoolExhausted);
          }
          const PoolStats pool = engine->Stats().pool;
          EXPECT_LE(pool.reserved_bytes, pool.capacity_bytes);
          EXPECT_LE(pool.used_bytes, pool.reserved_bytes);
          size_t used = 0, reserved = 0;
          for (const auto& one : pool.generations) {
            EXPECT_LE(one.used_bytes, one.reserved_bytes);
            used += one.used_bytes, reserved += one.reserved_bytes;
          }
          EXPECT_EQ(used, pool.used_bytes);
          EXPECT_EQ(reserved, pool.reserved_bytes);
        }
        if (random() % 3 == 0) engine->Cancel(id);
        if (random() % 3 == 0) engine->Release(id);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (auto& recording : recordings) recording->Wait();
  for (auto& recording : recordings) EXPECT_EQ(recording->ends(), 1);
  ExpectIdle(*engine);
}

TEST(Engine, NarrowCacheFormatsGiveNearbyLogits) {
  TestModel model;
  Request request = Simple({1}, 1);
  request.capture = true;
  request.given_tokens.assign(kTokens, 7);
  std::vector<float> exact;
  for (const auto& [dtype, tolerance] : {std::pair{DType::kF32, 0.0f}, {DType::kF16, 0.02f}, {DType::kBF16, 0.15f}}) {
    const auto engine = Open(model, 1, size_t{1} << 20, dtype);
    Recording recording;
    engine->Start(request, recording.MakeListener());
    ASSERT_TRUE(recording.Wait().ok);
    const std::vector<float> logits = recording.scales().back().logits;
    if (exact.empty()) exact = logits;
    float largest = 0;
    for (size_t i = 0; i < logits.size(); ++i) largest = std::max(largest, std::abs(logits[i] - exact[i]));
    EXPECT_LE(largest, tolerance);
    EXPECT_EQ(largest > 0, tolerance > 0);
  }
}

}  // namespace
}  // namespace nextscale
