/* Two facts about Linux carry this file. The mode of a socket's file is that of the unbound socket's inode less the
 * umask, so fchmod() before bind() leaves no moment in which the file is too open. And bind() creates the last
 * component exclusively: it never follows or replaces a link, a file or a socket there.
 */
#include "observe/socket_bind.h"

#include <cerrno>
#include <cstddef>
#include <cstring>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "observe/socket_name.h"
#include "system/file_descriptor.h"
#include "system/os.h"
#include "system/text.h"

namespace memlimit {
namespace {

constexpr int kBacklog = 4096; /* the kernel cuts it to somaxconn */

int new_socket() noexcept {
  return os::move_fd_high(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

sockaddr_un address_of(const char* path) noexcept {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path, strnlen(path, kMaxSocketPath));
  return address;
}

/** The umask may have taken bits away; it is the process's, so it is not ours to change. */
void restore_mode(const char* path, ino_t inode, mode_t mode) noexcept {
  const FileDescriptor fd(os::move_fd_high(open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC)));
  struct stat now {};
  if (fd.get() < 0 || fstat(fd.get(), &now) != 0 || now.st_ino != inode) return;
  // fchmod() refuses O_PATH descriptors; their name under /proc is the way around.
  char link[40];
  TextWriter(link, sizeof link).put("/proc/self/fd/").put_int(fd.get());
  chmod(link, mode);
}

/** Connecting needs the right to write. Who opened the mode for reading means the statistics, which
 * we tell apart from changing the limit by the client's credentials. */
mode_t file_mode(unsigned mode) noexcept {
  return static_cast<mode_t>((mode | ((mode & 0444U) >> 1)) & 0777U);
}

/** socket, bind, listen. Returns 0 or -errno. */
int bind_path(const char* path, unsigned mode, BoundSocket* out) noexcept {
  FileDescriptor fd(new_socket());
  if (fd.get() < 0) return -errno;
  fchmod(fd.get(), file_mode(mode));
  const sockaddr_un address = address_of(path);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return -errno;

  struct stat made {};
  if (lstat(path, &made) != 0) return -errno;
  if ((made.st_mode & 0777) != file_mode(mode)) restore_mode(path, made.st_ino, file_mode(mode));
  if (listen(fd.get(), kBacklog) != 0) {
    const int failed = errno;
    unlink_if_same(path, made.st_dev, made.st_ino);
    return -failed;
  }
  out->fd = fd.release();
  TextWriter(out->path, sizeof out->path).put(path);
  out->abstract = false;
  out->device = made.st_dev;
  out->inode = made.st_ino;
  return 0;
}

}  // namespace

Occupant probe_socket(const char* path, struct stat* found, int* peer_pid) noexcept {
  *peer_pid = 0;
  if (lstat(path, found) != 0) return errno == ENOENT ? Occupant::kNobody : Occupant::kOther;
  if (!S_ISSOCK(found->st_mode)) return Occupant::kOther;

  const FileDescriptor fd(new_socket());
  if (fd.get() < 0) return Occupant::kOther;
  const sockaddr_un address = address_of(path);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
    ucred peer{};
    socklen_t size = sizeof peer;
    if (getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0) *peer_pid = peer.pid;
    return Occupant::kLive;
  }
  if (errno == EAGAIN) return Occupant::kLive;  // its backlog is full, so somebody listens
  if (errno == ECONNREFUSED && found->st_uid == geteuid()) return Occupant::kDead;
  return Occupant::kOther;
}

bool unlink_if_same(const char* path, dev_t device, ino_t inode) noexcept {
  struct stat now {};
  if (lstat(path, &now) != 0 || !S_ISSOCK(now.st_mode)) return false;
  if (now.st_dev != device || now.st_ino != inode) return false;
  return unlink(path) == 0;
}

int bind_replacing_dead(const char* path, unsigned mode, BoundSocket* out, Occupant* occupant,
                        int* peer_pid) noexcept {
  *occupant = Occupant::kNobody;
  for (int attempt = 0; attempt < 3; ++attempt) {
    const int result = bind_path(path, mode, out);
    if (result != -EADDRINUSE) return result;
    struct stat found {};
    *occupant = probe_socket(path, &found, peer_pid);
    if (*occupant == Occupant::kLive || *occupant == Occupant::kOther) return -EADDRINUSE;
    if (*occupant == Occupant::kDead) unlink_if_same(path, found.st_dev, found.st_ino);
  }
  return -EADDRINUSE;
}

int bind_taking_over(const char* path, unsigned mode, int from_pid, BoundSocket* out) noexcept {
  struct stat found {};
  int peer_pid = 0;
  const Occupant occupant = probe_socket(path, &found, &peer_pid);
  // Another user's would be taken from somebody who did not start us with this setting.
  if (occupant != Occupant::kLive || peer_pid != from_pid || found.st_uid != geteuid()) {
    return -EADDRINUSE;
  }
  if (!unlink_if_same(path, found.st_dev, found.st_ino)) return -EADDRINUSE;
  return bind_path(path, mode, out);
}

int bind_abstract(BoundSocket* out) noexcept {
  int result = -EADDRINUSE;
  for (int twin = 1; twin <= kMaxTwins && result == -EADDRINUSE; ++twin) {
    FileDescriptor fd(new_socket());
    if (fd.get() < 0) return -errno;
    TextWriter name(out->path, sizeof out->path);
    name.put("@memlimit/").put_int(os::process_id());
    if (twin > 1) name.put('-').put_int(twin);
    sockaddr_un address = address_of(out->path);
    address.sun_path[0] = '\0';
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.length());
    result = 0;
    if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
        listen(fd.get(), kBacklog) != 0) {
      result = -errno;
      continue;
    }
    out->fd = fd.release();
    out->abstract = true;
    out->device = out->inode = 0;
  }
  return result;
}

void unlink_stats_socket(const BoundSocket& bound) noexcept {
  os::ErrnoGuard guard;
  if (bound.path[0] != '/' || bound.abstract) return;
  unlink_if_same(bound.path, bound.device, bound.inode);
}

}  // namespace memlimit
