/* Binding one name: a path that nobody lives at, or a name in the abstract space.
 *
 * Answers for: the file appears complete (listening, with its final mode), never in place of anything but a dead
 * socket of ours, and is removed only while it is the very one that was bound. Refuses to choose the name
 * (socket_path.h) and to follow a link in its last component.
 * Threads: the service thread; also the starting thread before there is one. errno is not kept; no allocation.
 */
#pragma once

#include <cstdint>

#include <sys/stat.h>

namespace memlimit {

/** A socket that was bound, and how to recognise it later. */
struct BoundSocket {
  int fd = -1;         /* listening, non-blocking, close-on-exec, moved high */
  char path[112] = {}; /* absolute; for an abstract name '@' stands for its leading NUL */
  bool abstract = false;
  uint64_t device = 0, inode = 0; /* of the path; 0 for an abstract name */
  int holder_pid = 0;             /* not bound: who listens at the path, if that can be told */
};

enum class Occupant : uint8_t { kNobody, kDead, kLive, kOther };

/** Who has this path: nothing, a socket of ours nobody listens to, a listener, or anything else.
 *  Whether it is dead is decided by connect() alone, so that pid namespaces do not matter. */
Occupant probe_socket(const char* path, struct stat* found, int* peer_pid) noexcept;

/** Removes a socket, unless the path changed hands since it was looked at. */
bool unlink_if_same(const char* path, dev_t device, ino_t inode) noexcept;

/** Binds the path, replacing a dead socket of ours. -EADDRINUSE: somebody lives there (*peer_pid)
 * or it is not a dead socket of ours (*peer_pid == 0). */
int bind_replacing_dead(const char* path, unsigned mode, BoundSocket* out, Occupant* occupant,
                        int* peer_pid) noexcept;

/** Binds the path in place of the live socket that this process listens at, which then has no name any more.
 *  -EADDRINUSE: somebody else has the path by now. */
int bind_taking_over(const char* path, unsigned mode, int from_pid, BoundSocket* out) noexcept;

/** How many live processes of one pid may have names beside each other: pid namespaces that share them. */
inline constexpr int kMaxTwins = 99;

/** The abstract name memlimit/<pid>: needs no file system, is gone with the process, and has no
 * mode, so that only the client's credentials protect it. */
int bind_abstract(BoundSocket* out) noexcept;

/** Removes the path if it still is the very socket that was bound; closes nothing. */
void unlink_stats_socket(const BoundSocket& bound) noexcept;

}  // namespace memlimit
