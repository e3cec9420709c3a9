/* What the kernel says about this process and this machine: footprint, name, physical memory.
 *
 * Answers for: one number a call, or a defined "unknown"; content of any kind never crashes it. The
 * parsers are pure and stand apart from the reading. Refuses to cache, and to keep descriptors
 * open: programs close descriptors that they did not open, and after fork an open statm shows the
 * parent. Threads: every function may be called by any thread, also inside malloc: no allocation,
 * no lock, at most 2 KiB of stack, errno is kept.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "system/attributes.h"
#include "system/lock.h"
#include "system/os.h"

namespace memlimit::procfs {

/** What every function here returns when the kernel gives no usable answer. */
inline constexpr int64_t kUnknown = -1;

/** A process's own memory, from /proc/<pid>/statm. */
struct OwnMemory {
  /** Resident less shared: its anonymous memory. Kernels from 6.2 keep it in per-CPU counters which some of them sum only
   *  roughly. */
  int64_t resident_bytes = kUnknown;
  /** Mapped private and writable, resident or not: what it can touch without another call. */
  int64_t writable_bytes = kUnknown;
};

/** This process's. About 5 microseconds, most of them to open and close; see FootprintFile. */
OwnMemory own_memory() noexcept;

/** The resident part of own_memory(). */
int64_t footprint_bytes() noexcept;

/**
 * own_memory() by a descriptor that stays open, at a quarter of the cost.
 *
 * Programs close descriptors that they did not open, open others in their place, and fork. So before
 * each read the descriptor must prove to be the file that was opened, by this process; one that does
 * not is forgotten, and not closed unless it is the parent's. A thread that finds another one reading opens a file of its own.
 */
class FootprintFile {
 public:
  constexpr FootprintFile() noexcept = default;
  FootprintFile(const FootprintFile&) = delete;
  FootprintFile& operator=(const FootprintFile&) = delete;

  /** As own_memory(); opens the descriptor when there is none. Takes no lock that it would have
   *  to wait for. */
  OwnMemory read() noexcept;

  /** Gives the descriptor back (end of the process, limit turned off). */
  void close() noexcept;

  /** In the child of fork only. */
  void reset_after_fork() noexcept { lock_.reset_after_fork(); }

 private:
  void check() noexcept MEMLIMIT_REQUIRES(lock_);

  Lock lock_{LockRank::kFootprint};
  int fd_ MEMLIMIT_GUARDED_BY(lock_) = -1;
  int owner_ MEMLIMIT_GUARDED_BY(lock_) = 0; /* process id: an inherited one shows the parent */
  os::FileId id_ MEMLIMIT_GUARDED_BY(lock_);
};

/** RssAnon of /proc/self/status in bytes: the same figure, by a file that takes twice as long. */
int64_t rss_anon_bytes() noexcept;

/** The same as footprint_bytes() of another process. */
int64_t footprint_bytes_of(int pid) noexcept;

/** The process that started it, or whoever took its place; kUnknown also for a process that nobody of this pid namespace
 *  started. */
int64_t parent_of(int pid) noexcept;

/** Whether it has ended and nobody has waited for it: nothing of it is left but its number. False also where it is not to
 *  be seen. */
bool is_zombie(int pid) noexcept;

/** MemTotal of <root>/proc/meminfo in bytes; where that is missing, what sysinfo(2) says. */
int64_t physical_memory_bytes(const char* root = "") noexcept;

/** The process's name (its `comm`), cleaned for printing and NUL-terminated; "?" when unknown.
 *  Returns its length. `cap` must be at least 2. */
size_t process_name(char* out, size_t cap) noexcept;

/** Whether a thread of this process runs or waits for a processor, rather than for something else; from
 *  /proc/self/task/<tid>/stat, in about 5 microseconds. False when it cannot be told. */
bool thread_is_runnable(int tid) noexcept;

/** The same of that file's text: the field behind the name, which may have any character in it. */
bool parse_runnable(std::string_view stat) noexcept;

/** Whether such a text has the state Z. */
bool parse_zombie(std::string_view stat) noexcept;

/** Whether a thread of this process has one of these names, of which the kernel keeps 15 bytes; nullptr ends the list.
 *  Some 10 microseconds a thread. */
bool has_thread_named(const char* const* names) noexcept;

/** CPU time, in nanoseconds, that the threads of this process have used whose names begin so, those that have ended left out;
 *  nullptr ends the list. Some 10 microseconds a thread. */
int64_t cpu_ns_of_threads_named(const char* const* beginnings) noexcept;

/** How ids of users, or of groups, look from this process's user namespace. */
struct Ids {
  uint32_t overflow = 65534; /* what everybody is called who is not mapped into it */
  bool all_mapped = false;   /* nobody is not, as in the initial namespace */
};

/** From a uid_map and overflowuid, or those of groups; where they are missing, nothing is taken for granted. */
Ids read_ids(const char* map_path, const char* overflow_path) noexcept;
Ids user_ids() noexcept;
Ids group_ids() noexcept;

/** Whether the id that the kernel gives for somebody else stands for the very one that `own` is. */
constexpr bool is_same_id(uint32_t other, uint32_t own, const Ids& ids) noexcept {
  return other == own && (other != ids.overflow || ids.all_mapped);
}

/** Whether a uid_map or gid_map has every id in it, each under its own number. */
bool maps_all_ids(std::string_view text) noexcept;

/** The parent's id from /proc/<pid>/stat: two fields behind the name, which may have any character in it. */
int64_t parse_parent(std::string_view stat) noexcept;

/** The second field of statm less its third, and the sixth, times the page size. Both are unknown where the first three
 *  fields are not numbers. */
OwnMemory parse_statm(std::string_view text, int64_t page_bytes) noexcept;

/** Bytes from a line such as "RssAnon:     1234 kB", when it is `key`'s ("RssAnon:"). */
int64_t parse_kb_line(std::string_view line, std::string_view key) noexcept;

/** Copies up to the first newline, what does not print replaced by '?'; NUL-terminated; "?" when
 *  nothing is left. Returns the length. `cap` must be at least 2. */
size_t clean_name(std::string_view text, char* out, size_t cap) noexcept;

/** Takes a run of decimal digits off the front of *text; kUnknown (and *text as it was) when there
 * is none or it does not fit. */
int64_t take_integer(std::string_view* text) noexcept;

}  // namespace memlimit::procfs
