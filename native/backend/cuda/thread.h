// What a kernel may do, as methods of `Thread`. Kernels are templates in *_kernel.h written against this class only, so
// that the same source runs twice: by nvcc on a device (this file), and by a C++ compiler on the CPU, where twin/thread.h
// executes every thread of a block as a fiber.
#pragma once

#if defined(__CUDACC__)

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "native/backend/cuda/fragments.h"
#include "native/backend/cuda/shapes.h"

#define NS_DEVICE __device__ __forceinline__
#define NS_SIDE device_side
#define NS_PRAGMA(text) _Pragma(#text)
#define NS_UNROLL NS_PRAGMA(unroll)
#define NS_UNROLL_BY(count) NS_PRAGMA(unroll count)

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
    extern __shared__ __align__(128) unsigned char dynamic_shared_memory[];
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

  NS_DEVICE void AtomicAdd(uint32_t* at, uint32_t x) const { atomicAdd(at, x); }
  NS_DEVICE void AtomicAdd(uint64_t* at, uint64_t x) const {
    atomicAdd(reinterpret_cast<unsigned long long*>(at), static_cast<unsigned long long>(x));
  }
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
  if (dtype == DType::kF32) FromFloat(x, static_cast<float*>(memory)[index]);
  else if (dtype == DType::kBF16) FromFloat(x, static_cast<BF16*>(memory)[index]);
  else FromFloat(x, static_cast<F16*>(memory)[index]);
}

struct alignas(16) Float4 {
  float x[4];
};
struct alignas(8) Half4 {
  uint32_t x[2];
};
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

NS_DEVICE float WarpSum(const Thread& thread, float x) {
  for (int mask = 16; mask != 0; mask /= 2) x += thread.ShuffleXor(x, mask);
  return x;
}

}  // namespace nextscale::cuda::NS_SIDE
