/* See attached.h. */
#include "runtimes/attached.h"

#include <atomic>

#include "runtimes/adapters.h"
#include "runtimes/left_out.h"
#include "system/attributes.h"

namespace memlimit::runtimes {
namespace {

static_assert(kAdapterCount <= 32);

/* One bit for each adapter. */
constinit MEMLIMIT_FORK_DATA std::atomic<uint32_t> wanted_set{0};
constinit MEMLIMIT_FORK_DATA std::atomic<uint32_t> attached_set{0};
constinit std::atomic<uint32_t> left_out_set{0}; /* attached, but no round asks them */

/* Written at start. */
constinit bool names_are_given = false; /* by MEMLIMIT_ADAPTERS */
constinit uint32_t named_set = 0;
constinit bool threads_are_named = false;

bool has(const std::atomic<uint32_t>& set, size_t index, std::memory_order order) noexcept {
  return (set.load(order) >> index & 1) != 0;
}

}  // namespace

namespace attached {

void configure(const Config& config) noexcept {
  uint32_t wanted = 0;
  names_are_given = config.adapters.kind == AdapterKind::kList;
  for (size_t i = 0; i < kAdapterCount; ++i) {
    if (kAdapters[i]->only_when_named && !names_are_given) continue;
    if (adapter_wanted(config, kAdapters[i]->name)) wanted |= uint32_t{1} << i;
  }
  if (names_are_given) named_set = wanted;
  // `auto` means every adapter, but not this way of using one.
  threads_are_named = names_are_given && adapter_wanted(config, "cpython-threads");
  if (threads_are_named) wanted |= 1;
  static_assert(kAdapters[0] == &kCPython);
  wanted_set.store(wanted, std::memory_order_relaxed);
}

size_t number_of(const Adapter& adapter) noexcept {
  size_t index = 0;
  while (kAdapters[index] != &adapter) ++index;
  return index;
}

bool is_wanted(size_t index) noexcept { return has(wanted_set, index, std::memory_order_relaxed); }

bool waits_for_its_name(size_t index) noexcept {
  return kAdapters[index]->only_when_named && !names_are_given;
}

// Acquire: pairs with add(), for what attach() has written.
bool is(size_t index) noexcept { return has(attached_set, index, std::memory_order_acquire); }

MEMLIMIT_CHILD_SHARED_CODE bool any() noexcept {
  return attached_set.load(std::memory_order_relaxed) != 0;
}

bool takes_part(size_t index) noexcept {
  return is(index) && !has(left_out_set, index, std::memory_order_relaxed);
}

int count() noexcept {
  return __builtin_popcount(attached_set.load(std::memory_order_relaxed) &
                            ~left_out_set.load(std::memory_order_relaxed));
}

void add(size_t index) noexcept {
  attached_set.fetch_or(uint32_t{1} << index, std::memory_order_release);
}

}  // namespace attached

bool may_use_threads() noexcept { return threads_are_named; }

bool is_named(const Adapter& adapter) noexcept {
  return (named_set >> attached::number_of(adapter) & 1) != 0;
}

void leave_out(const Adapter& adapter, left_out::Why why) noexcept {
  const size_t index = attached::number_of(adapter);
  left_out_set.fetch_or(uint32_t{1} << index, std::memory_order_relaxed);
  left_out::note(index, why);
}

}  // namespace memlimit::runtimes
