// Which element of a tile a lane holds: the register layouts of mma.sync m16n8k16 and ldmatrix (PTX ISA, "Matrix
// fragments for mma.m16n8k16 with floating point type"). Kernels place their results by these functions, and the twin
// executes mma and ldmatrix by them.
#pragma once

#include "native/backend/cuda/kernels/layout.h"

namespace nextscale::cuda {

// D and C: four f32 per lane, i = 0..3.
NS_HOST_DEVICE constexpr int AccumulatorRow(int lane, int i) { return lane / 4 + (i / 2) * 8; }
NS_HOST_DEVICE constexpr int AccumulatorColumn(int lane, int i) { return lane % 4 * 2 + i % 2; }

// A [16, 16]: four registers of two numbers (k, k + 1) per lane.
NS_HOST_DEVICE constexpr int OperandARow(int lane, int reg) { return lane / 4 + (reg % 2) * 8; }
NS_HOST_DEVICE constexpr int OperandAK(int lane, int reg) { return lane % 4 * 2 + (reg / 2) * 8; }

// B [16, 8]: two registers of two numbers (k, k + 1) per lane.
NS_HOST_DEVICE constexpr int OperandBColumn(int lane) { return lane / 4; }
NS_HOST_DEVICE constexpr int OperandBK(int lane, int reg) { return lane % 4 * 2 + reg * 8; }

// ldmatrix.x4 reads four 8×8 matrices; lane 8i + r gives the address of row r of matrix i. These say which row and
// which 16-byte piece of a 16 × 16 block a lane must name for the four registers to be an operand. A, rows of the block
// are m; V with .trans, rows of the block are keys (k):
NS_HOST_DEVICE constexpr int LoadARow(int lane) { return lane & 15; }
NS_HOST_DEVICE constexpr int LoadAChunk(int lane) { return lane >> 4; }
// B, rows of the block are n; registers 0, 1 are the operand of n = 0..7, registers 2, 3 of n = 8..15:
NS_HOST_DEVICE constexpr int LoadBRow(int lane) { return (lane & 7) + ((lane >> 4) << 3); }
NS_HOST_DEVICE constexpr int LoadBChunk(int lane) { return (lane >> 3) & 1; }

// wgmma's description of a tile in shared memory (PTX ISA, "Matrix descriptor format"): rows of 128 swizzled bytes,
// groups of 8 rows 1024 bytes apart.
NS_HOST_DEVICE constexpr uint64_t EncodeTile(uint32_t shared_address) {
  return (shared_address & 0x3FFFF) >> 4 | uint64_t{1} << 16 | uint64_t{1024 >> 4} << 32 | uint64_t{1} << 62;
}

}  // namespace nextscale::cuda
