/* Every raw system call memlimit makes outside the statistics socket: clocks, futexes, small files.
 * Answers for: exactly one kernel operation, with no allocation, no stdio, no locale, and errno left as it was (these run
 * inside malloc and free). Refuses to interpret what it reads. Of every function: pointers are not null, and what fails
 * says so by -errno, or by the value that its comment names.
 * Threads: every function may be called by any thread, in a signal handler and between fork and exec.
 */
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace memlimit::os {

/** Saves errno and puts it back: malloc's slow paths may not change it on success, free never. */
class ErrnoGuard {
 public:
  ErrnoGuard() noexcept;
  ~ErrnoGuard();
  ErrnoGuard(const ErrnoGuard&) = delete;
  ErrnoGuard& operator=(const ErrnoGuard&) = delete;

 private:
  int saved_;
};

/** CLOCK_MONOTONIC in nanoseconds. */
int64_t monotonic_ns() noexcept;

/** CPU time used by the whole process (user + system), nanoseconds. */
int64_t process_cpu_ns() noexcept;

/** CPU time used by the calling thread, nanoseconds. */
int64_t thread_cpu_ns() noexcept;

/** The same of another thread of this process; 0 when there is none. */
int64_t thread_cpu_ns(int tid) noexcept;

/** Kernel ids; getpid() and gettid() without glibc's caches. */
int process_id() noexcept;
int thread_id() noexcept;

/** Whether this process has a thread of that id, one that is just ending included. */
bool thread_exists(int tid) noexcept;

/** Threads of this process, those that are just ending included; -1 where /proc does not say. */
int thread_count() noexcept;

/** The calling thread's signal mask: bit n - 1 is signal n. */
uint64_t blocked_signals() noexcept;

/** Number of CPUs this process may run on, at least 1. */
int cpu_count() noexcept;

/** Lets other threads run: for waits of microseconds. */
void yield() noexcept;

/** Blocks while *word == expected, at most timeout_ns (negative: no bound). Spurious returns happen. */
void futex_wait(const std::atomic<uint32_t>& word, uint32_t expected, int64_t timeout_ns) noexcept;

/** Wakes up to `count` waiters of the word. */
void futex_wake(const std::atomic<uint32_t>& word, int count) noexcept;

/**
 * Reads a small file whole: at most cap - 1 bytes, always NUL-terminated.
 * Returns the bytes read, or -errno. A longer file is cut off.
 */
int64_t read_file(const char* path, char* buffer, size_t cap) noexcept;

/** Opens for reading without ever waiting (not for a FIFO's writer either). Descriptor, or -errno: -EAGAIN where
 *  low_numbers::may_take() says no, which goes for all that read a file here. */
int open_read(const char* path) noexcept;

/** Whether the number stands for an open file. */
bool is_open(int fd) noexcept;

/** One read(2), retried when a signal interrupts it. Bytes read (0: the end), or -errno. */
int64_t read_some(int fd, char* buffer, size_t cap) noexcept;

/** As read_some(), from the file's start and without moving the descriptor's position. */
int64_t read_start(int fd, char* buffer, size_t cap) noexcept;

/** Tells one open file from another. */
struct FileId {
  uint64_t device = 0, inode = 0;
  bool operator==(const FileId&) const = default;
};

/** Fills *out; false when the descriptor is not open. */
bool file_id(int fd, FileId* out) noexcept;

/** What an open file takes on its disk, or in memory; -1 when the descriptor is not of that file (any more). */
int64_t held_bytes(int fd, const FileId& expected) noexcept;

/** flock(2) of an open file for this process alone, without waiting: 0, or -errno (-EWOULDBLOCK: another has it). It lasts
 *  until the last copy of the descriptor is closed. */
int try_lock_file(int fd) noexcept;

/** Closes a descriptor. */
void close_file(int fd) noexcept;

/** True when the path names something, readable or not. */
bool file_exists(const char* path) noexcept;

/** Whether the path names a regular file that this user may read: 0, -errno, or kNoRegularFile. Opens nothing. */
inline constexpr int kNoRegularFile = 1;
int check_readable_file(const char* path) noexcept;

/** The id that mountinfo gives the mount which `path` is on; -1 where the kernel (before 5.8) or a
 *  sandbox does not say. */
int64_t mount_id(const char* path) noexcept;

/** Installed memory in bytes by sysinfo(2), for where /proc is absent; -1 when even that fails. */
int64_t installed_memory_bytes() noexcept;

/** Size of a page in bytes. */
int64_t page_bytes() noexcept;

/** Takes back the memory of the pages that lie wholly in the range: they are zero afterwards, and not resident. The rest
 *  of it stays. Where the kernel refuses, all of it. */
void drop_pages(void* address, size_t bytes, size_t page_bytes) noexcept;
inline void drop_pages(void* address, size_t bytes) noexcept {
  drop_pages(address, bytes, static_cast<size_t>(page_bytes()));
}

/** write(2) until done or failed; for the few lines that must not wait for the service thread. */
void write_all(int fd, const char* text, size_t length) noexcept;

/** Fresh zero pages, not counted as the program's; nullptr when there are none to be had. */
void* map_pages(size_t bytes) noexcept;
void unmap_pages(void* address, size_t bytes) noexcept;

/** Moves a descriptor out of the program's way (programs assume 0-2 and count upwards), close-on-exec.
 *  Returns the new descriptor, or `fd` itself when the table has no room. */
int move_fd_high(int fd) noexcept;

}  // namespace memlimit::os
