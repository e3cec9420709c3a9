/* A hook may not let an exception escape, but one that does costs no more than its turn: the exception ends at the hook,
 * the program and its other hooks go on, and the runtime has no exception in flight afterwards. In all three contexts. */
#include <atomic>
#include <exception>
#include <stdexcept>
#include <string>

#include "blocks.h"

namespace {

std::atomic<int> throwing_calls{0}, other_calls{0};

int64_t throw_always(const memlimit_request*, void*) {
  ++throwing_calls;
  CHECK_EQ(std::uncaught_exceptions(), 0);
  throw std::runtime_error(std::string(100, 'x'));
}

int64_t count_call(const memlimit_request*, void*) {
  ++other_calls;
  CHECK_EQ(std::uncaught_exceptions(), 0);
  return 0;
}

void check_context(int context, const char* name) {
  throwing_calls = other_calls = 0;
  const memlimit_hook throwing = {sizeof throwing, name, context, throw_always, nullptr};
  const memlimit_hook other = {sizeof other, "other", context, count_call, nullptr};
  memlimit_hook_id throwing_id = 0, other_id = 0;
  CHECK_EQ(memlimit_hook_add(&throwing, &throwing_id), 0);
  CHECK_EQ(memlimit_hook_add(&other, &other_id), 0);
  for (int turn = 0; turn < 5; ++turn) {
    memlimit_reclaim(0);
    memlimit_poll();
    CHECK_EQ(std::uncaught_exceptions(), 0);
  }
  CHECK(throwing_calls >= 2);
  CHECK(other_calls >= 1); /* one that frees nothing is asked less often */
  CHECK_EQ(memlimit_hook_remove(throwing_id), 0);
  CHECK_EQ(memlimit_hook_remove(other_id), 0);
  try { /* the program's own exceptions are as they were */
    throw std::logic_error("own");
  } catch (const std::exception& error) {
    CHECK(std::string(error.what()) == "own");
  }
}

}  // namespace

int main() {
  need_library();
  check_context(MEMLIMIT_ASYNC, "async");
  check_context(MEMLIMIT_POLL, "poll");
  check_context(MEMLIMIT_INLINE, "inline");
  return 0;
}
