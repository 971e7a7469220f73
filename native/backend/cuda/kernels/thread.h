// What a kernel may do, as methods of `Thread`. Kernels are templates in *_kernel.h written against this class only, so
// that the same source runs twice: by nvcc on a device (this file), and by a C++ compiler on the CPU, where
// twin/thread.h executes every thread of a block as a fiber.
#pragma once

#if defined(__CUDACC__)

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "native/backend/cuda/kernels/fragments.h"
#include "native/backend/cuda/kernels/shapes.h"

#define NS_DEVICE __device__ __forceinline__
#define NS_SIDE device_side
#define NS_INLINED __attribute__((always_inline))  // of a lambda: what it captures stays in registers
#define NS_PRAGMA(text) _Pragma(#text)
#define NS_UNROLL NS_PRAGMA(unroll)
#define NS_UNROLL_BY(count) NS_PRAGMA(unroll count)

#define NS_WGMMA(format)                                                                                            \
  asm volatile(                                                                                                     \
      "{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\nwgmma.mma_async.sync.aligned.m64n128k16.f32." format "." format      \
      " {"                                                                                                          \
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                      \
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "                            \
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                            \
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"                              \
      "}, %64, %65, p, 1, 1, 0, 0;\n}\n"                                                                            \
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), \
        "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]),      \
        "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),     \
        "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]),     \
        "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]),     \
        "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]),     \
        "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]),     \
        "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])                   \
      : "l"(a), "l"(b)                                                                                              \
      : "memory")

namespace nextscale::cuda::device_side {

struct BF16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

NS_DEVICE float ToFloat(float x) { return x; }
NS_DEVICE float ToFloat(BF16 x) { return __bfloat162float(__ushort_as_bfloat16(x.bits)); }
NS_DEVICE float ToFloat(F16 x) { return __half2float(__ushort_as_half(x.bits)); }
NS_DEVICE void FromFloat(float x, float& out) { out = x; }
NS_DEVICE void FromFloat(float x, BF16& out) { out.bits = __bfloat16_as_ushort(__float2bfloat16_rn(x)); }
NS_DEVICE void FromFloat(float x, F16& out) { out.bits = __half_as_ushort(__float2half_rn(x)); }

// Arithmetic that must not be contracted, so that it equals the CPU's bit for bit.
NS_DEVICE float Multiply(float a, float b) { return __fmul_rn(a, b); }
NS_DEVICE float Subtract(float a, float b) { return __fsub_rn(a, b); }
NS_DEVICE float Fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
NS_DEVICE float Exp2(float x) { return exp2f(x); }
NS_DEVICE float Exp(float x) { return expf(x); }
NS_DEVICE float Log(float x) { return logf(x); }
NS_DEVICE float InverseRoot(float x) { return rsqrtf(x); }
NS_DEVICE float SquareRoot(float x) { return sqrtf(x); }
NS_DEVICE float Floor(float x) { return floorf(x); }
NS_DEVICE uint32_t FloatBits(float x) { return __float_as_uint(x); }
NS_DEVICE float FloatFromBits(uint32_t x) { return __uint_as_float(x); }

class Thread {
 public:
  NS_DEVICE int index() const { return static_cast<int>(threadIdx.x); }
  NS_DEVICE int num_threads() const { return static_cast<int>(blockDim.x); }
  NS_DEVICE int lane() const { return static_cast<int>(threadIdx.x & 31); }
  NS_DEVICE int warp() const { return static_cast<int>(threadIdx.x >> 5); }
  NS_DEVICE uint32_t block_x() const { return blockIdx.x; }
  NS_DEVICE uint32_t block_y() const { return blockIdx.y; }
  NS_DEVICE uint32_t block_z() const { return blockIdx.z; }
  NS_DEVICE unsigned char* shared() const {
    extern __shared__ __align__(1024) unsigned char dynamic_shared_memory[];
    return dynamic_shared_memory;
  }

  NS_DEVICE void Sync() const { __syncthreads(); }

