// What the engine asks of a device, counted over one that does nothing.
#include "native/backend/cuda/host/cuda_backend.h"
#include "test/native/backend/cuda/host/null_device.h"
#include "test/native/generate/engine_harness.h"

namespace nextscale::cuda {
namespace {

struct CudaEngineCounts : ::testing::Test {
  static constexpr size_t kImages = 64;

  std::shared_ptr<test::NullCounts> counts = std::make_shared<test::NullCounts>();
  TestModel model;
  std::unique_ptr<Engine> engine = [this] {
    EngineOptions options;
    options.kv_bytes = size_t{64} << 20;
    options.kv_dtype = DType::kBF16;
    return std::make_unique<Engine>(model.config, model.tensors, options,
                                    MakeCudaBackend(std::make_unique<test::NullDevice>(counts), DType::kBF16), nullptr);
  }();

  // All images of one generation, with pictures.
  void Generate(const std::vector<int32_t>& depths) {
    Recording recording, decoded;
    const uint64_t id = engine->Start(Simple(std::vector<int32_t>(kImages, 1), 7, depths), recording.MakeListener());
    const GenerationEnd end = recording.Wait();
    ASSERT_TRUE(end.ok) << end.message;
    std::vector<uint8_t> pixels(kImages * model.config.tokenizer.image_numbers());
    engine->DecodeGeneration(id, {pixels.data(), nullptr}, decoded.MakeDone());
    ASSERT_TRUE(decoded.Wait().ok);
    engine->Release(id);
  }
};

TEST_F(CudaEngineCounts, SixtyFourImagesRunTogether) {
  const size_t before = engine->Stats().steps;
  Generate({6, 6, 6, 6});
  EXPECT_EQ(engine->Stats().steps - before, kScales);
  EXPECT_EQ(engine->Stats().max_batch_rows, kImages * 2 * 25);
}

// What repeats is run as the graphs that there are, pictures included.
TEST_F(CudaEngineCounts, ASteadyStateMakesNoGraph) {
  for (int i = 0; i < 3; ++i) Generate({6, 6, 6, 6});
  const test::NullCounts before = *counts;
  Generate({6, 6, 6, 6});
  EXPECT_EQ(counts->graphs_made, before.graphs_made);
  EXPECT_LT(counts->graphs_made, kImages);  // one for the pictures, not one for each
  EXPECT_GE(counts->graphs_run - before.graphs_run, kScales + kImages);
}

}  // namespace
}  // namespace nextscale::cuda
