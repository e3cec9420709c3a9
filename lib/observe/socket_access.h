/* Who may talk to the statistics socket: by the credentials that the kernel vouches for and MEMLIMIT_SOCKET_MODE.
 *
 * Answers for: root and the program's own user may read and change the limit; others read at most, and only where
 * the mode says so. Refuses to take for the program's user whoever only shares its overflow id.
 * Threads: the service thread.
 */
#pragma once

#include <cstdint>

#include "system/procfs.h"
#include "system/text.h"

namespace memlimit {

/** Who is at the other end, as the kernel vouches for it. */
struct Peer {
  int pid = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
};

/** False when the kernel does not tell. */
bool read_peer(int fd, Peer* out) noexcept;

class SocketAccess {
 public:
  /** When a socket has been bound: its mode, and whether its name is abstract. Reads how ids are mapped. */
  void set(unsigned mode, bool abstract) noexcept;

  /** Root and the program's own user. Who is not mapped into the program's user namespace is called by the overflow
   *  id there, which may be the program's own: then it cannot be told from such a stranger. */
  bool is_owner(const Peer& peer) const noexcept;

  /** The owner may always read; others if the mode says so. For a socket with a file the kernel has compared its
   *  mode with the client's groups; an abstract one has no file. */
  bool may_read(const Peer& peer) const noexcept;

  /** "uid 1000"; the overflow id alone would puzzle who reads that it is the program's as well. */
  void put_peer(TextWriter& out, const Peer& peer) const noexcept;

 private:
  procfs::Ids user_ids_{}, group_ids_{};
  unsigned mode_ = 0600;
  bool abstract_ = false;
};

}  // namespace memlimit
