/* memlimit.h - a soft limit for the heap of a native Linux program, and hooks that give memory back.
 *
 * C11 and C++. A program may call these functions whether or not libmemlimit.so is there: every
 * declaration is a weak reference, so link with -lmemlimit or with nothing at all, and test
 * memlimit_is_loaded() before the first call. (C++ users: memlimit.hpp does that for you.)
 * Code that is compiled neither -fPIC nor -fPIE resolves weak references when it is linked, so such a
 * program must link with -lmemlimit. Weak references make no library needed where the linker runs with
 * --as-needed: then -Wl,--no-as-needed goes before it, as `pkg-config --libs memlimit` has it.
 *
 * Words used below
 *   usage        bytes of live heap blocks, as malloc_usable_size() reports them, plus what was
 *                charged by hand
 *   limit        the soft ceiling for usage; an allocation is never refused because of it
 *   headroom     limit - usage
 *   round        one pass over the hooks, asking for a number of bytes back
 *   thread-safe  may be called by any thread at any time, also by several at once
 *   from a hook  called inside a function registered with memlimit_hook_add()
 *   between fork and exec   in the child of a multi-threaded process before it calls exec
 */
#ifndef MEMLIMIT_H
#define MEMLIMIT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(MEMLIMIT_BUILDING)
#define MEMLIMIT_API __attribute__((visibility("default")))
#else
#define MEMLIMIT_API __attribute__((weak))
#endif

/** How tight memory is. A hook may use it to choose between trimming and dropping. */
enum memlimit_level {
  MEMLIMIT_LOW = 0,      /* far from the limit, or no limit is set */
  MEMLIMIT_MODERATE = 1, /* reclaim has begun */
  MEMLIMIT_CRITICAL = 2, /* little headroom is left */
  MEMLIMIT_OVER = 3      /* usage is above the limit */
};

/** Where a hook runs; see memlimit_hook_add(). */
enum memlimit_context {
  MEMLIMIT_ASYNC = 0, /* on memlimit's service thread */
  MEMLIMIT_POLL = 1,  /* inside memlimit_poll(), when the program calls it */
  MEMLIMIT_INLINE = 2 /* inside malloc, on the allocating thread: read the warning below */
};

/** A hook's answer "I can do nothing at this moment" (a lock is busy, say): it is skipped, not punished. */
#define MEMLIMIT_CANNOT_NOW ((int64_t)-1)

/** What a hook is asked. @size tells which fields the library fills in; later versions add at the end. */
struct memlimit_request {
  size_t size;          /* sizeof this structure in the library, bytes */
  int64_t wanted_bytes; /* bytes asked for; freeing less is fine, freeing much more is waste */
  int64_t usage_bytes;  /* the paced number when the round began */
  int64_t limit_bytes;  /* the limit when the round began; 0 = no limit (an explicit reclaim) */
  int level;            /* enum memlimit_level */
  uint64_t deadline_ns; /* CLOCK_MONOTONIC; a hook that runs past it is reported by name */
  uint64_t round;       /* number of the round, from 1; the same for all hooks of a round */
};

/** A hook, as given to memlimit_hook_add(). Set @size to sizeof(struct memlimit_hook). */
struct memlimit_hook {
  size_t size;
  const char* name; /* shown in statistics; copied, up to 31 bytes */
  int context;      /* enum memlimit_context */
  int64_t (*reclaim)(const struct memlimit_request* request, void* arg);
  void* arg; /* passed through; must outlive the registration */
};

/** Names a registered hook. Never 0, never used again for another hook. */
typedef uint64_t memlimit_hook_id;

/**
 * memlimit_stats - the same figures as the socket's `stat` file, under the same names
 *
 * The README says what each one means. Bytes, nanoseconds and counts; fields are only ever added,
 * at the end.
 */
