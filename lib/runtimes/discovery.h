/* Finding runtimes: among the images of the program's start, and among libraries that are loaded later.
 *
 * Answers for: attaching what is wanted (attached.h) and naming what is not (left_out.h). No lock is held while the loader
 * is asked for anything. Threads: as said for each function.
 */
#pragma once

#include <atomic>
#include <cstdint>

namespace memlimit::runtimes {

/** Calls of dlopen and dlmopen, as the interposition sees them. Both live for ever. */
struct LoaderCalls {
  const std::atomic<uint32_t>* count;
  /** Called with the caller's return address before a library is loaded, once it is not null. */
  std::atomic<void (*)(const void* caller)>* listener;
};

namespace discovery {

/** Once, from the constructor, when every library of the program's start is relocated. */
void begin(const LoaderCalls& calls) noexcept;

/** Whether libraries may have been loaded since the last run(). A few atomic loads; any thread. */
bool is_due() noexcept;

/** Looks among them. On the service thread: may wait for a dlopen that is under way, if that is about to load a runtime. */
void run() noexcept;

}  // namespace discovery
}  // namespace memlimit::runtimes
