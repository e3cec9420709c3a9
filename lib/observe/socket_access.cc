#include "observe/socket_access.h"

#include <sys/socket.h>
#include <unistd.h>

namespace memlimit {

bool read_peer(int fd, Peer* out) noexcept {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  const bool known = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0;
  *out = {credentials.pid, credentials.uid, credentials.gid};
  return known;
}

void SocketAccess::set(unsigned mode, bool abstract) noexcept {
  user_ids_ = procfs::user_ids();
  group_ids_ = procfs::group_ids();
  mode_ = mode;
  abstract_ = abstract;
}

bool SocketAccess::is_owner(const Peer& peer) const noexcept {
  return peer.uid == 0 || procfs::is_same_id(peer.uid, geteuid(), user_ids_);
}

bool SocketAccess::may_read(const Peer& peer) const noexcept {
  if (is_owner(peer)) return true;
  if (!abstract_) return (mode_ & 0066) != 0;
  const bool in_group = procfs::is_same_id(peer.gid, getegid(), group_ids_);
  return (mode_ & 0006) != 0 || ((mode_ & 0060) != 0 && in_group);
}

void SocketAccess::put_peer(TextWriter& out, const Peer& peer) const noexcept {
  out.put("uid ").put_uint(peer.uid);
  if (peer.uid == user_ids_.overflow && !user_ids_.all_mapped) {
    out.put(" (as is anybody from outside of its user namespace)");
  }
}

}  // namespace memlimit
