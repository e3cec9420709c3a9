/* See sqlite.h. A connection that the service thread works on is marked in the table, and whoever closes
 * it waits for the mark to go; no lock of ours is held while SQLite runs. */
#include "adapters/sqlite.h"

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "adapters/elf_image.h"
#include "hooks.h"
#include "lock.h"
#include "memlimit.h"
#include "os.h"
#include "reclaim.h"
#include "thread_state.h"

namespace memlimit::adapters::sqlite {
namespace {

constexpr int kOk = 0; /* SQLITE_OK */

/* Copies of SQLite in one process, and connections of all of them. What is beyond is left alone. */
constexpr size_t kMaxLibraries = 4;
constexpr size_t kMaxConnections = 256;

using Mutex = void;

struct Library {
  int (*release_memory)(Connection*) = nullptr;
  Mutex* (*mutex_of)(Connection*) = nullptr;
  int (*mutex_try)(Mutex*) = nullptr;
  void (*mutex_leave)(Mutex*) = nullptr;
  int64_t (*soft_heap_limit)(int64_t) = nullptr;
  int64_t soft_limit_bytes = 0; /* as we set it; 0: the program's own is in force, or none */
};

struct Entry {
  Connection* connection = nullptr;
  const void* open_function = nullptr;
  Library* library = nullptr; /* nullptr: its cache is not ours to release */
  bool in_use = false;
};

constinit bool wanted = false;
constinit int start_percent = 50;

constinit Lock table_lock{LockRank::kSqlite};
constinit Library libraries[kMaxLibraries] MEMLIMIT_GUARDED_BY(table_lock){};
constinit Entry entries[kMaxConnections] MEMLIMIT_GUARDED_BY(table_lock){};
constinit bool hook_added MEMLIMIT_GUARDED_BY(table_lock) = false;
/* Threads of ours inside SQLite, and forks that keep others out: a child whose parent held one of SQLite's own
 * mutexes can never open a database. */
constinit std::atomic<uint32_t> inside{0};
constinit std::atomic<uint32_t> forking{0};
MEMLIMIT_TLS uint32_t inside_here = 0; /* a signal handler may fork meanwhile */

/* fork waits no longer than this. A connection takes milliseconds, but the mutex that SQLite waits for may be
 * held by the thread that forks. */
constexpr int64_t kForkPatienceNs = 500'000'000;

/* While it lives, fork waits. False: a fork is under way, and SQLite is not to be called. Sequentially
 * consistent with keep_out_for_fork(): one of the two sees the other. */
class Inside {
 public:
  Inside() noexcept {
    inside.fetch_add(1, std::memory_order_seq_cst);
    inside_here += 1;
    entered_ = forking.load(std::memory_order_seq_cst) == 0;
  }
  ~Inside() {
    inside_here -= 1;
    inside.fetch_sub(1, std::memory_order_seq_cst);
    if (forking.load(std::memory_order_seq_cst) != 0) os::futex_wake(inside, INT32_MAX);
  }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;
  explicit operator bool() const noexcept { return entered_; }

