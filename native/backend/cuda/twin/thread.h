// The CPU's side of thread.h: every thread of a block is a fiber, and the operations of a warp or a block are executed
// when the last of its threads has arrived. A kernel's source runs here unchanged, with stricter rules than a device
// has:
//  - shared memory starts as NaN, and the target of an asynchronous copy is NaN from its issue until it is waited for:
//    both a read too early and an overwrite too early show;
//  - threads run in an order drawn from a seed, so results that depend on it change;
//  - a bulk copy arrives when somebody waits for its barrier, and not before;
//  - misaligned 16-byte accesses, lanes that diverge at a warp operation and threads that miss a barrier are errors;
//  - bank conflicts of ldmatrix are counted.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "native/backend/cuda/kernels/fragments.h"
#include "native/backend/cuda/kernels/shapes.h"
#include "native/base/error.h"
#include "native/base/half.h"

#define NS_DEVICE inline
#define NS_SIDE twin_side
#define NS_INLINED
#define NS_UNROLL
#define NS_UNROLL_BY(count)

namespace nextscale::cuda::twin_side {

struct BF16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

inline float ToFloat(float x) { return x; }
inline float ToFloat(BF16 x) { return FloatFromBF16(x.bits); }
inline float ToFloat(F16 x) { return FloatFromF16(x.bits); }
inline void FromFloat(float x, float& out) { out = x; }
inline void FromFloat(float x, BF16& out) { out.bits = BF16FromFloat(x); }
inline void FromFloat(float x, F16& out) { out.bits = F16FromFloat(x); }

inline float Multiply(float a, float b) { return a * b; }
inline float Subtract(float a, float b) { return a - b; }
inline float Fma(float a, float b, float c) { return std::fma(a, b, c); }
inline float Exp2(float x) { return std::exp2(x); }
inline float Exp(float x) { return std::exp(x); }
inline float Log(float x) { return std::log(x); }
inline float InverseRoot(float x) { return 1.0f / std::sqrt(x); }
inline float SquareRoot(float x) { return std::sqrt(x); }
inline float Floor(float x) { return std::floor(x); }
inline uint32_t FloatBits(float x) { return std::bit_cast<uint32_t>(x); }
inline float FloatFromBits(uint32_t x) { return std::bit_cast<float>(x); }

// Runs one block after another.
class Machine {
 public:
  struct Grid {
    uint32_t x = 1, y = 1, z = 1;
  };

  explicit Machine(uint64_t seed) : random_(seed * 2 + 1) {}

  // `kernel(thread)` for every thread of every block. Throws kInternal when the kernel breaks a rule.
  template <typename Kernel>
  void Launch(Grid grid, int num_threads, size_t shared_bytes, const Kernel& kernel);

  uint64_t bank_conflicts() const { return bank_conflicts_; }

 private:
  friend class Thread;
  struct Copy {
    unsigned char* to;
    const void* from;
    bool inside, committed_mark;  // a mark ends a group
  };
  // Made once, and used for block after block.
  struct Fiber {
    ucontext_t context;
    jmp_buf at;  // where it stopped
    std::vector<Copy> copies;
    int pending_groups = 0;
    bool done = false, started = false;
    bool unfenced = false;  // wrote to shared memory what wgmma may not see yet
  };
  // Where the threads of a warp or a block meet.
  struct Meeting {
    int expected = 0, arrived = 0;
    uint64_t generation = 0;
    const char* what = nullptr;
    std::vector<void*> slots;
  };

  // A barrier of bulk copies, and what it counts.
  struct Barrier {
    struct BulkCopy {
      unsigned char* to;
      const void* from;
      size_t bytes;
    };
    uint32_t num_complete = 0;  // phases
    bool expected = false;
    int64_t bytes = 0;  // expected and not asked for
    std::vector<BulkCopy> copies;
  };

  // The products that a warpgroup has begun and not waited for.
  struct Products {
    struct Operand {
      size_t offset;
      unsigned char bytes[16];
    };
    bool begun = false, committed = false;
    std::vector<float> sums;  // [64][128], empty when there are none
    std::vector<Operand> operands;
  };

  static constexpr size_t kStackBytes = size_t{64} << 10;

