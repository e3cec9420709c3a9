/* See pressure.h. */
#include "engine/pressure.h"

#include <atomic>

#include "engine/account.h"

namespace memlimit::pressure {
namespace {

/* Relaxed throughout: each figure stands for itself, and nothing else is published with it. */
struct alignas(64) State {
  std::atomic<int64_t> limit{0};
  std::atomic<bool> growth{false};
  std::atomic<int> level{0};
  std::atomic<int64_t> mapped_ever{0};  /* by the program itself; monotonic */
  std::atomic<int64_t> touched_ever{0}; /* as far as nothing else told of it; monotonic */
};
constinit State state{};

}  // namespace

int64_t limit_bytes() noexcept { return state.limit.load(std::memory_order_relaxed); }

Level level() noexcept { return static_cast<Level>(state.level.load(std::memory_order_relaxed)); }

bool active() noexcept { return limit_bytes() > 0 || state.growth.load(std::memory_order_relaxed); }

int64_t clock_bytes() noexcept {
  return account::published_allocated_bytes() + state.mapped_ever.load(std::memory_order_relaxed) +
         state.touched_ever.load(std::memory_order_relaxed);
}

int64_t add_mapped(int64_t bytes) noexcept {
  return state.mapped_ever.fetch_add(bytes, std::memory_order_relaxed);
}

void add_touched(int64_t bytes) noexcept {
  state.touched_ever.fetch_add(bytes, std::memory_order_relaxed);
}

void set_growth(bool asked) noexcept { state.growth.store(asked, std::memory_order_relaxed); }

int64_t exchange_limit(int64_t bytes) noexcept {
  return state.limit.exchange(bytes, std::memory_order_relaxed);
}

Level exchange_level(Level level) noexcept {
  return static_cast<Level>(
      state.level.exchange(static_cast<int>(level), std::memory_order_relaxed));
}

}  // namespace memlimit::pressure
