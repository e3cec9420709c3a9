/* See paced.h. */
#include "engine/paced.h"

#include <algorithm>
#include <atomic>

#include "engine/account.h"
#include "system/attributes.h"
#include "system/os.h"
#include "system/procfs.h"

namespace memlimit::paced {
namespace {

struct alignas(64) State {
  std::atomic<MemoryGroup*> group{nullptr};
  std::atomic<int64_t> footprint{0};
  std::atomic<int64_t> untouched{-1};
  std::atomic<int64_t> beyond_usage{-1}; /* of the footprint; negative: taken */
  std::atomic<int64_t> overhead{0};
  std::atomic<int64_t> others{-1}; /* of the group's working set; negative: unknown */
  std::atomic<unsigned> hints{0};
  std::atomic<AccountMode> asked{AccountMode::kAuto};
  std::atomic<AccountMode> mode{AccountMode::kHeap};
  std::atomic<bool> footprint_over{false};
};
constinit MEMLIMIT_FORK_DATA State state{};
constinit MEMLIMIT_FORK_DATA procfs::FootprintFile footprint_file;
constinit std::atomic<const MemoryFile*> heap_file{nullptr};

bool holds(Hint hint) noexcept {
  return (state.hints.load(std::memory_order_seq_cst) & static_cast<unsigned>(hint)) != 0;
}

/* Two threads that resolve at once may do it in any order: the one that changes an input resolves after. */
void resolve() noexcept {
  AccountMode mode = state.asked.load(std::memory_order_seq_cst);
  if (mode == AccountMode::kAuto) {
    mode = holds(Hint::kContainerLimit) ? AccountMode::kCgroup
           : holds(Hint::kRuntimeHeap)  ? AccountMode::kRss
                                        : AccountMode::kHeap;
  }
  state.mode.store(mode, std::memory_order_seq_cst);
}

int64_t others_bytes() noexcept {
  return counts_group() ? state.others.load(std::memory_order_relaxed) : 0;
}

void read_group(int64_t max_age_ns) noexcept {
  MemoryGroup* const group = state.group.load(std::memory_order_acquire);
  if (group == nullptr) return;
  const int64_t before = group->last_read_ns();
  const int64_t bytes = group->working_set_bytes(os::monotonic_ns(), max_age_ns);
  // An old figure less a new footprint would be neither.
  if (group->last_read_ns() == before) return;
  state.others.store(bytes < 0 ? -1 : std::max<int64_t>(bytes - held_bytes(), 0),
                     std::memory_order_relaxed);
}

}  // namespace

void configure(AccountMode asked) noexcept {
  state.asked.store(asked, std::memory_order_seq_cst);
  resolve();
}

void set_hint(Hint hint, bool holds) noexcept {
  const unsigned bit = static_cast<unsigned>(hint);
  if (holds) {
    state.hints.fetch_or(bit, std::memory_order_seq_cst);
  } else {
    state.hints.fetch_and(~bit, std::memory_order_seq_cst);
  }
  resolve();
}

void set_group(MemoryGroup* group) noexcept {
  state.group.store(group, std::memory_order_release);
  if (group == nullptr) state.others.store(-1, std::memory_order_relaxed);
}

void set_heap_file(const MemoryFile* file) noexcept {
  heap_file.store(file, std::memory_order_release);
}

AccountMode mode() noexcept { return state.mode.load(std::memory_order_relaxed); }

const char* mode_name() noexcept {
  switch (mode()) {
    case AccountMode::kRss:
      return "rss";
    case AccountMode::kCgroup:
      return counts_group() ? "cgroup" : "rss (no cgroup to read)";
    default:
      return "heap";
  }
}

int64_t held_bytes() noexcept {
  return std::max(account::published_usage_bytes(), footprint_bytes());
}

bool idle_counts() noexcept {
  const AccountMode now = mode();
  return now == AccountMode::kRss || state.footprint_over.load(std::memory_order_relaxed) ||
         (now == AccountMode::kCgroup && (!counts_group() || holds(Hint::kRuntimeHeap)));
}

MEMLIMIT_CHILD_SHARED_CODE int64_t own_bytes() noexcept {
  return idle_counts() ? held_bytes() : account::published_usage_bytes() + overhead_bytes();
}

bool counts_group() noexcept {
  return mode() == AccountMode::kCgroup && state.others.load(std::memory_order_relaxed) >= 0;
}

int64_t bytes() noexcept { return others_bytes() + own_bytes(); }

int64_t room_above_bytes(int64_t limit_bytes) noexcept {
  const MemoryGroup* const group = state.group.load(std::memory_order_acquire);
  if (group == nullptr || !counts_group()) return -1;
  return std::max<int64_t>(group->container_bytes() - limit_bytes, 0);
}

int64_t room_bytes() noexcept { return room_above_bytes(bytes_with_idle()); }

int64_t bytes_with_idle() noexcept { return others_bytes() + held_bytes(); }

void note_footprint(int64_t bytes) noexcept {
  if (bytes < 0) return;
  const MemoryFile* const file = heap_file.load(std::memory_order_acquire);
  if (file != nullptr) bytes += file->bytes();
  const int64_t beyond = std::max<int64_t>(bytes - account::published_usage_bytes(), 0);
  state.footprint.store(bytes, std::memory_order_relaxed);
  state.beyond_usage.store(beyond, std::memory_order_relaxed);
}

int64_t take_beyond_usage() noexcept {
  if (state.beyond_usage.load(std::memory_order_relaxed) < 0) return -1;
  return state.beyond_usage.exchange(-1, std::memory_order_relaxed);
}

void set_overhead(int64_t bytes) noexcept {
  state.overhead.store(bytes, std::memory_order_relaxed);
}

int64_t overhead_bytes() noexcept { return state.overhead.load(std::memory_order_relaxed); }

int64_t read(bool keep_open, int64_t group_max_age_ns) noexcept {
  const procfs::OwnMemory own = keep_open ? footprint_file.read() : procfs::own_memory();
  note_footprint(own.resident_bytes);
  state.untouched.store(
      own.writable_bytes < 0 ? -1 : std::max<int64_t>(own.writable_bytes - own.resident_bytes, 0),
      std::memory_order_relaxed);
  if (mode() == AccountMode::kCgroup) read_group(group_max_age_ns);
  return own.resident_bytes;
}

int64_t untouched_bytes() noexcept { return state.untouched.load(std::memory_order_relaxed); }

int64_t footprint_bytes() noexcept { return state.footprint.load(std::memory_order_relaxed); }

int64_t group_bytes() noexcept {
  MemoryGroup* const group = state.group.load(std::memory_order_acquire);
  if (group == nullptr) return 0;
  read_group(kGroupMaxAgeNs);
  return std::max<int64_t>(group->last_working_set_bytes(), 0);
}

bool set_footprint_over(bool over) noexcept {
  if (state.footprint_over.load(std::memory_order_relaxed) == over) return false;
  return state.footprint_over.exchange(over, std::memory_order_relaxed) != over;
}

bool footprint_over() noexcept { return state.footprint_over.load(std::memory_order_relaxed); }

namespace {

MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept {
  // The figures stay: the child begins with the parent's pages.
  footprint_file.reset_after_fork();
}

}  // namespace

constinit const fork::Part kForkPart{.name = "paced", .reset = reset_after_fork};

}  // namespace memlimit::paced
