/* See stack_walk.h. */
#include "profile/stack_walk.h"

#include <dlfcn.h>
#include <ucontext.h>

#include <csignal>
#include <cstddef>

#include "profile/frame_rule.h"
#include "profile/readable_memory.h"
#include "system/attributes.h"

/* Absent before glibc 2.35, and in other libcs. */
#if defined(DLFO_STRUCT_HAS_EH_DBASE)
extern "C" int _dl_find_object(void*, dl_find_object*) noexcept __attribute__((weak));
#define MEMLIMIT_CAN_FIND_OBJECTS 1
#endif

namespace memlimit::profile {
namespace {

constexpr uintptr_t kPage = 4096;
/* Beyond that a frame is no frame. */
constexpr uintptr_t kMostFrameBytes = uintptr_t{64} << 20;
/* And between two frames of code without call-frame information. */
constexpr uintptr_t kMostGuessedBytes = uintptr_t{1} << 20;

/* What is followed of a frame's registers. `link` is where arm64 has the return address until it is saved; 0: not known. */
struct Registers {
  uintptr_t pc, sp, fp;
  uintptr_t link = 0;
};

#if MEMLIMIT_CAN_FIND_OBJECTS
constinit ObjectFinder object_finder = &_dl_find_object;

/* Where segments do not follow one another (a program at fixed addresses), glibc names the segment of the code alone: then
 * its table is believed to lie within what its own offsets can reach. */
bool find_image(uintptr_t address, CodeImage* out) noexcept {
  constexpr uintptr_t kMostTableBytes = uintptr_t{1} << 30;
  dl_find_object found;
  if (object_finder(reinterpret_cast<void*>(address), &found) != 0) return false;
  *out = {reinterpret_cast<uintptr_t>(found.dlfo_map_start),
          reinterpret_cast<uintptr_t>(found.dlfo_map_end),
          reinterpret_cast<uintptr_t>(found.dlfo_eh_frame)};
  if (out->unwind_header < out->begin || out->unwind_header >= out->end) {
    out->begin = out->unwind_header;
    out->end = out->unwind_header + kMostTableBytes;
  }
  return true;
}
#else
constinit ObjectFinder object_finder = nullptr;

bool find_image(uintptr_t, CodeImage*) noexcept { return false; }
#endif

/* Signed return addresses (arm64's pauth) have the signature above the address. */
uintptr_t without_signature(uintptr_t address) noexcept {
#if defined(__aarch64__)
  return address & ((uintptr_t{1} << 48) - 1);
#else
  return address;
#endif
}

class Walk {
 public:
  Walk(FrameRules& rules, uint32_t loads, const Registers& begin) noexcept
      : rules_(rules), loads_(loads), now_(begin) {}

  uintptr_t pc() const noexcept { return now_.pc; }

  /* From a frame to its caller's; false: there is none that could be found. */
  bool up() noexcept {
    // A call that never returns is the last instruction of its function: what follows is another's.
    const uintptr_t address = exact_ ? now_.pc : now_.pc - 1;
    FrameRule rule;
    const bool found = find_rule(address, &rule);
    if ((!found || rule.signal) && up_by_signal()) return true;
    if (!found || (rule.return_in_register && now_.link == 0)) return up_by_frame_pointer();
    if (rule.outermost) return false;
    return up_by(rule);
  }

 private:
  bool find_rule(uintptr_t address, FrameRule* out) noexcept {
    uint64_t packed = 0;
    if (rules_.find(address, loads_, &packed)) {
      *out = unpack_frame_rule(packed);
      return true;
    }
    CodeImage image;
    if (!find_image(address, &image) || !find_frame_rule(image, address, out)) return false;
    packed = pack(*out);
    if (packed != 0) rules_.keep(address, loads_, packed);
    return true;
  }

  bool up_by(const FrameRule& rule) noexcept {
    uintptr_t cfa = (rule.cfa_from_frame_pointer ? now_.fp : now_.sp) +
                    static_cast<uintptr_t>(intptr_t{rule.cfa_offset});
    if (rule.cfa_is_read && !memory_.read(cfa, &cfa)) return false;
    // Stacks grow downwards. A signal may have come on another one. A function that calls none may need no stack.
    const uintptr_t least = now_.sp + (rule.return_in_register ? 0 : 1);
    if (!rule.signal && (cfa < least || cfa - now_.sp > kMostFrameBytes)) return false;
    const uintptr_t base = rule.saved_from_stack_pointer ? now_.sp : cfa;
    Registers next{now_.link, cfa, now_.fp};
    if (!rule.return_in_register &&
        !memory_.read(base + static_cast<uintptr_t>(intptr_t{rule.return_offset}), &next.pc))
      return false;
    if (rule.frame_pointer_saved &&
        !memory_.read(base + static_cast<uintptr_t>(intptr_t{rule.frame_pointer_offset}), &next.fp))
      return false;
    return go(next, rule.signal);
  }

