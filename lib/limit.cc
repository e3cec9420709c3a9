/* See limit.h. */
#include "limit.h"

#include <atomic>
#include <cstdio>

#include "lock.h"
#include "reclaim.h"
#include "units.h"

namespace memlimit::limit {
namespace {

constinit Lock setting_lock{LockRank::kLimit};
constinit MemoryGroup group;
constinit LimitSetting in_force MEMLIMIT_GUARDED_BY(setting_lock){};
constinit LimitSource asked_by MEMLIMIT_GUARDED_BY(setting_lock) = LimitSource::kEnvironment;
constinit std::atomic<bool> following{false};

constexpr size_t kSourceCap = 96;

const char* name_of(LimitSource source) noexcept {
  return source == LimitSource::kSocket ? "socket" : "MEMLIMIT";
}

/* "MEMLIMIT (80% of 2GiB)": where the figure comes from, for the statistics. */
void set_from_container(LimitSource source) noexcept MEMLIMIT_REQUIRES(setting_lock) {
  char size[32];
  char text[kSourceCap];
  const int64_t memory = group.container_bytes();
  format_size(memory, size, sizeof size);
  snprintf(text, sizeof text, "%s (%d%% of %s)", name_of(asked_by), in_force.percent, size);
  reclaim::set_limit(container_limit(memory, in_force.percent), source, text);
}

}  // namespace

void apply(const LimitSetting& setting, LimitSource source) noexcept {
  LockGuard guard(setting_lock);
  in_force = setting;
  asked_by = source;
  const bool from_container =
      setting.kind == LimitKind::kPercent || setting.kind == LimitKind::kAuto;
  following.store(from_container, std::memory_order_relaxed);
  if (from_container) {
    group.find();
    set_from_container(source);
  } else {
    reclaim::set_limit(setting.kind == LimitKind::kBytes ? setting.bytes : 0, source,
                       name_of(source));
  }
}

bool follows_container() noexcept { return following.load(std::memory_order_relaxed); }

void refresh() noexcept {
  LockGuard guard(setting_lock);
  if (follows_container() && group.refresh()) set_from_container(LimitSource::kContainer);
}

MemoryGroup& container() noexcept { return group; }

void lock_for_fork() noexcept MEMLIMIT_NO_THREAD_SAFETY_ANALYSIS { setting_lock.lock(); }
void unlock_after_fork() noexcept MEMLIMIT_NO_THREAD_SAFETY_ANALYSIS { setting_lock.unlock(); }
void reset_after_fork() noexcept {
  setting_lock.reset_after_fork();
  group.reset_after_fork();
}

}  // namespace memlimit::limit
