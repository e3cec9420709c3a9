/* See requests.h. */
#include "engine/requests.h"

#include <algorithm>

#include "engine/assist.h"
#include "engine/service.h"
#include "system/attributes.h"
#include "system/os.h"

namespace memlimit::requests {
namespace {

struct alignas(64) Pending {
  std::atomic<int64_t> pass{0};
  std::atomic<int64_t> by_hand{0};
  std::atomic<bool> look{false};
  std::atomic<bool> pass_running{false};
  std::atomic<uint32_t> passes_done{0}; /* futex: a pass ended */
  std::atomic<uint32_t> waiting{0};     /* threads that wait for it */
};
constinit MEMLIMIT_FORK_DATA Pending pending{};

bool explicit_is_open() noexcept {
  return pending.by_hand.load(std::memory_order_acquire) != 0 ||
         pending.pass_running.load(std::memory_order_acquire);
}

MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept {
  pending.pass.store(0, std::memory_order_relaxed);
  pending.by_hand.store(0, std::memory_order_relaxed);
  pending.look.store(false, std::memory_order_relaxed);
  pending.pass_running.store(false, std::memory_order_relaxed);
  pending.waiting.store(0, std::memory_order_relaxed);
}

}  // namespace

/* Adds a request to those that wait: the larger counts. It writes in any case, so that whoever takes what is
 * wanted from here on takes this request with it. */
void ask_for(std::atomic<int64_t>& wanted, int64_t bytes) noexcept {
  int64_t seen = wanted.load(std::memory_order_relaxed);
  while (!wanted.compare_exchange_weak(seen, std::max(seen, bytes), std::memory_order_acq_rel,
                                       std::memory_order_relaxed)) {
  }
}

void want_pass(int64_t bytes) noexcept {
  // Stored last, or the pass could be over before threads are told to wait for it.
  assist::work_requested();
  pending.pass.store(bytes, std::memory_order_release);
}

void want_explicit(int64_t bytes) noexcept { ask_for(pending.by_hand, bytes); }

void want_look() noexcept { pending.look.store(true, std::memory_order_release); }

bool any() noexcept { return any_pass() || any_look(); }

bool any_look() noexcept { return pending.look.load(std::memory_order_acquire); }

bool any_pass() noexcept {
  return pending.pass.load(std::memory_order_acquire) != 0 ||
         pending.by_hand.load(std::memory_order_acquire) != 0;
}

bool take_look() noexcept { return pending.look.exchange(false, std::memory_order_acq_rel); }

void begin_pass() noexcept { pending.pass_running.store(true, std::memory_order_release); }

int64_t take_pass() noexcept { return pending.pass.exchange(0, std::memory_order_acq_rel); }

int64_t take_explicit() noexcept { return pending.by_hand.exchange(0, std::memory_order_acq_rel); }

void end_pass() noexcept {
  pending.pass_running.store(false, std::memory_order_release);
  if (pending.pass.load(std::memory_order_acquire) == 0) assist::work_done();
  pending.passes_done.fetch_add(1, std::memory_order_seq_cst);
  if (pending.waiting.load(std::memory_order_seq_cst) != 0) {
    os::futex_wake(pending.passes_done, INT32_MAX);
  }
}

void wait_for_explicit(int64_t began_ns, int64_t longest_ns) noexcept {
  int64_t waited_ns = 0;
  pending.waiting.fetch_add(1, std::memory_order_seq_cst);
  while (waited_ns < longest_ns && service::running()) {
    // Read before the look, or a pass that ends in between would not be seen to have ended.
    const uint32_t before = pending.passes_done.load(std::memory_order_acquire);
    if (!explicit_is_open()) break;
    os::futex_wait(pending.passes_done, before, longest_ns - waited_ns);
    waited_ns = os::monotonic_ns() - began_ns;
  }
  pending.waiting.fetch_sub(1, std::memory_order_relaxed);
}

constinit const fork::Part kForkPart{.name = "requests", .reset = reset_after_fork};

}  // namespace memlimit::requests
