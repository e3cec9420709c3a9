/* What an adapter is: a language runtime's own reclaim, driven from outside at the runtime's own safe
 * point.
 *
 * An adapter answers for three things: finding the runtime's functions in a loaded image, having the
 * runtime call back at its next safe point, and reclaiming when it does. It refuses to decide when, to
 * measure, and to know the engine: registry.cc does that for all of them. No runtime is linked.
 * Threads: as said for each function.
 */
#pragma once

#include <cstdint>

#include "pacing/pacer.h"
#include "runtimes/elf_image.h"
#include "runtimes/left_out_reason.h"

namespace memlimit::runtimes {

/** What is asked of a runtime at its safe point. */
struct Work {
  Level level = Level::kLow;
  int64_t wanted_bytes = 0;
  int64_t paced_bytes = 0;
  int64_t limit_bytes = 0;
  bool everything = false; /* an explicit reclaim: all it can */
};

/** What the runtime says that came of it; the process's figures are measured by whoever asked. */
struct Outcome {
  bool ran = false;           /* false: it could not now, which is not held against it */
  bool started = false;       /* it will go on by itself; there is nothing to measure yet */
  bool frees_follow = false;  /* threads of the runtime free memory now that it has collected: */
  int64_t released_bytes = 0; /* so much of its heap, as far as it was touched */
  int64_t recycled_bytes =
      0;               /* free again inside the runtime, shown neither by usage nor footprint */
  int64_t rest_ns = 0; /* so long it is not to be asked again but in an explicit reclaim */
  int64_t parallel_cpu_ns = 0; /* CPU time it used on other threads than the calling one */
};

enum class Asked : uint8_t {
  kNotMine, /* the calling thread has no safe point of this runtime */
  kNotNow,  /* not ready, shutting down, or one request is outstanding already */
  kAsked,   /* arrive() will be called, on this thread or another of the runtime's */
};

struct Adapter {
  /** As MEMLIMIT_ADAPTERS and the `hooks` file have it. */
  const char* name;

  /** A symbol that only an image of this runtime defines. */
  HashedName landmark;

  /** Takes what it needs from the image; false: a version it does not know. Called once at most with
   *  success, before anything else, by one thread. The image stays loaded for ever. */
  bool (*attach)(const ElfImage& image) noexcept;

  /** Has the runtime call back at its next safe point. On any thread, in the middle of an allocation or a
   *  system call of the runtime: no lock but what the runtime's own signal-safe entry takes. nullptr: the runtime takes
   *  requests from any thread, and reclaim() is called on the service thread, which is away meanwhile (service.h). */
  Asked (*ask)(int64_t now_ns) noexcept;

  /** Reclaims, at the safe point. May run any code of the program's (finalisers), and block. */
  Outcome (*reclaim)(const Work& work);

  /** In the child of fork: requests that were outstanding are not. */
  void (*reset_after_fork)() noexcept;

  /** On the service thread, after request_help(); nullptr: there is nothing it could do. */
  void (*help)() noexcept;

  /** Its heap grows for long without one call of malloc or mmap, so that the service thread looks by itself. */
  bool grows_unseen = false;

  /** The runtime's own code calls dlopen, on that thread, before anything is loaded. No lock is held but the
   *  runtime's; any of its functions may be called, and may jump out as they do. nullptr: of no interest. */
  void (*on_dlopen)() = nullptr;

  /** It runs code of ours inside the program, or the like: `auto` does not attach it. */
  bool only_when_named = false;

  /** On the service thread, a few times within the seconds after libraries were loaded: what the runtime has set up
   *  since. nullptr: nothing is set up later than the image. */
  void (*notice)() noexcept = nullptr;

  /** The limit is another one. Any thread that may set it; nullptr: the runtime has no limit of its own. */
  void (*limit_changed)() noexcept = nullptr;

  /** Why attach() has said no to this image; nullptr: its version is not known. */
  left_out::Why (*why_not)(const ElfImage& image) noexcept = nullptr;

  /** Somebody must look at the figures where nothing is locked, and whoever maps memory cannot: has the runtime call
   *  look::after_allocation() at its next safe point. Threads and context as of ask(); nullptr: it allocates often enough. */
  void (*visit_soon)() noexcept = nullptr;

  /** What the calling thread needs before a round may want it. Threads and context as of ask(), whenever it looks at
   *  usage; nullptr: nothing. */
  void (*prepare)() noexcept = nullptr;

  /** help() reaches threads that ask() does not: it is called in each round. */
  bool helps_in_rounds = false;
};

/** What the runtime's callback calls: runs `reclaim` if a round still wants it, and measures. */
void arrive(const Adapter& adapter);

/** Whether arrive() would have it reclaim, and with what; for who can tell beforehand that it is not worth it. */
bool is_wanted(const Adapter& adapter, Work* work) noexcept;

/** Whether MEMLIMIT_ADAPTERS names it, rather than all. */
bool is_named(const Adapter& adapter) noexcept;

/** No round is to ask this runtime, which is attached. On the service thread. */
void leave_out(const Adapter& adapter, left_out::Why why) noexcept;

/** Whether MEMLIMIT_ADAPTERS names `cpython-threads`: reclaim may run in a thread of ours. */
bool may_use_threads() noexcept;

/** Has the service thread call the adapter's help(). Any thread, inside malloc too. */
void request_help(const Adapter& adapter) noexcept;

extern const Adapter kCPython;
extern const Adapter kRuby;
extern const Adapter kV8;
extern const Adapter kJvm;
extern const Adapter kBeam;
extern const Adapter kPhp;

/** Whether this process is CPython's 3.12 or later, which counts its threads after a fork in the parent and writes a warning
 *  when there are two. On the service thread: takes the loader's lock. */
bool warns_of_threads_after_fork() noexcept;

/** How long a request counts as outstanding: a runtime that lost it (a child of fork, an interpreter that
 *  ended and began anew) is asked again. A callback too many finds nothing to do. */
inline constexpr int64_t kRequestExpiresNs = 1'000'000'000;

}  // namespace memlimit::runtimes
