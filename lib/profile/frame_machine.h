/* The machine that call-frame instructions are for: it runs them up to an address and knows then where a frame's registers are
 * (DWARF 5 section 6.4.2). Of the registers it follows three: the stack pointer, the frame pointer, the return address.
 *
 * Pure. Threads: an object belongs to one.
 */
#pragma once

#include <cstdint>

#include "profile/byte_reader.h"

namespace memlimit::profile {

/* DWARF's numbers of the registers (System V ABI, AMD64 supplement figure 3.36; DWARF for the Arm 64-bit Architecture). */
#if defined(__x86_64__)
inline constexpr uint64_t kFramePointer = 6, kStackPointer = 7, kReturnAddress = 16;
#else
inline constexpr uint64_t kFramePointer = 29, kStackPointer = 31, kReturnAddress = 30;
#endif

/* Where a register's former value is. */
struct SavedRegister {
  enum class Where : uint8_t { kInRegister, kUndefined, kFromCfa, kFromStackPointer, kElsewhere };
  Where where = Where::kInRegister;
  int64_t offset = 0;
};

struct FrameState {
  uint64_t cfa_register = kStackPointer;
  int64_t cfa_offset = 0;
  bool cfa_known = false;
  bool cfa_is_read = false;
  SavedRegister return_address, frame_pointer;
};

/* Runs call-frame instructions up to an address. */
class FrameMachine {
 public:
  /** `location`: where the function begins. Distances in code and on the stack are in units of the two. */
  FrameMachine(uint64_t code_align, int64_t data_align, uintptr_t location,
               uintptr_t address) noexcept
      : code_align_(code_align), data_align_(data_align), location_(location), address_(address) {}

  /** false: what was read is no instruction that is known, or cut off. */
  bool run(ByteReader code) noexcept {
    while (code.more() && location_ <= address_) {
      if (!step(code)) return false;
    }
    return code.ok();
  }
  /** What restore instructions come back to from now on. */
  void begin_own() noexcept { initial_ = state_; }
  const FrameState& state() const noexcept { return state_; }

 private:
  static constexpr int kMostRemembered = 4;

  SavedRegister* saved(uint64_t number) noexcept {
    if (number == kReturnAddress) return &state_.return_address;
    if (number == kFramePointer) return &state_.frame_pointer;
    return nullptr;
  }
  void save(uint64_t number, SavedRegister::Where where, int64_t offset = 0) noexcept {
    if (SavedRegister* const place = saved(number)) *place = {where, offset};
  }
  void restore(uint64_t number) noexcept {
    if (number == kReturnAddress) state_.return_address = initial_.return_address;
    if (number == kFramePointer) state_.frame_pointer = initial_.frame_pointer;
  }
  void define_cfa(uint64_t number, int64_t offset) noexcept {
    state_.cfa_register = number;
    state_.cfa_offset = offset;
    state_.cfa_known = true;
    state_.cfa_is_read = false;
  }
  int64_t factored(uint64_t offset) const noexcept {
    return static_cast<int64_t>(offset) * data_align_;
  }

  bool step(ByteReader& code) noexcept;
  bool extended(ByteReader& code, uint8_t operation) noexcept;

  const uint64_t code_align_;
  const int64_t data_align_;
  uintptr_t location_;
  const uintptr_t address_;
  FrameState state_, initial_;
  FrameState remembered_[kMostRemembered];
  int remembered_count_ = 0;
};

}  // namespace memlimit::profile