  void RunBlock(int num_threads);
  static void Enter(unsigned low, unsigned high);
  void Fail(std::string message) {
    if (failure_.empty()) failure_ = std::move(message);
  }
  // swapcontext asks the kernel for the signal mask at every switch; a jump does not. Sanitizers follow the former
  // only.
  void Yield(int thread) {
    Fiber& fiber = fibers_[static_cast<size_t>(thread)];
#if defined(__SANITIZE_ADDRESS__)
    swapcontext(&fiber.context, &scheduler_);
#else
    if (_setjmp(fiber.at) == 0) _longjmp(scheduler_at_, 1);
#endif
  }
  void Continue(Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
    swapcontext(&scheduler_, &fiber.context);
#else
    if (_setjmp(scheduler_at_) != 0) return;
    if (fiber.started) _longjmp(fiber.at, 1);
    fiber.started = true;
    setcontext(&fiber.context);
#endif
  }

  // The calling thread leaves `mine` at its place and goes on when the last one has run `all(slots)`.
  template <typename All>
  void Meet(Meeting& meeting, int thread, int place, const char* what, void* mine, const All& all) {
    if (meeting.arrived == 0) meeting.what = what;
    if (std::strcmp(meeting.what, what) != 0) Fail(Message("threads diverge: ", meeting.what, " and ", what));
    meeting.slots[static_cast<size_t>(place)] = mine;
    const uint64_t generation = meeting.generation;
    ++progress_;
    if (++meeting.arrived == meeting.expected) {
      all(meeting.slots);
      meeting.arrived = 0;
      ++meeting.generation;
      return;
    }
    while (meeting.generation == generation) Yield(thread);
  }

  uint64_t Random() {
    random_ ^= random_ << 13;
    random_ ^= random_ >> 7;
    return random_ ^= random_ << 17;
  }

  uint64_t random_;
  uint64_t bank_conflicts_ = 0;
  uint64_t progress_ = 0;  // arrivals and ends of threads
  Grid block_;
  int num_threads_ = 0;
  std::vector<unsigned char> shared_;
  unsigned char* shared_base_ = nullptr;
  size_t shared_bytes_ = 0;
  std::deque<Fiber> fibers_;  // stable addresses
  std::vector<size_t> order_;
  std::vector<std::unique_ptr<unsigned char[]>> stacks_;
  std::vector<Meeting> warps_, groups_;
  std::vector<Products> products_;      // of each warpgroup
  std::map<size_t, Barrier> barriers_;  // by place in shared memory
  Meeting whole_;
  ucontext_t scheduler_{};
  jmp_buf scheduler_at_{};
  int current_ = 0;
  std::function<void(int)> body_;
  std::string failure_;
};

class Thread {
 public:
  Thread(Machine& machine, int index) : machine_(machine), index_(index) {}

  int index() const { return index_; }
  int num_threads() const { return machine_.num_threads_; }
  int lane() const { return index_ & 31; }
  int warp() const { return index_ >> 5; }
  uint32_t block_x() const { return machine_.block_.x; }
  uint32_t block_y() const { return machine_.block_.y; }
  uint32_t block_z() const { return machine_.block_.z; }
  unsigned char* shared() const { return machine_.shared_base_; }

  void Sync() const {
    machine_.Meet(machine_.whole_, index_, index_, "Sync", nullptr, [](const auto&) {});
  }
  void SyncWarp() const {
    Warp("SyncWarp", nullptr, [](const auto&) {});
  }
  float ShuffleXor(float x, int mask) const { return Exchange("ShuffleXor", x, lane() ^ mask); }
  float Shuffle(float x, int lane) const { return Exchange("Shuffle", x, lane); }
  uint64_t ShuffleUp(uint64_t x, int distance) const {
    return Exchange("ShuffleUp", x, lane() >= distance ? lane() - distance : lane());
  }

  void LoadMatrices(uint32_t (&r)[4], const unsigned char* row) const { LoadMatrix("ldmatrix", r, row, false); }
  void LoadMatricesTransposed(uint32_t (&r)[4], const unsigned char* row) const {
    LoadMatrix("ldmatrix.trans", r, row, true);
  }

