/* Calls on a connected socket that never wait, never raise SIGPIPE, and are repeated when a signal interrupts them.
 *
 * Threads: the service thread. They return what the system call does; errno is not kept.
 */
#pragma once

#include <cstddef>

#include <sys/types.h>

#include "system/os.h"

namespace memlimit::socket_io {

ssize_t send_some(int fd, const char* text, size_t length) noexcept;
ssize_t receive_some(int fd, char* buffer, size_t cap) noexcept;

/** Whether a call failed with that errno only because it would have had to wait. */
bool would_block(int error) noexcept;

/** Whether the number still stands for that file: the program may have closed it, and opened one of its own. */
bool is_file(int fd, const os::FileId& id) noexcept;

/** Shuts the connection down by hand before closing: a child forked meanwhile may hold a copy of the descriptor,
 *  which would keep it alive. */
void hang_up(int fd) noexcept;

}  // namespace memlimit::socket_io
