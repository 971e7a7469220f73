// The op cases that every backend passes, on the CPU: all instruction sets of this machine in turn. What the CPU
// promises beyond (tighter bounds, refusals, equal bits with any number of threads) is tested op by op beside this
// file.
#include "native/backend/cpu/cpu_backend.h"
#include "test/native/backend/cpu/kernel_test.h"
#include "test/native/ops/op_cases.h"

namespace nextscale {
namespace {

template <typename Suite>
void OnEveryTarget(const Suite& suite) {
  test::ForEachTarget([&] {
    test::Bench bench([](DType, const test::Chip&) { return MakeCpuBackend(2); }, {DType::kF32}, {});
    suite(bench);
  });
}

TEST(CpuOps, Linear) {
  OnEveryTarget([](test::Bench& bench) { test::LinearSuite(bench, 60); });
}
TEST(CpuOps, LinearRowsDoNotDependOnBatch) {
  OnEveryTarget([](test::Bench& bench) { test::CheckRowsDoNotDependOnBatch(bench, DType::kF32, 3); });
}
TEST(CpuOps, Qkv) { OnEveryTarget(test::QkvSuite); }
TEST(CpuOps, Conv) { OnEveryTarget(test::ConvSuite); }
TEST(CpuOps, Attention) {
  OnEveryTarget([](test::Bench& bench) {
    test::AttentionSuite(bench, 40);
    test::AttentionRowSuite(bench);
    test::WideAttentionSuite(bench);
  });
}
TEST(CpuOps, Norms) {
  OnEveryTarget([](test::Bench& bench) {
    test::NormSuite(bench);
    test::GroupNormSuite(bench);
  });
}
TEST(CpuOps, Sample) {
  OnEveryTarget([](test::Bench& bench) { test::SampleSuite(bench, 40); });
}
TEST(CpuOps, Latent) { OnEveryTarget(test::LatentSuite); }
TEST(CpuOps, Rows) {
  OnEveryTarget([](test::Bench& bench) {
    test::EmbedSuite(bench);
    test::LossSuite(bench);
  });
}
TEST(CpuOps, Pictures) { OnEveryTarget(test::PictureSuite); }

}  // namespace
}  // namespace nextscale
