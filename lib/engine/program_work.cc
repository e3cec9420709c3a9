/* See program_work.h. */
#include "engine/program_work.h"

#include <atomic>

#include "engine/service.h"
#include "system/attributes.h"
#include "system/os.h"

namespace memlimit::program_work {
namespace {

/* Relaxed: says nothing of other memory. */
constinit MEMLIMIT_FORK_DATA std::atomic<int64_t> counts_from_ns{INT64_MAX};

MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept { wake_from(INT64_MAX); }

}  // namespace

void wake_from(int64_t ns) noexcept { counts_from_ns.store(ns, std::memory_order_relaxed); }

bool note() noexcept {
  const int64_t from_ns = counts_from_ns.load(std::memory_order_relaxed);
  if (MEMLIMIT_LIKELY(from_ns == INT64_MAX) || os::monotonic_ns() < from_ns) return false;
  wake_from(INT64_MAX);
  service::wake();
  return true;
}

constinit const fork::Part kForkPart{.name = "program work", .reset = reset_after_fork};

}  // namespace memlimit::program_work