  template <typename T>
  void Mma(T, float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) const {
    struct Call {
      float* d;
      const uint32_t* a;
      uint32_t b[2];
    } call{d, a, {b0, b1}};
    Warp("mma", &call, [](const std::vector<void*>& slots) {
      float a_tile[16][16], b_tile[8][16];
      for (int lane = 0; lane < 32; ++lane) {
        const Call& c = *static_cast<Call*>(slots[static_cast<size_t>(lane)]);
        for (int reg = 0; reg < 4; ++reg) Unpack<T>(c.a[reg], &a_tile[OperandARow(lane, reg)][OperandAK(lane, reg)]);
        for (int reg = 0; reg < 2; ++reg) Unpack<T>(c.b[reg], &b_tile[OperandBColumn(lane)][OperandBK(lane, reg)]);
      }
      for (int lane = 0; lane < 32; ++lane) {
        const Call& c = *static_cast<Call*>(slots[static_cast<size_t>(lane)]);
        for (int i = 0; i < 4; ++i) {
          double sum = static_cast<double>(c.d[i]);
          for (int k = 0; k < 16; ++k) {
            sum += static_cast<double>(a_tile[AccumulatorRow(lane, i)][k]) *
                   static_cast<double>(b_tile[AccumulatorColumn(lane, i)][k]);
          }
          c.d[i] = static_cast<float>(sum);
        }
      }
    });
  }

  void CopyAsync(unsigned char* to, const void* from, bool inside) const {
    CheckShared(to, 16, 16, "cp.async");
    if (reinterpret_cast<uintptr_t>(from) % 16 != 0) machine_.Fail("cp.async from a misaligned address");
    std::memset(to, 0xFF, 16);
    fiber().copies.push_back({to, from, inside, false});
  }
  void CopyCommit() const {
    fiber().copies.push_back({nullptr, nullptr, false, true});
    ++fiber().pending_groups;
  }
  template <int kPending>
  void CopyWait() const {
    auto& copies = fiber().copies;
    size_t used = 0;
    if (fiber().pending_groups > kPending) fiber().unfenced = true;
    while (fiber().pending_groups > kPending) {
      const Machine::Copy copy = copies[used++];
      if (copy.committed_mark)
        --fiber().pending_groups;
      else if (copy.inside)
        std::memcpy(copy.to, copy.from, 16);
      else
        std::memset(copy.to, 0, 16);
    }
    copies.erase(copies.begin(), copies.begin() + static_cast<ptrdiff_t>(used));
  }

  // ---- bulk copies
  void BarrierInit(uint64_t* barrier) const {
    CheckShared(reinterpret_cast<unsigned char*>(barrier), 8, 8, "mbarrier.init");
    machine_.barriers_[PlaceOf(barrier)] = {};
  }
  void BarrierExpect(uint64_t* barrier, uint32_t bytes) const {
    Machine::Barrier& at = BarrierAt(barrier);
    if (std::exchange(at.expected, true)) machine_.Fail("a barrier is told twice what to expect in one phase");
    at.bytes += bytes;
    ++machine_.progress_;
  }
  void CopyBulk(unsigned char* to, const void* from, uint32_t bytes, uint64_t* barrier) const {
    CheckShared(to, bytes, 16, "cp.async.bulk");
    if (bytes % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0) machine_.Fail("misaligned cp.async.bulk");
    std::memset(to, 0xFF, bytes);
    Machine::Barrier& at = BarrierAt(barrier);
    at.bytes -= bytes;
    at.copies.push_back({to, from, bytes});
  }
  void BarrierWait(uint64_t* barrier, uint32_t parity) const {
    Machine::Barrier& at = BarrierAt(barrier);
    while (at.num_complete % 2 == parity) {
      if (at.expected && at.bytes == 0) {
        for (const auto& copy : at.copies) std::memcpy(copy.to, copy.from, copy.bytes);
        at.copies.clear();
        at.expected = false;
        ++at.num_complete;
        ++machine_.progress_;
        return;
      }
      machine_.Yield(index_);
      if (!machine_.failure_.empty()) return;
    }
  }

