/* A directory that sockets of ours live in: made, locked, swept of what dead processes left.
 *
 * Answers for: nothing but a dead socket of ours, by name and by a try to connect, is ever removed. Refuses to judge
 * whether the directory is a trap: who names it does (socket_path.cc).
 * Threads: as socket_bind.h. Waits for a lock for 40 ms at most; errno is not kept; no allocation.
 */
#pragma once

#include <string_view>

#include <sys/types.h>

#include "observe/socket_bind.h"

namespace memlimit {

/** Keeps other processes of memlimit from binding or sweeping in a directory meanwhile: a socket
 * that is bound but does not listen yet looks dead. Best effort; somebody may hold the lock to
 * annoy us. */
class DirectoryLock {
 public:
  explicit DirectoryLock(int directory) noexcept;
  ~DirectoryLock();
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;
  bool held() const noexcept { return held_; }

 private:
  int directory_;
  bool held_ = false;
};

/** What sockets of ours are called in a directory: prefix, pid, and suffix, which begins with no digit. */
struct SocketNames {
  std::string_view prefix = "", suffix = ".sock";
  bool may_have_twins = true; /* "-<n>" between pid and suffix */
};

/** Removes what dead processes of ours left. Reads the directory without opendir(), which allocates. The caller
 *  holds its lock. */
void sweep_sockets(int directory, std::string_view path, const SocketNames& names) noexcept;

/** Binds <directory>/<pid>.sock, or with a number appended while that is taken by somebody else. */
int bind_in_directory(int directory, std::string_view path, unsigned mode,
                      BoundSocket* out) noexcept;

/** Descriptor, or -1 with errno. `no_follow`: O_NOFOLLOW or 0. */
int open_directory(const char* path, int no_follow) noexcept;

/** Opens a directory, first making it if it is not there. The mode is exact if we made it. */
int make_directory(const char* path, mode_t mode, int no_follow) noexcept;

}  // namespace memlimit