  // Every lane of the warp must call these together.
  NS_DEVICE void SyncWarp() const { __syncwarp(); }
  NS_DEVICE float ShuffleXor(float x, int mask) const { return __shfl_xor_sync(0xFFFFFFFFu, x, mask); }
  NS_DEVICE float Shuffle(float x, int lane) const { return __shfl_sync(0xFFFFFFFFu, x, lane); }
  // The value of the lane `distance` below; the lane's own where there is none.
  NS_DEVICE uint64_t ShuffleUp(uint64_t x, int distance) const {
    return __shfl_up_sync(0xFFFFFFFFu, static_cast<unsigned long long>(x), distance);
  }
  NS_DEVICE void LoadMatrices(uint32_t (&r)[4], const unsigned char* row) const {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(SharedAddress(row))
                 : "memory");
  }
  NS_DEVICE void LoadMatricesTransposed(uint32_t (&r)[4], const unsigned char* row) const {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(SharedAddress(row))
                 : "memory");
  }
  // d += a · b, m16n8k16, f32 accumulation. The tag chooses the format.
  NS_DEVICE void Mma(BF16, float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) const {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
  NS_DEVICE void Mma(F16, float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) const {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }

  // Asynchronous copy of 16 aligned bytes to shared memory; zeros when not `inside` (from is then not read).
  NS_DEVICE void CopyAsync(unsigned char* to, const void* from, bool inside) const {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(SharedAddress(to)),
                 "l"(__cvta_generic_to_global(from)), "r"(inside ? 16 : 0)
                 : "memory");
  }
  NS_DEVICE void CopyCommit() const { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
  // Waits until at most `kPending` of this thread's latest groups are under way. Others' copies need a Sync on top.
  template <int kPending>
  NS_DEVICE void CopyWait() const {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
  }

  // ---- bulk copies, on sm_90a only: one thread asks, and a barrier in shared memory counts the bytes as they arrive.
  // A barrier's phases are complete when BarrierExpect was called once and all that it named is there.

  // By one thread; a Sync before anyone uses it.
  NS_DEVICE void BarrierInit(uint64_t* barrier) const {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    asm volatile(
        "mbarrier.init.shared::cta.b64 [%0], 1;\nfence.mbarrier_init.release.cluster;\n" ::"r"(SharedAddress(barrier))
        : "memory");
#endif
  }
  NS_DEVICE void BarrierExpect(uint64_t* barrier, uint32_t bytes) const {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(SharedAddress(barrier)), "r"(bytes)
                 : "memory");
#endif
  }
  // A multiple of 16 bytes, from and to aligned likewise. wgmma needs no fence for what arrives.
  NS_DEVICE void CopyBulk(unsigned char* to, const void* from, uint32_t bytes, uint64_t* barrier) const {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];\n" ::"r"(
                     SharedAddress(to)),
                 "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(SharedAddress(barrier))
                 : "memory");
#endif
  }
  // Until the barrier's phase of this parity (0, 1, 0, ...) is complete.
  NS_DEVICE void BarrierWait(uint64_t* barrier, uint32_t parity) const {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    uint32_t complete;
    do {
      asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}\n"
                   : "=r"(complete)
                   : "r"(SharedAddress(barrier)), "r"(parity)
                   : "memory");
    } while (complete == 0);
#endif
  }

  // ---- wgmma: products of a warpgroup (128 threads), on sm_90a only. Operands are tiles in shared memory, rows of 128
  // bytes of k, swizzled as SwizzledOffset<8> does, from addresses that are multiples of 1024.

  // Of rows from `tile` on. Plus 2 is the next 16 numbers of k.
  NS_DEVICE uint64_t TileDescriptor(const unsigned char* tile) const { return EncodeTile(SharedAddress(tile)); }
  // What this thread wrote to shared memory, copies that have arrived included, becomes visible to wgmma (after a
  // Sync).
  NS_DEVICE void FenceForWgmma() const {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
#endif
  }
  // Before the first product after any other use of the sums.
  NS_DEVICE void WgmmaBegin() const {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
#endif
  }
  // d += a · bᵀ, m64n128k16, f32 sums; begins only. d [4 i + e]: row 16 · (warp of the group) + AccumulatorRow(lane,
  // e), column 8 i + AccumulatorColumn(lane, e).
  NS_DEVICE void Wgmma(BF16, float (&d)[64], uint64_t a, uint64_t b) const {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    NS_WGMMA("bf16");
#else
    __trap();
#endif
  }
  NS_DEVICE void Wgmma(F16, float (&d)[64], uint64_t a, uint64_t b) const {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    NS_WGMMA("f16");
#else
    __trap();
#endif
  }
  NS_DEVICE void WgmmaCommit() const {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
#endif
  }
  // Until all that was committed is in d.
  NS_DEVICE void WgmmaWait(float (&d)[64]) const {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    asm volatile("wgmma.wait_group.sync.aligned 0;\n" ::: "memory");
    NS_UNROLL
    for (int i = 0; i < 64; ++i) asm volatile("" : "+f"(d[i])::"memory");  // no use of d moves up
#endif
  }

  NS_DEVICE void AtomicAdd(uint32_t* at, uint32_t x) const { atomicAdd(at, x); }
  NS_DEVICE void AtomicMin(uint32_t* at, uint32_t x) const { atomicMin(at, x); }
  NS_DEVICE void AtomicMax(uint32_t* at, uint32_t x) const { atomicMax(at, x); }

 private:
  NS_DEVICE static uint32_t SharedAddress(const void* pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
  }
};

}  // namespace nextscale::cuda::device_side