 private:
  bool entered_;
};

/* Changes whenever the service thread is done with a connection. */
constinit std::atomic<uint32_t> use_ended{0};

bool resolve(const void* open_function, Library* library) noexcept {
  ElfImage image;
  return image_of(open_function, &image) &&
         image.find("sqlite3_db_release_memory", &library->release_memory) &&
         image.find("sqlite3_db_mutex", &library->mutex_of) &&
         image.find("sqlite3_mutex_try", &library->mutex_try) &&
         image.find("sqlite3_mutex_leave", &library->mutex_leave) &&
         image.find("sqlite3_soft_heap_limit64", &library->soft_heap_limit);
}

/* The library's own place in the table; nullptr: it is full. */
Library* known(const Library& resolved) noexcept MEMLIMIT_REQUIRES(table_lock) {
  for (Library& library : libraries) {
    if (library.release_memory == nullptr) library = resolved;
    if (library.release_memory == resolved.release_memory) return &library;
  }
  return nullptr;
}

Entry* find(const Connection* connection) noexcept MEMLIMIT_REQUIRES(table_lock) {
  for (Entry& entry : entries) {
    if (entry.connection == connection) return &entry;
  }
  return nullptr;
}

/* SQLite recycles pages of its caches instead of allocating beyond this: as much as leaves the rest of the
 * limit for rounds to work with. */
int64_t soft_limit_for(int64_t limit_bytes) noexcept { return limit_bytes / 100 * start_percent; }

/* Follows the limit, as long as the program has set none of its own. */
void update_soft_limit(Library* library) noexcept {
  const int64_t target = soft_limit_for(reclaim::limit_bytes());
  if (target == library->soft_limit_bytes) return;
  if (library->soft_heap_limit(-1) != library->soft_limit_bytes) return;
  library->soft_heap_limit(target);
  library->soft_limit_bytes = target;
}

bool begin_use(size_t index, Entry* entry) noexcept {
  LockGuard guard(table_lock);
  if (entries[index].library == nullptr) return false;
  entries[index].in_use = true;
  *entry = entries[index];
  return true;
}

void end_use(size_t index) noexcept {
  {
    LockGuard guard(table_lock);
    entries[index].in_use = false;
  }
  use_ended.fetch_add(1, std::memory_order_release);
  os::futex_wake(use_ended, INT32_MAX);
}

/* False: the connection is busy, or made for one thread only, or the process forks. One connection at a time
 * is what fork waits for. */
bool release(const Entry& entry) noexcept {
  const Inside entered;
  if (!entered) return false;
  update_soft_limit(entry.library);
  Mutex* const mutex = entry.library->mutex_of(entry.connection);
  if (mutex == nullptr || entry.library->mutex_try(mutex) != kOk) return false;
  // The mutex is recursive: releasing takes it again.
  entry.library->release_memory(entry.connection);
  entry.library->mutex_leave(mutex);
  return true;
}

int64_t reclaim_connections(const memlimit_request*, void*) {
  bool any = false;
  for (size_t i = 0; i < kMaxConnections; ++i) {
    Entry entry;
    if (!begin_use(i, &entry)) continue;
    any = release(entry) || any;
    end_use(i);
  }
  return any ? 0 : MEMLIMIT_CANNOT_NOW; /* the thread's own counters say how much */
}

void add_hook() noexcept {
  memlimit_hook hook{};
  hook.size = sizeof hook;
  hook.name = "sqlite";
  hook.context = MEMLIMIT_ASYNC;
  hook.reclaim = reclaim_connections;
  memlimit_hook_id id;
  hooks::add(hook, &id);
}

}  // namespace

void configure(const Config& config) noexcept {
  wanted = adapter_wanted(config, "sqlite");
  start_percent = config.start_percent;
}

void opened(Connection* connection, const void* open_function, bool usable) noexcept {
  if (connection == nullptr) return;
  os::ErrnoGuard errno_guard;
  Library resolved;
  usable = usable && wanted && resolve(open_function, &resolved);
  Library* library = nullptr;
  bool first = false;
  {
    LockGuard guard(table_lock);
    if (usable) library = known(resolved);
    // A connection closed behind our back may come again.
    Entry* entry = find(connection);
    if (entry == nullptr) entry = find(nullptr);
    if (entry != nullptr && !entry->in_use) *entry = {connection, open_function, library, false};
    first = library != nullptr && !hook_added;
    hook_added = hook_added || first;
  }
  if (first) add_hook();
  if (library == nullptr) return;
  const Inside entered;
  if (entered) update_soft_limit(library);
}

const void* closing(Connection* connection, bool* usable) noexcept {
  if (connection == nullptr) return nullptr;
  os::ErrnoGuard errno_guard;
  for (;;) {
    const uint32_t ended = use_ended.load(std::memory_order_acquire);
    {
      LockGuard guard(table_lock);
      Entry* const entry = find(connection);
      if (entry == nullptr) return nullptr;
      if (!entry->in_use) {
        const void* const open_function = entry->open_function;
        *usable = entry->library != nullptr;
        *entry = {};
        return open_function;
      }
    }
    os::futex_wait(use_ended, ended, -1);
  }
}

void keep_out_for_fork() noexcept {
  forking.fetch_add(1, std::memory_order_seq_cst);
  const int64_t until_ns = os::monotonic_ns() + kForkPatienceNs;
  for (;;) {
    const uint32_t seen = inside.load(std::memory_order_seq_cst);
    const int64_t left_ns = until_ns - os::monotonic_ns();
    if (seen == inside_here || left_ns <= 0) return;
    os::futex_wait(inside, seen, left_ns);
  }
}

void let_in_after_fork() noexcept { forking.fetch_sub(1, std::memory_order_seq_cst); }

void lock_for_fork() noexcept MEMLIMIT_NO_THREAD_SAFETY_ANALYSIS { table_lock.lock(); }
void unlock_after_fork() noexcept MEMLIMIT_NO_THREAD_SAFETY_ANALYSIS { table_lock.unlock(); }

void reset_after_fork() noexcept MEMLIMIT_NO_THREAD_SAFETY_ANALYSIS {
  table_lock.reset_after_fork();
  for (Entry& entry : entries) entry = {};
  forking.store(0, std::memory_order_relaxed);
  inside.store(inside_here, std::memory_order_relaxed);
}

}  // namespace memlimit::adapters::sqlite
