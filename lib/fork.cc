/* See fork.h. The child has one thread, the one that forked; the service thread, its descriptors and
 * the other threads' nodes are the parent's. Counts stay: the memory they stand for is here, too. */
#include "fork.h"

#include <pthread.h>

#include "account.h"
#include "adapters/notices.h"
#include "adapters/registry.h"
#include "adapters/sqlite.h"
#include "hooks.h"
#include "limit.h"
#include "purge.h"
#include "reclaim.h"
#include "service.h"
#include "thread_state.h"

namespace memlimit::fork {
namespace {

using Repair = void (*)() noexcept;
constinit Repair repair_allocator = []() noexcept {};

void prepare() {
  // What the program's own handlers allocate meanwhile, should they run after this, starts nothing.
  ++this_thread.guard_depth;
  adapters::sqlite::keep_out_for_fork();
  purge::lock_for_fork();
  limit::lock_for_fork();
  service::lock_for_fork();
  reclaim::lock_for_fork();
  hooks::lock_for_fork();
  adapters::lock_for_fork();
  adapters::sqlite::lock_for_fork();
}

void parent() {
  adapters::sqlite::unlock_after_fork();
  adapters::unlock_after_fork();
  hooks::unlock_after_fork();
  reclaim::unlock_after_fork();
  service::unlock_after_fork();
  limit::unlock_after_fork();
  purge::unlock_after_fork();
  adapters::sqlite::let_in_after_fork();
  --this_thread.guard_depth;
}

void child() {
  // First: nothing may be asked of the allocator before.
  if (account::thread_count() > 1) repair_allocator();
  account::reset_after_fork();
  hooks::reset_after_fork();
  adapters::reset_after_fork();
  adapters::reset_notices_after_fork();
  adapters::sqlite::reset_after_fork();
  reclaim::reset_after_fork();
  service::reset_after_fork();
  limit::reset_after_fork();
  --this_thread.guard_depth;
}

}  // namespace

void register_handlers(void (*repair)() noexcept) noexcept {
  repair_allocator = repair;
  pthread_atfork(prepare, parent, child);
}

}  // namespace memlimit::fork