#else

#include "native/backend/cuda/twin/thread.h"

#endif

namespace nextscale::cuda::NS_SIDE {

// Two numbers in one register, the first in the low half.
template <typename T>
NS_DEVICE uint32_t Pack(float low, float high) {
  T l, h;
  FromFloat(low, l);
  FromFloat(high, h);
  return static_cast<uint32_t>(l.bits) | static_cast<uint32_t>(h.bits) << 16;
}

// Element `index` of memory in a format known at run time.
NS_DEVICE float Load(DType dtype, const void* memory, uint64_t index) {
  if (dtype == DType::kF32) return static_cast<const float*>(memory)[index];
  if (dtype == DType::kBF16) return ToFloat(static_cast<const BF16*>(memory)[index]);
  return ToFloat(static_cast<const F16*>(memory)[index]);
}
NS_DEVICE void Store(DType dtype, void* memory, uint64_t index, float x) {
  if (dtype == DType::kF32)
    FromFloat(x, static_cast<float*>(memory)[index]);
  else if (dtype == DType::kBF16)
    FromFloat(x, static_cast<BF16*>(memory)[index]);
  else
    FromFloat(x, static_cast<F16*>(memory)[index]);
}

struct alignas(16) Float4 {
  float x[4];
};
struct alignas(8) Half4 {
  uint32_t x[2];
};
// Four numbers at once, from a 16-byte aligned address.
NS_DEVICE Float4 Load4(const float* from) { return *reinterpret_cast<const Float4*>(from); }
// Four elements at once; index · element bytes is a multiple of 8 (halves) or 16 (f32).
NS_DEVICE void Store4(DType dtype, void* memory, uint64_t index, const float (&x)[4]) {
  if (dtype == DType::kF32) {
    *reinterpret_cast<Float4*>(static_cast<float*>(memory) + index) = Float4{{x[0], x[1], x[2], x[3]}};
    return;
  }
  const Half4 half = dtype == DType::kBF16 ? Half4{{Pack<BF16>(x[0], x[1]), Pack<BF16>(x[2], x[3])}}
                                           : Half4{{Pack<F16>(x[0], x[1]), Pack<F16>(x[2], x[3])}};
  *reinterpret_cast<Half4*>(static_cast<uint16_t*>(memory) + index) = half;
}

NS_DEVICE void Load4(DType dtype, const void* memory, uint64_t index, float (&x)[4]) {
  if (dtype == DType::kF32) {
    const Float4 four = Load4(static_cast<const float*>(memory) + index);
    NS_UNROLL
    for (int i = 0; i < 4; ++i) x[i] = four.x[i];
    return;
  }
  const Half4 half = *reinterpret_cast<const Half4*>(static_cast<const uint16_t*>(memory) + index);
  NS_UNROLL
  for (int i = 0; i < 4; ++i) {
    const uint16_t bits = static_cast<uint16_t>(half.x[i / 2] >> (i % 2 * 16));
    x[i] = dtype == DType::kBF16 ? ToFloat(BF16{bits}) : ToFloat(F16{bits});
  }
}
struct alignas(8) Float2 {
  float x[2];
};
NS_DEVICE void Store2(float* to, float x, float y) { *reinterpret_cast<Float2*>(to) = Float2{{x, y}}; }
NS_DEVICE bool IsAligned(const void* pointer, uint32_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

NS_DEVICE float WarpSum(const Thread& thread, float x) {
  for (int mask = 16; mask != 0; mask /= 2) x += thread.ShuffleXor(x, mask);
  return x;
}

}  // namespace nextscale::cuda::NS_SIDE