  // ---- wgmma. Sums are NaN from the first product to the wait; operands are read at once, and compared at the wait
  // with what then stands in their place.
  uint64_t TileDescriptor(const unsigned char* tile) const {
    if ((tile - machine_.shared_base_) % 1024 != 0) machine_.Fail("wgmma of a tile that is not 1024-byte aligned");
    return EncodeTile(static_cast<uint32_t>(tile - machine_.shared_base_));
  }
  void FenceForWgmma() const { fiber().unfenced = false; }
  void WgmmaBegin() const {
    Group("wgmma.fence", nullptr, [this](const auto&) { products().begun = true; });
  }
  template <typename T>
  void Wgmma(T, float (&d)[64], uint64_t a, uint64_t b) const {
    struct Call {
      float* d;
      uint64_t a, b;
    } call{d, a, b};
    Group("wgmma", &call, [this](const std::vector<void*>& slots) {
      Machine::Products& begun = products();
      if (!begun.begun) machine_.Fail("wgmma without a fence before it");
      for (size_t i = 0; i < static_cast<size_t>(num_threads()); ++i) {
        if (machine_.fibers_[i].unfenced) return machine_.Fail("wgmma may not see a copy: no fence after its arrival");
      }
      const Call& first = *static_cast<Call*>(slots[0]);
      for (void* slot : slots) {
        const Call& c = *static_cast<Call*>(slot);
        if (c.a != first.a || c.b != first.b) return machine_.Fail("threads of a warpgroup name different tiles");
      }
      if (begun.sums.empty()) {
        begun.sums.resize(size_t{64} * 128);
        for (size_t thread = 0; thread < 128; ++thread) {
          float* const sums = static_cast<Call*>(slots[thread])->d;
          for (size_t i = 0; i < 64; ++i) begun.sums[AtProduct(thread, i)] = std::exchange(sums[i], NAN);
        }
      }
      begun.committed = false;
      float a_tile[64][16], b_tile[128][16];
      for (size_t row = 0; row < 64; ++row) ReadOperand<T>(first.a, row, a_tile[row]);
      for (size_t row = 0; row < 128; ++row) ReadOperand<T>(first.b, row, b_tile[row]);
      for (size_t row = 0; row < 64; ++row) {
        for (size_t column = 0; column < 128; ++column) {
          double sum = static_cast<double>(begun.sums[row * 128 + column]);
          for (size_t k = 0; k < 16; ++k) {
            sum += static_cast<double>(a_tile[row][k]) * static_cast<double>(b_tile[column][k]);
          }
          begun.sums[row * 128 + column] = static_cast<float>(sum);
        }
      }
    });
  }
  void WgmmaCommit() const {
    Group("wgmma.commit_group", nullptr, [this](const auto&) { products().committed = true; });
  }
  void WgmmaWait(float (&d)[64]) const {
    Group("wgmma.wait_group", d, [this](const std::vector<void*>& slots) {
      Machine::Products& begun = products();
      if (begun.sums.empty()) return;
      if (!begun.committed) machine_.Fail("waiting for products that were not committed");
      for (const Machine::Products::Operand& operand : begun.operands) {
        if (std::memcmp(machine_.shared_base_ + operand.offset, operand.bytes, sizeof operand.bytes) != 0) {
          machine_.Fail("a tile changed while wgmma was reading it");
        }
      }
      for (size_t thread = 0; thread < 128; ++thread) {
        for (size_t i = 0; i < 64; ++i) static_cast<float*>(slots[thread])[i] = begun.sums[AtProduct(thread, i)];
      }
      begun = {};
    });
  }

  void AtomicAdd(uint32_t* at, uint32_t x) const { *at += x; }
  void AtomicMin(uint32_t* at, uint32_t x) const { *at = std::min(*at, x); }
  void AtomicMax(uint32_t* at, uint32_t x) const { *at = std::max(*at, x); }

 private:
  Machine::Fiber& fiber() const { return machine_.fibers_[static_cast<size_t>(index_)]; }

  template <typename All>
  void Warp(const char* what, void* mine, const All& all) const {
    machine_.Meet(machine_.warps_[static_cast<size_t>(warp())], index_, lane(), what, mine, all);
  }

