/* The C API: checks arguments, calls inward, nothing else. The contract is in memlimit.h. */
#include "memlimit.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/account.h"
#include "engine/explicit_reclaim.h"
#include "engine/figures.h"
#include "engine/hooks.h"
#include "engine/limit.h"
#include "engine/look.h"
#include "engine/poll_pass.h"
#include "engine/poller.h"
#include "engine/pressure.h"
#include "engine/service.h"
#include "engine/thread_state.h"
#include "system/os.h"

using namespace memlimit;

extern "C" {

int64_t memlimit_set(int64_t bytes) { return limit::set(bytes, LimitSource::kApi, "memlimit_set"); }

int64_t memlimit_get(void) { return pressure::limit_bytes(); }

int memlimit_hook_add(const memlimit_hook* hook, memlimit_hook_id* id) {
  if (hook == nullptr) return -EINVAL;
  os::ErrnoGuard guard;
  const int result = hooks::add(*hook, id);
  if (result == 0 && hook->context == MEMLIMIT_ASYNC) service::start();
  return result;
}

int memlimit_hook_remove(memlimit_hook_id id) {
  os::ErrnoGuard guard;
  return hooks::remove(id);
}

int64_t memlimit_reclaim(int64_t bytes) { return explicit_reclaim::now(bytes); }

int memlimit_poll_fd(void) { return poller::descriptor(); }

int memlimit_poll(void) { return poll_pass::run(); }

void memlimit_charge(int64_t bytes) {
  os::ErrnoGuard guard;
  account::charge(bytes);
  if (bytes > 0) {
    look::after_allocation(bytes);
  } else {
    look::after_free();
  }
}

int memlimit_read_stats(memlimit_stats* out, size_t size) {
  if (out == nullptr || size < offsetof(memlimit_stats, limit) + sizeof out->limit) return -EINVAL;
  os::ErrnoGuard guard;
  memlimit_stats figures{};
  figures::fill(&figures);
  const size_t filled = std::min(size, sizeof figures);
  figures.size = filled;
  memcpy(out, &figures, filled);
  return 0;
}

}  // extern "C"
