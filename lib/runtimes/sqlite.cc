/* See sqlite.h. A connection that the service thread works on is marked in the table, and whoever closes
 * it waits for the mark to go; no lock of ours is held while SQLite runs. A library whose connections are
 * worked on stays loaded for ever: a plugin that leaves one open may take it along when it is unloaded. */
#include "runtimes/sqlite.h"

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstddef>
#include <cstdint>

#include <dlfcn.h>

#include "engine/hooks.h"
#include "engine/participants.h"
#include "engine/pressure.h"
#include "engine/service.h"
#include "engine/thread_state.h"
#include "memlimit.h"
#include "runtimes/elf_image.h"
#include "runtimes/loaded_images.h"
#include "system/attributes.h"
#include "system/lock.h"
#include "system/os.h"

namespace memlimit::runtimes::sqlite {
namespace {

constexpr int kOk = 0; /* SQLITE_OK */

/* Copies of SQLite in one process, and connections of all of them. What is beyond is left alone. */
constexpr size_t kMaxLibraries = 4;
constexpr size_t kMaxConnections = 256;

using Mutex = void;

struct Functions {
  int (*release_memory)(Connection*) = nullptr;
  Mutex* (*mutex_of)(Connection*) = nullptr;
  int (*mutex_try)(Mutex*) = nullptr;
  void (*mutex_leave)(Mutex*) = nullptr;
  int64_t (*soft_heap_limit)(int64_t) = nullptr;
};

/* A copy of SQLite in the process. */
struct Library {
  Functions functions;
  /* As we set it; 0: the program's own is in force, or none. */
  std::atomic<int64_t> soft_limit_bytes{0};
  /* Images that were unloaded before the oldest of its connections was opened. */
  unsigned long long removed = 0;
  int openers = 0;                   /* threads in opened() that use it */
  std::atomic<bool> updating{false}; /* a thread compares and sets soft_limit_bytes */
  bool stays = false;                /* it is never unloaded */

