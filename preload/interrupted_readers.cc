/* See interrupted_readers.h. The counter has no name in a stripped library, but what is done to it tells it apart: it is
 * incremented and decremented by an atomic instruction, and waited for in a loop of three instructions around a pause.
 * Whatever word is treated like that is 0 when no thread is inside, so it is in a child whose only thread is in fork().
 * Found in builds of 2.0.7, 2.0.9 and 2.1.2 for x86-64, of GCC 12 and Clang 14 at -O2 and -O3, and in Debian's; where
 * nothing is found nothing is written. */
#include "interrupted_readers.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <mimalloc.h>

namespace memlimit::interrupted_readers {
namespace {

constinit AddressRange allocator_code{};
constinit AddressRange allocator_data{};

/* Two threads that fork at once find the same. */
constinit std::atomic<uintptr_t> counter{0};
constinit std::atomic<bool> looked{false};

#if defined(__x86_64__)

using Byte = unsigned char;

/* Intel SDM, volume 2, 2.2.1.6: mod 00, r/m 101 is a displacement of 32 bits from the next instruction. */
constexpr Byte kModRmMask = 0xc7;
constexpr Byte kRipRelative = 0x05;
constexpr size_t kLongest = 16; /* of the sequences below */

bool is_rip_relative(Byte mod_rm) noexcept { return (mod_rm & kModRmMask) == kRipRelative; }

/* The displacement at `at`, of an instruction that ends `tail` bytes after it. */
uintptr_t target(const Byte* at, size_t tail) noexcept {
  int32_t displacement;
  memcpy(&displacement, at, sizeof displacement);
  return reinterpret_cast<uintptr_t>(at + sizeof displacement + tail) +
         static_cast<uintptr_t>(intptr_t{displacement});
}

struct ZeroTest {
  uintptr_t word; /* 0: it is none */
  const Byte* after;
};

/* mov r64, [rip+d]; test r64, r64, or cmp qword [rip+d], 0. */
ZeroTest zero_test_at(const Byte* at) noexcept {
  if ((at[0] == 0x48 || at[0] == 0x4c) && at[1] == 0x8b && is_rip_relative(at[2])) {
    const Byte loaded = at[2] >> 3 & 7;
    const Byte both = static_cast<Byte>(0xc0 | loaded << 3 | loaded);
    const Byte rex = at[0] == 0x48 ? 0x48 : 0x4d;
    if (at[7] == rex && at[8] == 0x85 && at[9] == both) return {target(at + 3, 0), at + 10};
  }
  if (at[0] == 0x48 && at[1] == 0x83 && at[2] == 0x3d && at[7] == 0)
    return {target(at + 3, 1), at + 8};
  return {0, nullptr};
}

/* Where a jump at `at` leads whose opcode is one of these two; or nullptr. */
const Byte* jump_target(const Byte* at, Byte near_opcode, const Byte (&far_opcode)[2]) noexcept {
  if (at[0] == near_opcode) return at + 2 + static_cast<int8_t>(at[1]);
  const size_t bytes = far_opcode[0] == 0x0f ? 2 : 1;
  if (memcmp(at, far_opcode, bytes) != 0) return nullptr;
  return reinterpret_cast<const Byte*>(target(at + bytes, 0));
}

/* Whether the code at `at`, behind a test, goes to the pause when the word was not 0. */
bool goes_to(const Byte* pause, const Byte* at) noexcept {
  constexpr Byte kJumpIfNot[2] = {0x0f, 0x85};
  if (jump_target(at, 0x75, kJumpIfNot) == pause) return true;
  return (at[0] == 0x74 && at + 2 == pause) || (at[0] == 0x0f && at[1] == 0x84 && at + 6 == pause);
}

/* The word that a loop around the pause at `at` waits for to be 0; or 0. */
uintptr_t waited_for_at(const Byte* at, const Byte* begin, const Byte* end) noexcept {
  // The test comes first: pause, and back to it.
  constexpr Byte kJump[2] = {0xe9, 0};
  const Byte* const back = jump_target(at + 2, 0xeb, kJump);
  if (back != nullptr && back >= begin && back <= end - kLongest) {
    const ZeroTest test = zero_test_at(back);
    if (test.word != 0 && goes_to(at, test.after)) return test.word;
  }
  // The test comes last: pause, test, and back to the pause.
  const ZeroTest test = zero_test_at(at + 2);
  return test.word != 0 && goes_to(at, test.after) ? test.word : 0;
}

struct Step {
  uintptr_t word; /* 0: it is none */
  int by;
};

/* lock add, sub, inc or dec qword [rip+d], by one. */
Step step_at(const Byte* at) noexcept {
  if (at[0] != 0xf0 || at[1] != 0x48) return {0, 0};
  const bool adds = at[2] == 0x83 && at[3] == 0x05;
  const bool subtracts = at[2] == 0x83 && at[3] == 0x2d;
  if (adds || subtracts) {
    const int by = at[8] == 0x01 ? 1 : at[8] == 0xff ? -1 : 0;
    return {target(at + 4, 1), adds ? by : -by};
  }
  if (at[2] == 0xff && at[3] == 0x05) return {target(at + 4, 0), 1};
  if (at[2] == 0xff && at[3] == 0x0d) return {target(at + 4, 0), -1};
  return {0, 0};
}

bool is_counted_in(uintptr_t word, const Byte* begin, const Byte* end) noexcept {
  bool up = false;
  bool down = false;
  const Byte* at = begin;
  while ((at = static_cast<const Byte*>(memchr(at, 0xf0, static_cast<size_t>(end - at)))) !=
             nullptr &&
         at <= end - kLongest) {
    const Step step = step_at(at);
    if (step.word == word) {
      up = up || step.by > 0;
      down = down || step.by < 0;
    }
    ++at;
  }
  return up && down;
}

#endif

}  // namespace

uintptr_t find_counter(AddressRange code, AddressRange data) noexcept {
  uintptr_t found = 0;
#if defined(__x86_64__)
  if (code.end - code.begin < 2 * kLongest) return 0;
  const Byte* const begin = reinterpret_cast<const Byte*>(code.begin);
  const Byte* const end = reinterpret_cast<const Byte*>(code.end);
  for (const Byte* at = begin;
       (at = static_cast<const Byte*>(memchr(at, 0xf3, static_cast<size_t>(end - at)))) !=
           nullptr &&
       at <= end - 2 * kLongest;
       ++at) {
    if (at[1] != 0x90) continue;
    const uintptr_t word = waited_for_at(at, begin, end);
    if (word == 0 || word == found) continue;
    if (word < data.begin || word > data.end - sizeof(uintptr_t) || word % sizeof(uintptr_t) != 0)
      continue;
    if (!is_counted_in(word, begin, end)) continue;
    if (found != 0) return 0;
    found = word;
  }
#else
  (void)code, (void)data;
#endif
  return found;
}

void set_allocator(AddressRange code, AddressRange data) noexcept {
  allocator_code = code;
  allocator_data = data;
}

void prepare_fork() noexcept {
  if (looked.load(std::memory_order_relaxed)) return;
  const int version = mi_version();
  if (version >= 200 && version < 300) {
    counter.store(find_counter(allocator_code, allocator_data), std::memory_order_relaxed);
  }
  looked.store(true, std::memory_order_relaxed);
}

void end_after_fork() noexcept {
  auto* const readers =
      reinterpret_cast<std::atomic<size_t>*>(counter.load(std::memory_order_relaxed));
  // Read first: what is not written to stays a page that the child shares.
  if (readers == nullptr || readers->load(std::memory_order_relaxed) == 0) return;
  readers->store(0, std::memory_order_relaxed);
}

}  // namespace memlimit::interrupted_readers
