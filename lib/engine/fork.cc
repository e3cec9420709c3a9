/* See fork.h. The child has one thread, the one that forked; the service thread, its descriptors and
 * the other threads' nodes are the parent's. Counts stay: the memory they stand for is here, too. */
#include "engine/fork.h"

#include <atomic>

#include <pthread.h>
#include <sys/single_threaded.h>

#include "engine/account.h"
#include "engine/hooks.h"
#include "engine/limit.h"
#include "engine/purge.h"
#include "engine/reclaim.h"
#include "engine/service.h"
#include "engine/thread_state.h"
#include "runtimes/notices.h"
#include "runtimes/registry.h"
#include "runtimes/sqlite.h"

namespace memlimit::fork {
namespace {

constinit AllocatorOps allocator{[]() noexcept {}, []() noexcept {}};

/* Of whoever forks. Where two threads do at once, each finds another one beside it. */
constinit std::atomic<bool> has_other_threads{false};

void prepare() {
  // glibc's own (since 2.32), not the number of threads that were counted: one that has just begun may be inside the
  // allocator.
  const bool others = __libc_single_threaded == 0;
  has_other_threads.store(others, std::memory_order_relaxed);
  if (others) allocator.prepare();
  // What the program's own handlers allocate meanwhile, should they run after this, starts nothing.
  ++this_thread.guard_depth;
  runtimes::sqlite::keep_out_for_fork();
  purge::lock_for_fork();
  limit::lock_for_fork();
  service::lock_for_fork();
  reclaim::lock_for_fork();
  hooks::lock_for_fork();
  runtimes::lock_for_fork();
  runtimes::sqlite::lock_for_fork();
}

void parent() {
  runtimes::sqlite::unlock_after_fork();
  runtimes::unlock_after_fork();
  hooks::unlock_after_fork();
  reclaim::unlock_after_fork();
  service::unlock_after_fork();
  limit::unlock_after_fork();
  purge::unlock_after_fork();
  runtimes::sqlite::let_in_after_fork();
  --this_thread.guard_depth;
}

void child() {
  // First: nothing may be asked of the allocator before.
  if (has_other_threads.load(std::memory_order_relaxed)) allocator.repair_child();
  account::reset_after_fork();
  hooks::reset_after_fork();
  runtimes::reset_after_fork();
  runtimes::reset_notices_after_fork();
  runtimes::sqlite::reset_after_fork();
  reclaim::reset_after_fork();
  service::reset_after_fork();
  limit::reset_after_fork();
  --this_thread.guard_depth;
}

}  // namespace

void register_handlers(const AllocatorOps& allocator_ops) noexcept {
  allocator = allocator_ops;
  pthread_atfork(prepare, parent, child);
}

}  // namespace memlimit::fork
