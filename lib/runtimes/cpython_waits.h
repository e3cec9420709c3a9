/* The main thread of CPython, while it waits for a lock: it comes to its pending calls though nobody unlocks.
 *
 * A wait of the interpreter's is cut into slices. Between two of them it ends with EINTR if a call is queued,
 * as for a signal that has arrived, and the interpreter runs what is pending on its main thread. No signal is
 * sent, so no other system call of the program's is ever interrupted. Answers for: which waits these are, and
 * waiting. Refuses everything that is not called from the two functions of CPython that ask for EINTR and
 * handle it: the code around the call is known by the extent of the function's symbol.
 * Threads: any, outside malloc.
 */
#pragma once

#include <atomic>
#include <cstdint>
#include <ctime>

#include <semaphore.h>

#include "runtimes/elf_image.h"

namespace memlimit::runtimes::cpython_waits {

/** The code of one of those functions; empty while there is none. */
struct Code {
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> bytes{0};

  bool contains(uintptr_t address) const noexcept {
    return address - begin.load(std::memory_order_relaxed) < bytes.load(std::memory_order_relaxed);
  }
};
inline constexpr size_t kFunctions = 2;
extern Code code[kFunctions];

/** From when on its waits are cut. Once, before `wanted` is true for the first time. */
void watch(const ElfImage& image) noexcept;

/** Whether a call of sem_wait or sem_clockwait that returns there is to be made by wait(). */
inline bool concerns(const void* return_address) noexcept {
  const auto address = reinterpret_cast<uintptr_t>(return_address);
  return code[0].contains(address) || code[1].contains(address);
}

/** The libc's sem_clockwait. */
using ClockWait = int (*)(sem_t*, clockid_t, const timespec*);

/** sem_clockwait, or sem_wait where `deadline` is null. A point of cancellation. */
int wait(sem_t* semaphore, clockid_t clock, const timespec* deadline, ClockWait clock_wait);

/** The adapter: whether a call is queued that only the main thread runs, and whether it was asked lately, so
 *  that another one is likely. */
bool call_is_queued() noexcept;
bool asked_lately(int64_t now_ns) noexcept;

}  // namespace memlimit::runtimes::cpython_waits