  bool is(const Functions& others) const noexcept {
    return functions.release_memory == others.release_memory;
  }
};

struct Entry {
  Connection* connection = nullptr;
  const void* open_function = nullptr;
  Library* library = nullptr; /* nullptr: its cache is not ours to release */
  bool in_use = false;
};

constinit bool wanted = false;
constinit int start_percent = 50;

constinit MEMLIMIT_FORK_DATA Lock table_lock{LockRank::kSqlite};
constinit Library libraries[kMaxLibraries] MEMLIMIT_GUARDED_BY(table_lock){};
constinit Entry entries[kMaxConnections] MEMLIMIT_GUARDED_BY(table_lock){};
constinit MEMLIMIT_FORK_DATA bool ever_used MEMLIMIT_GUARDED_BY(table_lock) = false;
constinit bool hook_added MEMLIMIT_GUARDED_BY(table_lock) = false;

/* A thread of ours inside SQLite is inside fork's gate: a child whose parent held one of SQLite's own mutexes can never
 * open a database. A connection takes milliseconds, but the mutex that SQLite waits for may be held by the thread that
 * forks: it waits no longer than this. */
constexpr int64_t kForkPatienceNs = 500'000'000;

/* The limit has changed, and SQLite is to be told. */
constinit MEMLIMIT_FORK_DATA std::atomic<bool> limit_is_new{false};

/* Changes whenever the service thread is done with a connection. */
constinit MEMLIMIT_FORK_DATA std::atomic<uint32_t> use_ended{0};

bool resolve(const void* open_function, Functions* out) noexcept {
  ElfImage image;
  return image_of(open_function, &image) &&
         image.find("sqlite3_db_release_memory", &out->release_memory) &&
         image.find("sqlite3_db_mutex", &out->mutex_of) &&
         image.find("sqlite3_mutex_try", &out->mutex_try) &&
         image.find("sqlite3_mutex_leave", &out->mutex_leave) &&
         image.find("sqlite3_soft_heap_limit64", &out->soft_heap_limit);
}

bool has_entries(const Library& library) noexcept MEMLIMIT_REQUIRES(table_lock) {
  return std::any_of(std::begin(entries), std::end(entries),
                     [&](const Entry& entry)
                         MEMLIMIT_REQUIRES(table_lock) { return entry.library == &library; });
}

/* Its connections are not ours to work on any more; one that is being worked on has a library that stays. */
void forget_entries(const Library& library) noexcept MEMLIMIT_REQUIRES(table_lock) {
  for (Entry& entry : entries) {
    if (entry.library == &library && !entry.in_use) entry.library = nullptr;
  }
}

/* The library's own place in the table, which may be one that nobody needs any more; nullptr: it is full. */
Library* known(const Functions& functions, unsigned long long removed) noexcept
    MEMLIMIT_REQUIRES(table_lock) {
  Library* free_place = nullptr;
  for (Library& library : libraries) {
    if (library.is(functions)) return &library;
    const bool never_used = library.is({});
    if (library.stays || library.openers > 0 || has_entries(library)) continue;
    if (free_place == nullptr || (never_used && !free_place->is({}))) free_place = &library;
  }
  if (free_place == nullptr) return nullptr;
  free_place->functions = functions;
  free_place->removed = removed;
  free_place->soft_limit_bytes.store(0, std::memory_order_relaxed);
  return free_place;
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

/* Follows the limit, as long as the program has set none of its own. A library that may have been loaded anew
 * has forgotten what was set. */
void update_soft_limit(Library* library, bool maybe_new) noexcept {
  for (;;) {
    const int64_t target = soft_limit_for(pressure::limit_bytes());
    const int64_t before = library->soft_limit_bytes.load(std::memory_order_acquire);
    if (target == before && !maybe_new) return;
    // Whoever is at it looks again when it is done. It sees the limit that brought us here: hence exchange.
    if (library->updating.exchange(true, std::memory_order_acq_rel)) return;
    const int64_t in_force = library->functions.soft_heap_limit(-1);
    const bool ours = in_force == library->soft_limit_bytes.load(std::memory_order_relaxed) ||
                      (maybe_new && in_force == 0);
    if (ours) {
      library->functions.soft_heap_limit(target);
      library->soft_limit_bytes.store(target, std::memory_order_release);
    }
    library->updating.exchange(false, std::memory_order_acq_rel);
    if (!ours) return;
    maybe_new = false;
  }
}

enum class Kept : uint8_t {
  kYes,
  kNo,    /* it is gone, and another may be in its place */
  kLater, /* the process forks */
};

/* Keeps the library that the function is in loaded. On the service thread, with no connection in use: the
 * loader's lock may be held by a thread that waits for one which closes a connection. Nor is fork to wait
 * for that lock, which the C library repairs in the child; it does not repair the one that lists of images are
 * changed with. */
Kept keep_loaded(const void* function, unsigned long long removed) noexcept {
  char path[PATH_MAX];
  {
    const fork::Inside entered;
    if (!entered) return Kept::kLater;
    if (loaded_with_program(function)) return Kept::kYes;
    if (!path_of(function, path, sizeof path)) return Kept::kNo;
  }
  // Never closed again: that might run the library's destructors here.
  if (dlopen(path, RTLD_NOLOAD | RTLD_LAZY) == nullptr) return Kept::kNo;
  const fork::Inside entered;
  if (!entered) return Kept::kLater;
  // As long as none has been unloaded, it is the one.
  return generation().removed == removed ? Kept::kYes : Kept::kNo;
}

/* False: a fork was in the way. */
bool keep_libraries_loaded() noexcept {
  bool done = true;
  for (size_t i = 0; i < kMaxLibraries; ++i) {
    Functions functions;
    unsigned long long removed;
    {
      LockGuard guard(table_lock);
      if (libraries[i].stays || !has_entries(libraries[i])) continue;
      functions = libraries[i].functions;
      removed = libraries[i].removed;
    }
    const Kept kept = keep_loaded(reinterpret_cast<const void*>(functions.release_memory), removed);
    LockGuard guard(table_lock);
    Library& library = libraries[i];
    if (!library.is(functions) || library.removed != removed) continue;
    if (kept == Kept::kYes) library.stays = true;
    if (kept == Kept::kNo) forget_entries(library);
    if (kept == Kept::kLater) done = false;
  }
  return done;
}

/* The library at this place in the table, if it has a connection and may be called on the service thread. */
Library* library_in_use(size_t index) noexcept {
  LockGuard guard(table_lock);
  Library& library = libraries[index];
  return library.stays && has_entries(library) ? &library : nullptr;
}

/* Has serve() do what a fork kept this thread from. Sequentially consistent with the gate's opening, which wakes the
 * service thread for whoever was kept out: one of the two does. */
void serve_after_fork() noexcept {
  limit_is_new.store(true, std::memory_order_seq_cst);
  if (!fork::gate().is_closed()) service::wake();
}

bool begin_use(size_t index, Entry* entry) noexcept {
  LockGuard guard(table_lock);
  if (entries[index].library == nullptr || !entries[index].library->stays) return false;
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
  const fork::Inside entered;
  if (!entered) return false;
  update_soft_limit(entry.library, false);
  const Functions& functions = entry.library->functions;
  Mutex* const mutex = functions.mutex_of(entry.connection);
  if (mutex == nullptr || functions.mutex_try(mutex) != kOk) return false;
  // The mutex is recursive: releasing takes it again.
  functions.release_memory(entry.connection);
  functions.mutex_leave(mutex);
  return true;
}

int64_t reclaim_connections(const memlimit_request*, void*) {
  keep_libraries_loaded();
  bool any = false;
  for (size_t i = 0; i < kMaxConnections; ++i) {
    Entry entry;
    if (!begin_use(i, &entry)) continue;
    any = release(entry) || any;
    end_use(i);
  }
  return any ? 0 : MEMLIMIT_CANNOT_NOW; /* the thread's own counters say how much */
}

struct Opening {
  Library* library = nullptr;
  bool maybe_new = false; /* it may have been unloaded, and loaded to the same place again */
};

/* The library in the table, where it stays until `openers` is counted down. */
Opening begin_opening(const Functions& functions) noexcept {
  const unsigned long long removed = generation().removed;
  Opening opening;
  {
    LockGuard guard(table_lock);
    opening.library = known(functions, removed);
    if (opening.library == nullptr) return opening;
    opening.library->openers += 1;
    ever_used = true;
    if (opening.library->stays || opening.library->removed == removed) return opening;
  }
  const bool stays = loaded_with_program(reinterpret_cast<const void*>(functions.release_memory));
  LockGuard guard(table_lock);
  Library& library = *opening.library;
  library.stays = library.stays || stays;
  library.removed = removed;
  opening.maybe_new = !library.stays;
  // Then its other connections may be those of one that is gone.
  if (opening.maybe_new) forget_entries(library);
  return opening;
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

void limit_changed() noexcept {
  bool any = false;
  {
    LockGuard guard(table_lock);
    for (const Library& library : libraries) any = any || has_entries(library);
  }
  if (!any) return;
  limit_is_new.store(true, std::memory_order_release);
  service::start();
  service::wake();
}

void serve(const service::Turn&) noexcept {
  if (!limit_is_new.load(std::memory_order_relaxed) || service::lacks_room()) return;
  limit_is_new.exchange(false, std::memory_order_acq_rel);
  bool done = keep_libraries_loaded();
  for (size_t i = 0; i < kMaxLibraries; ++i) {
    Library* const library = library_in_use(i);
    if (library == nullptr) continue;
    const fork::Inside entered;
    if (entered) {
      update_soft_limit(library, false);
    } else {
      done = false;
    }
  }
  if (!done) serve_after_fork();
}

MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept MEMLIMIT_NO_THREAD_SAFETY_ANALYSIS {
  table_lock.reset_after_fork();
  limit_is_new.store(false, std::memory_order_relaxed);
  // Pages that nobody has touched where no connection ever was.
  if (!ever_used) return;
  for (Library& library : libraries) {
    library.openers = 0;
    library.updating.store(false, std::memory_order_relaxed);
  }
  for (Entry& entry : entries) entry = {};
}

constexpr Participant kParticipant{.limit_changed = limit_changed};

}  // namespace

void configure(const Config& config) noexcept {
  wanted = adapter_wanted(config, "sqlite");
  start_percent = config.start_percent;
  if (wanted) participants::add(kParticipant);
}

void opened(Connection* connection, const void* open_function, bool usable) noexcept {
  if (connection == nullptr) return;
  os::ErrnoGuard errno_guard;
  Functions functions;
  Opening opening;
  if (usable && wanted && resolve(open_function, &functions)) opening = begin_opening(functions);
  Library* const library = opening.library;
  bool first = false;
  {
    LockGuard guard(table_lock);
    ever_used = true;
    // A connection closed behind our back may come again.
    Entry* entry = find(connection);
    if (entry == nullptr) entry = find(nullptr);
    if (entry != nullptr && !entry->in_use) *entry = {connection, open_function, library, false};
    first = library != nullptr && !hook_added;
    hook_added = hook_added || first;
  }
  if (first) {
    fork::be_patient(kForkPatienceNs);
    add_hook();
  }
  if (library == nullptr) return;
  {
    const fork::Inside entered;
    if (entered) {
      update_soft_limit(library, opening.maybe_new);
    } else {
      serve_after_fork();
    }
  }
  LockGuard guard(table_lock);
  library->openers -= 1;
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

constinit const service::Task kTask{.run = serve};

constinit const fork::Part kForkPart{"sqlite", fork::hold<table_lock>, fork::let_go<table_lock>,
                                     reset_after_fork};

}  // namespace memlimit::runtimes::sqlite