struct memlimit_stats {
  size_t size; /* bytes the library filled in, counted from the start of the structure */
  int64_t limit;
  int64_t heap_alloc;
  int64_t heap_peak;
  int64_t total_alloc;
  int64_t total_freed;
  int64_t charged;
  int64_t mapped;
  int64_t headroom;
  int64_t rss_anon;
  int64_t cgroup_used;
  int64_t paced;
  int64_t level;
  int64_t rounds;
  int64_t hook_calls;
  int64_t hook_skips;
  int64_t hook_ns;
  int64_t hooks;
  int64_t reclaimed;
  int64_t overshoot_peak;
  int64_t oversized;
  int64_t limiter_on;
  int64_t limiter_episodes;
  int64_t limiter_skipped;
  int64_t limiter_needed;
  int64_t reclaim_cpu_ns;
  int64_t assists;
  int64_t assist_ns;
  int64_t assist_max_ns;
  int64_t purges;
  int64_t purge_ns;
  int64_t purged;
  int64_t madvise_calls;
  int64_t held_idle;
  int64_t threads;
  int64_t quantum;
  int64_t publishes;
  int64_t forks;
  int64_t invalid_settings;
  int64_t events_dropped;
  int64_t socket_requests;
  int64_t socket_refused;
  int64_t uptime_ns;
  int64_t heap_cached;
  int64_t heap_free;
  int64_t heap_large;
  int64_t heap_huge;
  int64_t heap_kept;
  int64_t heap_lost;
  int64_t heap_spans;
  int64_t heap_regions;
  int64_t heap_records;
  int64_t hook_overruns;
  int64_t hooks_running;
  int64_t hook_running_ns;
  int64_t profile_interval;
  int64_t profile_samples;
  int64_t profile_sites;
  int64_t profile_dropped;
};

/** memlimit_is_loaded() - 1 when libmemlimit.so is in this process, else 0; callable anywhere */
static inline int memlimit_is_loaded(void);

/**
 * memlimit_set() - change the limit
 * @bytes: the new limit; 0 or less turns it off
 *
 * A limit below present usage takes effect at once: a round is due immediately.
 * While it is in force a share of the container's memory (MEMLIMIT=80%, auto) is not followed.
 *
 * Units:     bytes
 * Threads:   thread-safe
 * Context:   from a hook: yes; signal handler: no; between fork and exec: yes
 * Locks:     takes `reclaim` for a moment
 * Allocates: no; may start the service thread
 * Return:    the previous limit, 0 when it was off. Never fails
 */
MEMLIMIT_API int64_t memlimit_set(int64_t bytes);

/**
 * memlimit_get() - the limit in force
 *
 * Units:     bytes
 * Threads:   thread-safe
 * Context:   anywhere, signal handlers included
 * Locks:     none
 * Allocates: no
 * Return:    the limit, 0 when it is off
 */
MEMLIMIT_API int64_t memlimit_get(void);

/**
 * memlimit_hook_add() - register a function that gives memory back under pressure
 * @hook: what to call, where, and under which name; copied, need not outlive the call
 * @id:   filled on success, untouched on failure
 *
 * Rounds come more and more often as usage nears the limit. A hook may never run, or run when it has
 * nothing to give; it returns the bytes it believes it freed, or MEMLIMIT_CANNOT_NOW. What it really
 * freed is measured. Hooks that free much per microsecond run first, and a round stops as soon as the
 * wanted bytes are free; a hook that frees nothing is asked less and less often until it does.
 *
 * MEMLIMIT_ASYNC hooks run on the service thread with none of memlimit's locks held. They may lock,
 * allocate, free, and call anything in this header.
 * MEMLIMIT_POLL hooks run inside memlimit_poll(), on the thread that calls it.
 * MEMLIMIT_INLINE hooks run inside malloc on whichever thread allocates. Two hazards:
 *   1. The program may hold its own locks while it allocates: use only atomics or try-lock.
 *   2. Compilers assume that malloc does not touch the program's data. gcc and clang keep values in
 *      registers across the call, so what the hook changes may not be seen afterwards - and what the
 *      program was about to write back may undo it. Touch only atomics (or data behind a lock that you
 *      try-lock in the hook). Safe:
 *          static _Atomic(struct node*) spare;           // a free-list of whole nodes
 *          static int64_t drop_spare(const struct memlimit_request* r, void* arg) {
 *            struct node* n = atomic_exchange(&spare, NULL);
 *            ... free the chain, return its bytes ...
 *          }
 *      Unsafe: a plain `cache->count = 0` that the caller of malloc may have in a register.
 *
 * A hook must not let a C++ exception escape (memlimit.hpp catches for you), nor end its thread: after
 * pthread_exit() in a hook the process ends.
 *
 * When exit() is called or main returns, hooks end before the first object is destroyed that existed when the
 * hook was added: one that is running is waited for (a second at most), and none is called after that. An object
 * that is made later and that a hook works on must remove the hook in its destructor. This holds for the first 64
 * calls, removed hooks included, that are not made in a hook; for a hook that is added by any other call, objects
 * count that existed at the last of those 64 or, if that is later, when ASYNC hooks were first asked in a round.
 *
 * Units:     bytes; time in nanoseconds where named _ns
 * Threads:   thread-safe; a hook never runs on two threads at once
 * Context:   from a hook: yes; signal handler: no; between fork and exec: yes
 * Locks:     takes `hooks` for a moment
 * Allocates: a little for atexit(), the first 64 times; may start the service thread
 * Return:    0; -EINVAL for a null @hook, @id or function, an empty name, an unknown context or a
 *            @size that is too small; -ENOSPC when all 64 slots are taken
 */