  template <typename All>
  void Group(const char* what, void* mine, const All& all) const {
    machine_.Meet(machine_.groups_[static_cast<size_t>(index_ / 128)], index_, index_ % 128, what, mine, all);
  }
  Machine::Products& products() const { return machine_.products_[static_cast<size_t>(index_ / 128)]; }
  // The place of a thread's sum i among the 64 × 128 sums of its warpgroup.
  static size_t AtProduct(size_t thread, size_t i) {
    const int lane = static_cast<int>(thread % 32), e = static_cast<int>(i % 4);
    const size_t row = thread / 32 * 16 + static_cast<size_t>(AccumulatorRow(lane, e));
    return row * 128 + i / 4 * 8 + static_cast<size_t>(AccumulatorColumn(lane, e));
  }
  // 16 numbers of one row, through the descriptor: the two 16-byte pieces are moved by the row's place among eight.
  template <typename T>
  void ReadOperand(uint64_t descriptor, size_t row, float (&to)[16]) const {
    const size_t start = (descriptor & 0x3FFF) << 4, groups_apart = (descriptor >> 32 & 0x3FFF) << 4;
    if (descriptor >> 62 != 1) machine_.Fail("wgmma of a tile without the swizzle of 128 bytes");
    for (size_t piece = 0; piece < 2; ++piece) {
      const size_t plain = start + row / 8 * groups_apart + row % 8 * 128 + piece * 16;
      const size_t at = plain ^ (plain / 128 % 8 * 16);
      if (at + 16 > machine_.shared_bytes_) return machine_.Fail("wgmma outside shared memory");
      Machine::Products::Operand& operand = products().operands.emplace_back();
      operand.offset = at;
      std::memcpy(operand.bytes, machine_.shared_base_ + at, 16);
      for (size_t i = 0; i < 4; ++i) {
        uint32_t pair;
        std::memcpy(&pair, operand.bytes + 4 * i, 4);
        Unpack<T>(pair, &to[piece * 8 + 2 * i]);
      }
    }
  }

  template <typename X>
  X Exchange(const char* what, X x, int from) const {
    struct Call {
      X in, out;
      int from;
    } call{x, x, from};
    Warp(what, &call, [](const std::vector<void*>& slots) {
      for (void* slot : slots) {
        Call& c = *static_cast<Call*>(slot);
        c.out = static_cast<Call*>(slots[static_cast<size_t>(c.from)])->in;
      }
    });
    return call.out;
  }

  template <typename T>
  static void Unpack(uint32_t reg, float* to) {
    to[0] = ToFloat(T{static_cast<uint16_t>(reg)});
    to[1] = ToFloat(T{static_cast<uint16_t>(reg >> 16)});
  }

  size_t PlaceOf(const uint64_t* barrier) const {
    return static_cast<size_t>(reinterpret_cast<const unsigned char*>(barrier) - machine_.shared_base_);
  }
  Machine::Barrier& BarrierAt(const uint64_t* barrier) const {
    const auto found = machine_.barriers_.find(PlaceOf(barrier));
    if (found == machine_.barriers_.end()) machine_.Fail("a barrier that was not initialised");
    return found == machine_.barriers_.end() ? machine_.barriers_[PlaceOf(barrier)] : found->second;
  }
  void CheckShared(const unsigned char* at, size_t bytes, size_t alignment, const char* what) const {
    const unsigned char* base = machine_.shared_base_;
    if (at < base || at + bytes > base + machine_.shared_bytes_) machine_.Fail(Message(what, " outside shared memory"));
    if (reinterpret_cast<uintptr_t>(at) % alignment != 0) machine_.Fail(Message(what, " at a misaligned address"));
  }

  void LoadMatrix(const char* what, uint32_t (&r)[4], const unsigned char* row, bool transposed) const {
    CheckShared(row, 16, 16, what);
    struct Call {
      uint32_t* r;
      const unsigned char* row;
    } call{r, row};
    Machine* machine = &machine_;
    Warp(what, &call, [machine, transposed](const std::vector<void*>& slots) {
      for (size_t matrix = 0; matrix < 4; ++matrix) {
        uint16_t values[8][8];
        uint32_t banks = 0;
        for (size_t i = 0; i < 8; ++i) {
          const unsigned char* from = static_cast<Call*>(slots[matrix * 8 + i])->row;
          std::memcpy(values[i], from, 16);
          const uint32_t bit = 1u << (reinterpret_cast<uintptr_t>(from) / 16 % 8);
          if ((banks & bit) != 0) ++machine->bank_conflicts_;
          banks |= bit;
        }
        for (size_t lane = 0; lane < 32; ++lane) {
          const size_t i = lane / 4, j = lane % 4 * 2;
          const uint16_t low = transposed ? values[j][i] : values[i][j];
          const uint16_t high = transposed ? values[j + 1][i] : values[i][j + 1];
          static_cast<Call*>(slots[lane])->r[matrix] = static_cast<uint32_t>(low) | static_cast<uint32_t>(high) << 16;
        }
      }
    });
  }

