/* What the tiny programs in tests/preload/ share: a check that ends the program, a skip, and a way to hide
 * values from the optimiser.
 *
 * Each program is a claim by its name: exit 0 when it holds, 77 when this machine cannot tell, else 1 and a
 * line on standard error. Nothing here allocates (the programs count blocks), and C and C++ share it.
 * Threads: any.
 */
#pragma once

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "memlimit.h"

/** Exit statuses of a program that is a claim. */
enum { kFailedStatus = 1, kSkippedStatus = 77 };

/** Prints one line on standard error, without allocating, and ends the process with `status`. */
__attribute__((noreturn, format(printf, 2, 3))) static inline void finish_saying(int status,
                                                                                 const char* format,
                                                                                 ...) {
  char line[1024];
  va_list args;
  va_start(args, format);
  int length = vsnprintf(line, sizeof line - 1, format, args);
  va_end(args);
  if (length < 0) length = 0;
  if (length > (int)sizeof line - 2) length = (int)sizeof line - 2;
  line[length] = '\n';
  ssize_t written = write(STDERR_FILENO, line, (size_t)length + 1);
  (void)written;
  _exit(status);
}

/** Ends the program as failed when the condition does not hold. */
#define CHECK(condition)                                                                          \
  do {                                                                                            \
    if (!(condition))                                                                             \
      finish_saying(kFailedStatus, "%s:%d: false: %s (errno %d)", __FILE__, __LINE__, #condition, \
                    errno);                                                                       \
  } while (0)

/** Ends the program as failed when two integers differ, and shows both. */
#define CHECK_EQ(left, right)                                                                  \
  do {                                                                                         \
    long long left_value = (long long)(left), right_value = (long long)(right);                \
    if (left_value != right_value)                                                             \
      finish_saying(kFailedStatus, "%s:%d: %s is %lld, %s is %lld", __FILE__, __LINE__, #left, \
                    left_value, #right, right_value);                                          \
  } while (0)

/** Ends the program as skipped: this machine cannot tell. */
#define SKIP(reason) finish_saying(kSkippedStatus, "skipped: %s", reason)

/** First line of every claim about memlimit itself: without the library the claim fails, it is not skipped. */
static inline void need_library(void) {
  if (!memlimit_is_loaded()) finish_saying(kFailedStatus, "libmemlimit.so is not loaded");
}

/** Returns its argument, which the optimiser then knows nothing about. */
static inline void* opaque(void* pointer) {
  __asm__ volatile("" : "+r"(pointer) : : "memory");
  return pointer;
}

/** Returns its argument, which the optimiser (and its warnings about absurd sizes) know nothing about. */
static inline size_t opaque_size(size_t size) {
  __asm__ volatile("" : "+r"(size));
  return size;
}

/** The statistics now; ends the program when they cannot be had. */
static inline struct memlimit_stats stats_now(void) {
  struct memlimit_stats stats;
  memset(&stats, 0, sizeof stats);
  CHECK_EQ(memlimit_read_stats(&stats, sizeof stats), 0);
  return stats;
}

static inline int64_t settle_hook(const struct memlimit_request* request, void* argument) {
  (void)request;
  (void)argument;
  return 0;
}

/** Brings the service thread up, whose creation libc allocates for: from here on the program alone does.
 *  Does nothing without the library. */
static inline void settle(void) {
  if (!memlimit_is_loaded()) return;
  const struct memlimit_hook hook = {sizeof hook, "settle", MEMLIMIT_ASYNC, settle_hook, NULL};
  memlimit_hook_id id = 0;
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
  memlimit_reclaim(0); /* returns when the thread has answered */
  CHECK_EQ(memlimit_hook_remove(id), 0);
}

/** Opens what the kernel says of a thread of this process; negative when it says nothing. */
static inline int open_thread_stat(int thread_id) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread_id);
  return open(path, O_RDONLY | O_CLOEXEC);
}

/** State letter from there; 'S': the thread waits. 0 when that cannot be read. */
static inline char state_in_stat(int fd) {
  char text[256];
  const ssize_t length = pread(fd, text, sizeof text - 1, 0);
  if (length <= 0) return 0;
  text[length] = '\0';
  const char* end_of_name = strrchr(text, ')');
  return end_of_name != NULL && end_of_name[1] == ' ' ? end_of_name[2] : 0;
}

/** State letter of a thread of this process, or 0. */
static inline char thread_state(int thread_id) {
  const int fd = open_thread_stat(thread_id);
  if (fd < 0) return 0;
  const char state = state_in_stat(fd);
  close(fd);
  return state;
}

/** A small random number generator (xorshift64*): the same numbers on every machine. `state` is not 0. */
static inline uint64_t next_random(uint64_t* state) {
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return *state * 0x2545f4914f6cdd1dULL;
}