  /* From where a signal's handler returns to, to what it interrupted. On arm64 call-frame information does not lead there: new
   * kernels have none, old ones' leads past the function that was interrupted. libgcc, too, goes by the two instructions. */
  bool up_by_signal() noexcept {
#if defined(__aarch64__)
    constexpr uint64_t kMoveNumberAndCall =
        0xd4000001d2801168; /* mov x8, #__NR_rt_sigreturn; svc #0 */
    constexpr int kFramePointerNumber = 29, kLinkNumber = 30;
    struct SignalFrame {
      siginfo_t info;
      ucontext_t context;
    };
    uint64_t instructions = 0;
    if (!memory_.get(now_.pc, &instructions) || instructions != kMoveNumberAndCall) return false;
    const uintptr_t context =
        now_.sp + offsetof(SignalFrame, context) + offsetof(ucontext_t, uc_mcontext);
    const uintptr_t registers = context + offsetof(mcontext_t, regs);
    Registers next{};
    if (!memory_.get(context + offsetof(mcontext_t, pc), &next.pc) ||
        !memory_.get(context + offsetof(mcontext_t, sp), &next.sp) ||
        !memory_.get(registers + kFramePointerNumber * sizeof(uintptr_t), &next.fp) ||
        !memory_.get(registers + kLinkNumber * sizeof(uintptr_t), &next.link))
      return false;
    return go(next, true);
#else
    return false;
#endif
  }

  /* Of code without call-frame information, most keeps the frame pointer: V8 does. A frame that is none is told by where it
   * would lie, and where the one above it. */
  bool up_by_frame_pointer() noexcept {
    if (now_.fp < now_.sp || now_.fp - now_.sp > kMostGuessedBytes) return false;
    Registers next{0, now_.fp + 2 * sizeof(uintptr_t), 0, 0};
    if (!memory_.read(now_.fp, &next.fp) || !memory_.read(now_.fp + sizeof(uintptr_t), &next.pc))
      return false;
    if (next.fp <= now_.fp || next.fp - now_.fp > kMostGuessedBytes) return false;
    return go(next, false);
  }

  bool go(const Registers& next, bool exact) noexcept {
    now_ = next;
    now_.pc = without_signature(next.pc);
    exact_ = exact;
    return now_.pc >= kPage;
  }

  FrameRules& rules_;
  const uint32_t loads_;
  ReadableMemory memory_;
  Registers now_;
  bool exact_ =
      true; /* the address is of an instruction that runs next, not one that is returned to */
};

MEMLIMIT_ALWAYS_INLINE Registers here() noexcept {
  Registers now;
#if defined(__x86_64__)
  asm volatile("leaq 0f(%%rip), %0\n0: movq %%rsp, %1\n movq %%rbp, %2"
               : "=&r"(now.pc), "=&r"(now.sp), "=&r"(now.fp));
#elif defined(__aarch64__)
  asm volatile("adr %0, 0f\n0: mov %1, sp\n mov %2, x29"
               : "=&r"(now.pc), "=&r"(now.sp), "=&r"(now.fp));
#else
  now = {};
#endif
  return now;
}

}  // namespace

bool FrameRules::find(uintptr_t address, uint32_t loads, uint64_t* packed) const noexcept {
  for (const Entry& entry : pairs_[place_of(address)].entries) {
    const uint64_t rule = entry.rule.load(std::memory_order_relaxed);
    if (rule == 0 || (entry.mixed.load(std::memory_order_relaxed) ^ rule) != key_of(address, loads))
      continue;
    *packed = rule;
    return true;
  }
  return false;
}

void FrameRules::keep(uintptr_t address, uint32_t loads, uint64_t packed) noexcept {
  auto& [first, second] = pairs_[place_of(address)].entries;
  second.mixed.store(first.mixed.load(std::memory_order_relaxed), std::memory_order_relaxed);
  second.rule.store(first.rule.load(std::memory_order_relaxed), std::memory_order_relaxed);
  first.mixed.store(key_of(address, loads) ^ packed, std::memory_order_relaxed);
  first.rule.store(packed, std::memory_order_relaxed);
}

bool own_image(CodeRange* out) noexcept {
  CodeImage image;
  if (!can_walk_stack() || !find_image(here().pc, &image)) return false;
  *out = {image.begin, image.end};
  return true;
}

bool can_walk_stack() noexcept { return object_finder != nullptr; }

void set_object_finder(ObjectFinder finder) noexcept { object_finder = finder; }

__attribute__((noinline)) int walk_stack(FrameRules& rules, const CodeRange& left_out,
                                         uint32_t loads, uintptr_t* out, int cap) noexcept {
  if (!can_walk_stack()) return 0;
  Walk walk(rules, loads, here());
  int count = 0;
  while (count < cap && walk.up()) {
    if (count == 0 && walk.pc() >= left_out.begin && walk.pc() < left_out.end) continue;
    out[count++] = walk.pc();
  }
  return count;
}

}  // namespace memlimit::profile
