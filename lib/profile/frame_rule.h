/* How to get from a frame to its caller's: read from the call-frame information that every library carries for exceptions.
 *
 * Answers for: finding the entry of an address in an image's .eh_frame_hdr, and what its instructions come to there (DWARF 5
 * section 6.4; the Linux Standard Base's chapter on .eh_frame). Refuses what compilers do not emit for frames that one can
 * leave by the stack pointer and the frame pointer: then there is no rule. Every read is within the image; nothing is
 * allocated, no lock is taken. Pure. Threads: any.
 */
#pragma once

#include <cstdint>

namespace memlimit::profile {

/** A loaded image: what may be read of it, and the header of its unwind table (.eh_frame_hdr). */
struct CodeImage {
  uintptr_t begin, end;
  uintptr_t unwind_header;
};

/* The caller's stack pointer is the CFA. The return address and the caller's frame pointer are saved at fixed distances
 * from it; in a signal's frame, from the own stack pointer. Or the return address is still in its register, where the machine
 * has one (arm64), and the function has not called another. */
struct FrameRule {
  int32_t cfa_offset = 0;
  int16_t return_offset = 0;
  int16_t frame_pointer_offset = 0;
  bool cfa_from_frame_pointer = false; /* else from the stack pointer */
  bool cfa_is_read = false;            /* it is what lies there */
  bool saved_from_stack_pointer = false;
  bool frame_pointer_saved = false; /* else it is still in its register */
  bool signal = false;    /* the caller was interrupted: its address is no return address */
  bool outermost = false; /* nobody called it */
  bool return_in_register = false;

  bool operator==(const FrameRule&) const = default;
};

/** The rule that holds at an address of the image; false when there is none. */
bool find_frame_rule(const CodeImage& image, uintptr_t address, FrameRule* out) noexcept;

namespace detail {

/* Of a packed rule: three offsets of 24, 16 and 16 bits, then flags. */
inline constexpr uint64_t kFlag = uint64_t{1} << 56;
inline constexpr uint64_t kValid = kFlag << 7;

}  // namespace detail

/** In 64 bits, never 0; 0 when it does not fit. And back. */
uint64_t pack(const FrameRule& rule) noexcept;
inline FrameRule unpack_frame_rule(uint64_t packed) noexcept {
  using namespace detail;
  FrameRule rule;
  rule.cfa_offset = static_cast<int32_t>(static_cast<uint32_t>(packed) << 8) >> 8;
  rule.return_offset = static_cast<int16_t>(packed >> 24);
  rule.frame_pointer_offset = static_cast<int16_t>(packed >> 40);
  rule.cfa_from_frame_pointer = (packed & kFlag) != 0;
  rule.cfa_is_read = (packed & kFlag << 1) != 0;
  rule.saved_from_stack_pointer = (packed & kFlag << 2) != 0;
  rule.frame_pointer_saved = (packed & kFlag << 3) != 0;
  rule.signal = (packed & kFlag << 4) != 0;
  rule.outermost = (packed & kFlag << 5) != 0;
  rule.return_in_register = (packed & kFlag << 6) != 0;
  return rule;
}

}  // namespace memlimit::profile
