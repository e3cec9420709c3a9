/* Stacks: the frames are those that glibc's own unwinder finds, through every shape of frame that compilers make. */
#include "profile/stack_walk.h"

#include <alloca.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <sys/mman.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

using namespace memlimit;
using namespace memlimit::profile;

namespace {

FrameRules rules;
uint32_t loads = 0;

/* Plain memory: stacks are taken in signal handlers, too. */
struct Stacks {
  uintptr_t ours[kMaxFrames];
  void* glibcs[kMaxFrames];
  int our_depth, glibcs_depth;
};
Stacks* taken = nullptr;

/* Both stacks from here: the frames in between differ. */
__attribute__((noinline)) void take() {
  taken->our_depth = walk_stack(rules, CodeRange{}, loads, taken->ours, kMaxFrames);
  taken->glibcs_depth = backtrace(taken->glibcs, kMaxFrames);
  asm volatile("" ::: "memory");
}

/* backtrace() has frames of its own before ours (a sanitizer's stands in for it), and may go on where ours ends: at a frame
 * that nobody called. */
void compare(const Stacks& stacks, int least_frames) {
  REQUIRE(stacks.our_depth >= least_frames);
  const std::vector<uintptr_t> ours(stacks.ours + 1, stacks.ours + stacks.our_depth);
  std::vector<uintptr_t> glibcs;
  for (int i = 0; i < stacks.glibcs_depth; ++i)
    glibcs.push_back(reinterpret_cast<uintptr_t>(stacks.glibcs[i]));
  const auto begin = std::find(glibcs.begin(), glibcs.end(), ours.front());
  REQUIRE(begin != glibcs.end());
  CHECK(begin - glibcs.begin() <= 3);
  glibcs.erase(glibcs.begin(), begin);
  const size_t count = std::min(ours.size(), glibcs.size());
  for (size_t i = 0; i < count; ++i) {
    INFO("frame " << i);
    REQUIRE(ours[i] == glibcs[i]);
  }
  CHECK(glibcs.size() - count <= 1);
  CHECK(ours.size() - count <= 1);
}

__attribute__((noinline)) void with_alloca(size_t bytes) {
  char* const room = static_cast<char*>(alloca(bytes));
  memset(room, 1, bytes);
  take();
  asm volatile("" ::"r"(room) : "memory");
}

__attribute__((noinline)) void with_realigned_stack(int depth) {
  alignas(256) char room[512];
  memset(room, depth, sizeof room);
  if (depth > 0) {
    with_realigned_stack(depth - 1);
  } else {
    with_alloca(1000);
  }
  asm volatile("" ::"r"(room) : "memory");
}

__attribute__((noinline)) int recurse(int depth) {
  if (depth == 0) {
    with_realigned_stack(3);
    return 1;
  }
  const int below = recurse(depth - 1);
  asm volatile("" ::: "memory");
  return below + 1;
}

int compare_and_take(const void*, const void*) {
  take();
  return 0;
}

}  // namespace

TEST_CASE("stack_walk: frames of every shape are left as glibc leaves them", "[profile]") {
  REQUIRE(can_walk_stack());
  static Stacks stacks;
  taken = &stacks;
  for (int turn = 0; turn < 3; ++turn) {  // from the second on by what is remembered
    recurse(10);
    compare(stacks, 20);
  }
  int values[] = {2, 1};
  qsort(values, 2, sizeof *values, compare_and_take);
  compare(stacks, 4);
  std::thread([] { recurse(5); }).join();
  compare(stacks, 12);
  ++loads;
  recurse(10);
  compare(stacks, 20);
}

TEST_CASE("stack_walk: a signal's frame is passed, on a stack of its own too", "[profile]") {
  static Stacks stacks;
  taken = &stacks;
  take();  // the first backtrace() loads libgcc, which no handler should
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = [](int) { recurse(3); };
  for (const int flags : {0, SA_ONSTACK}) {
    std::vector<char> room(1 << 18);
    stack_t stack{}, stack_before{};
    stack.ss_sp = room.data();
    stack.ss_size = room.size();
    REQUIRE(sigaltstack(&stack, &stack_before) == 0);
    action.sa_flags = flags;
    REQUIRE(sigaction(SIGUSR2, &action, &before) == 0);
    raise(SIGUSR2);
    REQUIRE(sigaction(SIGUSR2, &before, nullptr) == 0);
    REQUIRE(sigaltstack(&stack_before, nullptr) == 0);
    compare(stacks, 12);
  }
}

