/* See profile_setting.h. */
#include "engine/profile_setting.h"

#include <atomic>

#include "engine/allocator.h"
#include "observe/log.h"
#include "profile/profiler.h"
#include "system/text.h"

namespace memlimit::profile_setting {
namespace {

constinit std::atomic<int64_t> in_force{0};

}  // namespace

bool apply(int64_t interval_bytes, char* error, size_t cap) noexcept {
  const profile::Ready ready = interval_bytes == 0 ? profile::Ready::kYes : profile::prepare();
  switch (ready) {
    case profile::Ready::kNoMemory:
      TextWriter(error, cap).put("needs 4 MiB of address space for its tables, and there is none");
      return false;
    case profile::Ready::kNoUnwinder:
      TextWriter(error, cap)
          .put("needs glibc 2.35 or newer, which finds the frames of a stack without a lock");
      return false;
    case profile::Ready::kYes:
      break;
  }
  allocator().set_sample_interval_bytes(interval_bytes);
  in_force.store(interval_bytes, std::memory_order_relaxed);
  return true;
}

void apply_at_start(const Config& config) noexcept {
  if (config.profile_interval_bytes == 0) return;
  char error[128] = {};
  if (apply(config.profile_interval_bytes, error, sizeof error) ||
      config.log.level < LogLevel::kError)
    return;
  char line[192];
  TextWriter(line, sizeof line).put("MEMLIMIT_PROFILE stays off: it ").put(error);
  // The log is not open yet.
  write_fatal(line);
}

int64_t interval_bytes() noexcept { return in_force.load(std::memory_order_relaxed); }

}  // namespace memlimit::profile_setting
