/* One line to a descriptor that nobody vouches for: it may be closed, a pipe without a reader, a terminal
 * that is stopped, a full disk, a file at its size limit.
 *
 * Answers for: the host program neither dies (SIGPIPE, SIGXFSZ) nor stalls because memlimit had something
 * to say. Refuses to retry for long: what does not go out is reported and forgotten.
 * Threads: any. Context: anywhere but in signal handlers. Allocates: no. errno is kept.
 */
#pragma once

#include <cstddef>

namespace memlimit {

/**
 * Writes `length` bytes, waiting at most `wait_ms` for room each time there is none (at most a pipe's
 * atomic 4096 bytes may be given, so that room for a part means room for all).
 * Returns 0, or -errno: -EAGAIN when there was no room, -EPIPE, -ENOSPC, -EBADF, ... A part may be out.
 */
int safe_write(int fd, const char* text, size_t length, int wait_ms) noexcept;

}  // namespace memlimit