TEST_CASE("stack_walk: code that nobody knows is left by its frame pointer, or ends the walk",
          "[profile]") {
  // A frame as compilers make it, and one that has lost the frame pointer: both call what they are given.
#if defined(__x86_64__)
  // push %rbp; mov %rsp,%rbp; call *%rdi; pop %rbp; ret. And without a frame: push %rbp; xor %ebp,%ebp; call *%rdi; ...
  const unsigned char with_frame[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3};
  const unsigned char without[] = {0x55, 0x31, 0xed, 0xff, 0xd7, 0x5d, 0xc3};
  constexpr uintptr_t kAfterCall = 6, kAfterOther = 5;
#elif defined(__aarch64__)
  // stp x29,x30,[sp,#-16]!; mov x29,sp (or xzr); blr x0; ldp x29,x30,[sp],#16; ret
  const uint32_t with_frame[] = {0xa9bf7bfd, 0x910003fd, 0xd63f0000, 0xa8c17bfd, 0xd65f03c0};
  const uint32_t without[] = {0xa9bf7bfd, 0xaa1f03fd, 0xd63f0000, 0xa8c17bfd, 0xd65f03c0};
  constexpr uintptr_t kAfterCall = 12, kAfterOther = 12;
#endif
#if defined(__x86_64__) || defined(__aarch64__)
  auto* const code = static_cast<unsigned char*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(code != MAP_FAILED);
  static Stacks stacks;
  taken = &stacks;
  memcpy(code, with_frame, sizeof with_frame);
  __builtin___clear_cache(reinterpret_cast<char*>(code), reinterpret_cast<char*>(code) + 4096);
  reinterpret_cast<void (*)(void (*)())>(code)([] { take(); });
  const auto ours_end = [&] { return stacks.ours + stacks.our_depth; };
  REQUIRE(stacks.our_depth >= 3);
  const auto begin = reinterpret_cast<uintptr_t>(code);
  const auto in_code = [&](uintptr_t address) {
    return address >= begin && address < begin + 4096;
  };
  const auto at = std::find_if(stacks.ours, ours_end(), in_code);
  REQUIRE(at != ours_end());
  CHECK(*at == begin + kAfterCall);

  memcpy(code, without, sizeof without);
  __builtin___clear_cache(reinterpret_cast<char*>(code), reinterpret_cast<char*>(code) + 4096);
  reinterpret_cast<void (*)(void (*)())>(code)([] { take(); });
  REQUIRE(stacks.our_depth > 0);
  CHECK(ours_end()[-1] == begin + kAfterOther);
  munmap(code, 4096);
#endif
}

TEST_CASE("stack_walk: at most as many frames as there is room for", "[profile]") {
  uintptr_t frames[4] = {};
  CHECK(walk_stack(rules, CodeRange{}, loads, frames, 3) == 3);
  CHECK(frames[3] == 0);
  CHECK(walk_stack(rules, CodeRange{}, loads, frames, 0) == 0);
  CodeRange own{};
  REQUIRE(own_image(&own));
  uintptr_t outside[kMaxFrames];
  const int depth = walk_stack(rules, own, loads, outside, kMaxFrames);
  REQUIRE(depth > 0);
  CHECK((outside[0] < own.begin || outside[0] >= own.end));
}

TEST_CASE("stack_walk: what is kept holds for as many loads as there were", "[profile]") {
  static FrameRules own;
  uint64_t packed = 0;
  own.keep(0x401000, 3, 77);
  CHECK(own.find(0x401000, 3, &packed));
  CHECK(packed == 77);
  CHECK_FALSE(own.find(0x401000, 4, &packed));
  CHECK_FALSE(own.find(0x401001, 3, &packed));
  own.keep(0x401000, 4, 78);
  CHECK(own.find(0x401000, 4, &packed));
  CHECK(packed == 78);
}