MEMLIMIT_API int memlimit_hook_add(const struct memlimit_hook* hook, memlimit_hook_id* id);

/**
 * memlimit_hook_remove() - unregister, and wait until the hook is not running
 * @id: what memlimit_hook_add() gave
 *
 * When it returns, the function is not running and will never run again: @arg may be freed and the
 * library that holds it unloaded. Called from that hook itself it cannot wait: the removal takes effect
 * when the hook returns. Do not call it while holding a lock that the hook takes.
 *
 * Units:     none
 * Threads:   thread-safe
 * Context:   from a hook: yes (from another hook of the same round too); signal handler: no; between
 *            fork and exec: yes
 * Locks:     takes `hooks`; waits, without it, for a running hook to end
 * Allocates: no
 * Return:    0; -ENOENT when there is no such hook (any more)
 */
MEMLIMIT_API int memlimit_hook_remove(memlimit_hook_id id);

/**
 * memlimit_reclaim() - run a round now, whatever the usage
 * @bytes: how much to ask for; 0 or less: all that can be had
 *
 * Runs ASYNC hooks (on the service thread, waiting for them at most 10 s), INLINE hooks and the
 * allocator's own purge. POLL hooks are woken, not waited for. The limiter and back-off do not apply:
 * the caller asked.
 *
 * Units:     bytes
 * Threads:   thread-safe
 * Context:   from a hook: does nothing and returns 0; signal handler: no; between fork and exec: yes
 * Locks:     takes `reclaim`
 * Allocates: no, but hooks may; may start the service thread
 * Return:    bytes by which usage fell while the round ran, plus pages the allocator gave back; 0 or more
 */
MEMLIMIT_API int64_t memlimit_reclaim(int64_t bytes);

/**
 * memlimit_poll_fd() - a descriptor that is readable when memlimit_poll() has work
 *
 * An eventfd, close-on-exec, non-blocking, the same at every call. Add it to the program's event loop
 * for reading; memlimit_poll() clears it. Do not read, write or close it.
 *
 * Units:     none
 * Threads:   thread-safe
 * Context:   from a hook: yes; signal handler: no; between fork and exec: yes (the child gets its own)
 * Locks:     none
 * Allocates: no
 * Return:    the descriptor; -errno (-EMFILE, -ENFILE, -ENOMEM) when none can be made
 */
MEMLIMIT_API int memlimit_poll_fd(void);

/**
 * memlimit_poll() - run the POLL hooks that are due, on this thread
 *
 * Cheap when nothing is due (one atomic load), so it may be called at every turn of a loop.
 *
 * Units:     none
 * Threads:   thread-safe; a second concurrent caller returns 0 at once
 * Context:   from a hook: does nothing and returns 0; signal handler: no; between fork and exec: yes
 * Locks:     none while hooks run
 * Allocates: no, but hooks may
 * Return:    number of hooks that ran, 0 or more
 */
MEMLIMIT_API int memlimit_poll(void);

/**
 * memlimit_charge() - count memory that malloc does not see
 * @bytes: added to usage; negative: taken off again
 *
 * For mappings, device buffers or pools that the program owns. Never fails; a round may become due.
 *
 * Units:     bytes
 * Threads:   thread-safe; a charge may be taken off by another thread
 * Context:   from a hook: yes; signal handler: no; between fork and exec: yes
 * Locks:     none (a round that becomes due takes `reclaim`, as in malloc)
 * Allocates: no
 * Return:    none
 */
MEMLIMIT_API void memlimit_charge(int64_t bytes);

/**
 * memlimit_read_stats() - a snapshot of all statistics
 * @out:  filled in; fields beyond @size are not touched
 * @size: sizeof(struct memlimit_stats) as the caller knows it
 *
 * Units:     bytes, nanoseconds, counts
 * Threads:   thread-safe; figures of a running process are each right at some moment of the call
 * Context:   from a hook: yes; signal handler: no; between fork and exec: yes
 * Locks:     none
 * Allocates: no; reads /proc/self/status
 * Return:    0; -EINVAL for a null @out or a @size that cannot hold the first figure
 */
MEMLIMIT_API int memlimit_read_stats(struct memlimit_stats* out, size_t size);

static inline int memlimit_is_loaded(void) {
#if defined(MEMLIMIT_BUILDING)
  return 1;
#else
  return memlimit_get != NULL;
#endif
}

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* MEMLIMIT_H */
