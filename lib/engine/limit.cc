/* See limit.h. */
#include "engine/limit.h"

#include <algorithm>

#include "engine/decision.h"
#include "engine/footprint.h"
#include "engine/look.h"
#include "engine/participants.h"
#include "engine/requests.h"
#include "engine/service.h"
#include "engine/thread_state.h"
#include "system/os.h"

namespace memlimit::limit {
namespace {

void changed(int64_t old, int64_t bytes, LimitSource source) noexcept {
  // A process without a limit starts without a look: that reads a file, and touches pages that nobody else does.
  if (old == 0 && bytes == 0) return;
  if (old != bytes) {
    emit(EventKind::kLimit, old, bytes, static_cast<int>(source));
    participants::limit_changed();
  }
  if (!ReentryGuard::inside()) {
    ReentryGuard reentry;
    footprint::read();
    if (look::wants_service()) service::start_unless_aside();
    look::now(true);
  } else {
    // On the service thread (a client of the socket, a hook) or in a hook: what follows from it must not
    // run here, under the locks of whoever asked.
    requests::want_look();
    service::wake();
  }
}

}  // namespace

int64_t set(int64_t bytes, LimitSource source, const char* text) noexcept {
  os::ErrnoGuard errno_guard;
  bytes = std::max<int64_t>(bytes, 0);
  const int64_t old = decision::exchange_limit(bytes, text);
  changed(old, bytes, source);
  return old;
}

bool replace(int64_t from, int64_t bytes, LimitSource source, const char* text) noexcept {
  os::ErrnoGuard errno_guard;
  if (!decision::replace_limit(from, bytes, text)) return false;
  changed(from, bytes, source);
  return true;
}

}  // namespace memlimit::limit
