/* See lone_thread.h. */
#include "system/lone_thread.h"

#include <csignal>
#include <cstdint>

#include "system/attributes.h"
#include "system/os.h"
#include "system/raw_call.h"

/* Where libc has none, this is null. */
extern "C" __attribute__((weak)) char __libc_single_threaded;

namespace memlimit::os {
namespace {

constinit char* libc_own = nullptr;
/* What programs read. Read by each fork. */
constinit MEMLIMIT_FORK_DATA char* told = &__libc_single_threaded;

}  // namespace

MEMLIMIT_FORK_CODE bool is_lone_thread() noexcept {
  return told != nullptr && __atomic_load_n(told, __ATOMIC_RELAXED) != 0;
}

void set_told_lone_thread(char* flag) noexcept { told = flag; }

void set_libc_lone_thread(char* own) noexcept { libc_own = own; }

bool note_lone_thread() noexcept {
  // pthread_create() looks at libc's own, and only when that is set it clears both.
  if (libc_own == nullptr || told == nullptr) return false;
  // A signal handler that makes a thread between the count and the stores would be told a lie.
  const uint64_t all = ~uint64_t{0};
  uint64_t before = 0;
  if (raw_call(SYS_rt_sigprocmask, SIG_SETMASK, address(&all), address(&before), sizeof all) != 0)
    return false;
  const bool alone = thread_count() == 1;
  if (alone) {
    __atomic_store_n(libc_own, 1, __ATOMIC_RELAXED);
    __atomic_store_n(told, 1, __ATOMIC_RELAXED);
  }
  raw_call(SYS_rt_sigprocmask, SIG_SETMASK, address(&before), 0, sizeof before);
  return alone;
}

}  // namespace memlimit::os