  Machine& machine_;
  int index_;
};

inline void Machine::Enter(unsigned low, unsigned high) {
  auto* machine = reinterpret_cast<Machine*>(static_cast<uintptr_t>(low) | static_cast<uintptr_t>(high) << 32);
  const int thread = machine->current_;
  while (true) {
    machine->body_(thread);
    machine->fibers_[static_cast<size_t>(thread)].done = true;
    ++machine->progress_;
    machine->Yield(thread);
  }
}

inline void Machine::RunBlock(int num_threads) {
  const auto count = static_cast<size_t>(num_threads);
  const auto address = reinterpret_cast<uintptr_t>(this);
  for (size_t i = fibers_.size(); i < count; ++i) {
    stacks_.push_back(std::make_unique<unsigned char[]>(kStackBytes));
    Fiber& fiber = fibers_.emplace_back();
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stacks_[i].get();
    fiber.context.uc_stack.ss_size = kStackBytes;
    makecontext(&fiber.context, reinterpret_cast<void (*)()>(&Machine::Enter), 2, static_cast<unsigned>(address),
                static_cast<unsigned>(address >> 32));
  }
  for (size_t i = 0; i < count; ++i) {
    fibers_[i].done = false;
    fibers_[i].copies.clear();
    fibers_[i].pending_groups = 0;
    fibers_[i].unfenced = false;
  }
  if (warps_.size() != count / 32 || whole_.expected != num_threads) {
    groups_.assign(count / 128, Meeting{128, 0, 0, nullptr, std::vector<void*>(128)});
    warps_.assign(count / 32, Meeting{32, 0, 0, nullptr, std::vector<void*>(32)});
    whole_ = Meeting{num_threads, 0, 0, nullptr, std::vector<void*>(count)};
  }
  products_.assign(count / 128, Products{});
  barriers_.clear();
  order_.resize(count);
  for (size_t i = 0; i < count; ++i) order_[i] = i;
  for (bool running = true; running && failure_.empty();) {
    for (size_t i = count; i > 1; --i) std::swap(order_[i - 1], order_[Random() % i]);
    const uint64_t before = progress_;
    running = false;
    for (size_t i : order_) {
      if (fibers_[i].done) continue;
      running = true;
      current_ = static_cast<int>(i);
      Continue(fibers_[i]);
      if (!failure_.empty()) break;
    }
    if (running && progress_ == before) Fail("deadlock: some threads of a block wait where others never come");
  }
  if (failure_.empty()) return;
  fibers_.clear();  // they stand somewhere in the middle
  stacks_.clear();
  warps_.clear();
  groups_.clear();
  whole_ = Meeting{};
}

template <typename Kernel>
void Machine::Launch(Grid grid, int num_threads, size_t shared_bytes, const Kernel& kernel) {
  num_threads_ = num_threads;
  shared_bytes_ = shared_bytes;
  shared_.resize(shared_bytes + 2048);
  shared_base_ = shared_.data() + (1024 - reinterpret_cast<uintptr_t>(shared_.data()) % 1024);
  body_ = [&](int thread) { kernel(Thread(*this, thread)); };
  for (block_.z = 0; block_.z < grid.z; ++block_.z) {
    for (block_.y = 0; block_.y < grid.y; ++block_.y) {
      for (block_.x = 0; block_.x < grid.x; ++block_.x) {
        std::fill(shared_.begin(), shared_.end(), static_cast<unsigned char>(0xFF));
        RunBlock(num_threads);
        // The bytes behind the kernel's shared memory are still what they were.
        for (unsigned char* at = shared_base_ + shared_bytes; at != shared_.data() + shared_.size(); ++at) {
          if (*at != 0xFF) Fail("a store past the end of shared memory");
        }
        if (!failure_.empty()) throw Error(ErrorCode::kInternal, "twin: " + std::exchange(failure_, {}));
      }
    }
  }
}

}  // namespace nextscale::cuda::twin_side
