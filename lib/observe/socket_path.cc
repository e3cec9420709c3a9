#include "observe/socket_path.h"

#include <cerrno>
#include <csignal>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "observe/socket_directory.h"
#include "observe/socket_kin.h"
#include "observe/socket_name.h"
#include "system/file_descriptor.h"
#include "system/os.h"
#include "system/procfs.h"
#include "system/text.h"

namespace memlimit {
namespace {

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
bool ends_in_digit(std::string_view text) noexcept {
  return !text.empty() && is_digit(text.back());
}
bool begins_with_digit(std::string_view text) noexcept {
  return !text.empty() && is_digit(text.front());
}

/** Also when nobody has waited for it. */
bool has_ended(int pid) noexcept {
  return (kill(pid, 0) != 0 && errno == ESRCH) || procfs::is_zombie(pid);
}

bool owned_by_us(const struct stat& entry) noexcept { return entry.st_uid == geteuid(); }

/** /run/memlimit: the system's, or a volume that containers share. Others may be able to write
 * there; all that gains them is to hide our socket, since nothing here follows a link. */
int bind_in_run_dir(const SocketPlace& place, BoundSocket* out) noexcept {
  SocketPath path;
  SocketPathWriter(&path).put(place.run_dir);
  if (!path.fits()) return -ENAMETOOLONG;
  const FileDescriptor directory(make_directory(path.text, 0755, O_NOFOLLOW));
  if (directory.get() < 0) return -ENOENT;
  struct stat entry {};
  if (fstat(directory.get(), &entry) != 0 || (entry.st_uid != 0 && !owned_by_us(entry))) {
    return -EPERM;
  }
  return bind_in_directory(directory.get(), path.text, place.mode, out);
}

/** $XDG_RUNTIME_DIR/memlimit, if the variable is this user's and not left over from before a sudo.
 */
int bind_in_xdg_dir(const SocketPlace& place, BoundSocket* out) noexcept {
  if (place.xdg_runtime_dir.empty() || place.xdg_runtime_dir.front() != '/') return -ENOENT;
  SocketPath parent;
  SocketPathWriter(&parent).put(place.xdg_runtime_dir);
  SocketPath path;
  SocketPathWriter(&path).put(place.xdg_runtime_dir).put("/memlimit");
  if (!path.fits()) return -ENAMETOOLONG;
  struct stat entry {};
  if (stat(parent.text, &entry) != 0) return -errno;
  if (!S_ISDIR(entry.st_mode) || !owned_by_us(entry) || (entry.st_mode & 022) != 0) return -EPERM;
  const FileDescriptor directory(make_directory(path.text, 0700, O_NOFOLLOW));
  if (directory.get() < 0) return -ENOENT;
  if (fstat(directory.get(), &entry) != 0 || !owned_by_us(entry) || (entry.st_mode & 022) != 0) {
    return -EPERM;
  }
  return bind_in_directory(directory.get(), path.text, place.mode, out);
}

/** /tmp/memlimit-<uid>, 0700. Anybody may have made that name before us, so everything is looked
 * at: no link, ours, nobody else's to enter, and in a /tmp where nobody can swap it (sticky, or
 * ours). */
int bind_in_tmp_dir(const SocketPlace& place, BoundSocket* out) noexcept {
  SocketPath parent;
  SocketPathWriter(&parent).put(place.tmp_dir);
  SocketPath path;
  SocketPathWriter(&path).put(place.tmp_dir).put("/memlimit-").put_number(geteuid());
  if (!path.fits()) return -ENAMETOOLONG;
  struct stat entry {};
  if (stat(parent.text, &entry) != 0) return -errno;
  if (entry.st_uid != 0 && !owned_by_us(entry)) return -EPERM;
  if ((entry.st_mode & 022) != 0 && (entry.st_mode & S_ISVTX) == 0) return -EPERM;
  const FileDescriptor directory(make_directory(path.text, 0700, O_NOFOLLOW));
  if (directory.get() < 0) return -ENOENT;
  if (fstat(directory.get(), &entry) != 0 || !owned_by_us(entry)) return -EPERM;
  if ((entry.st_mode & 07777) != 0700) return -EPERM;
  return bind_in_directory(directory.get(), path.text, place.mode, out);
}

int bind_default(const SocketPlace& place, BoundSocket* out, TextWriter* error) noexcept {
  if (bind_in_run_dir(place, out) == 0) return 0;
  if (bind_in_xdg_dir(place, out) == 0) return 0;
  if (bind_in_tmp_dir(place, out) == 0) return 0;
  const int result = bind_abstract(out);
  if (result != 0) {
    error->put("no place for the statistics socket: not ").put(place.run_dir);
    error->put(", $XDG_RUNTIME_DIR, ").put(place.tmp_dir).put(" nor an abstract name (error ");
    error->put_int(-result).put("); name one with MEMLIMIT_SOCKET");
  }
  return result;
}

/** What makes two processes' paths differ that the setting makes equal: where the pid is in it, they are of two containers. */
void put_way_out(const SocketPath& path, TextWriter* error) noexcept {
  if (path.pid_end == 0) {
    error->put("; put %p, the pid, in the name");
  } else if (!path.has_host) {
    error->put("; put %h, the host name, in it: the pid is the same in both containers");
  } else {
    error->put("; host name and pid are the same in both containers: give each a host name or a ");
    error->put("directory of its own");
  }
}

void explain(const SocketPath& path, int result, Occupant occupant, int peer_pid,
             TextWriter* error) noexcept {
  error->put("MEMLIMIT_SOCKET: ").put_escaped(path.text, kMaxSocketPath);
  switch (-result) {
    case EADDRINUSE:
      if (occupant == Occupant::kLive) {
        error->put(" is in use");
        if (peer_pid > 0) error->put(" by process ").put_int(peer_pid);
        put_way_out(path, error);
      } else {
        error->put(" exists and is not a dead socket of this user; it is left alone: remove it");
      }
      break;
    case EALREADY:
      error->put(" is in use by process ").put_int(peer_pid);
      put_way_out(path, &error->put(" of the same family"));
      break;
    case ENOENT:
    case ENOTDIR:
      error->put(": its directory does not exist; make it first");
      break;
    case EACCES:
    case EPERM:
      error->put(": this user (uid ").put_uint(geteuid()).put(") may not write in its directory");
      break;
    case EROFS:
      error->put(": its file system is read-only; name a directory on a volume");
      break;
    case ENAMETOOLONG:
      error->put(": too long with the pid appended; a socket's path can have ")
          .put_uint(kMaxSocketPath);
      error->put(" bytes");
      break;
    case EMFILE:
    case ENFILE:
      error->put(": no file descriptor is free");
      break;
    default:
      error->put(": cannot be made (error ").put_int(-result).put(')');
  }
}

/** A setting's path, without a slash at its end, and whether it names a directory. */
struct NamedPlace {
  SocketPath path;
  size_t length = 0;
  bool directory = false;        /* it ended in a slash, or is one */
  bool directory_exists = false; /* it is one */
};

bool find_named(const SocketPlace& place, NamedPlace* named, TextWriter* error) noexcept {
  if (!resolve_socket_setting(place.setting, &named->path, error)) return false;
  char* const text = named->path.text;
  size_t length = std::strlen(text);
  named->directory = text[length - 1] == '/';
  while (length > 1 && text[length - 1] == '/') text[--length] = '\0';
  named->length = length;
  struct stat entry {};
  named->directory_exists = stat(text, &entry) == 0 && S_ISDIR(entry.st_mode);
  named->directory = named->directory || named->directory_exists;
  return true;
}

/** The directory that a socket of this name is made in. */
void put_parent(const NamedPlace& named, TextWriter* out) noexcept {
  const std::string_view whole(named.path.text, named.length);
  const size_t slash = whole.rfind('/');
  out->put(whole.substr(0, slash == 0 ? 1 : slash));
}

int bind_over_kin(const SocketPlace& place, const SocketPath& path, int holder_pid,
                  BoundSocket* out) noexcept {
  const Kin kin = kin_of(holder_pid);
  if (kin == Kin::kStranger) return -EADDRINUSE;
  if (kin != Kin::kWrapper || place.forked) return -EALREADY;
  return bind_taking_over(path.text, place.mode, holder_pid, out);
}

int bind_named(const SocketPlace& place, BoundSocket* out, TextWriter* error) noexcept {
  NamedPlace named;
  if (!find_named(place, &named, error)) return -EINVAL;
  const SocketPath& path = named.path;
  Occupant occupant = Occupant::kOther;
  int peer_pid = 0;
  int result = 0;
  if (named.directory) {
    const mode_t mode = (place.mode & 077) != 0 ? 0755 : 0700;
    const FileDescriptor directory(make_directory(path.text, mode, 0));
    result = directory.get() < 0 ? -errno
                                 : bind_in_directory(directory.get(), path.text, place.mode, out);
  } else {
    // The lock of the parent, so that no other process looks at the path between bind and listen.
    char parent[kMaxSocketPath + 1];
    TextWriter text(parent, sizeof parent);
    put_parent(named, &text);
    const FileDescriptor directory(open_directory(parent, 0));
    const DirectoryLock lock(directory.get());
    // Where the name's only difference is the pid, earlier processes' are known by it. A digit beside it hides
    // where it begins or ends.
    const std::string_view whole(path.text, named.length);
    const size_t slash = whole.rfind('/');
    if (lock.held() && path.pid_at > slash) {
      const SocketNames names{whole.substr(slash + 1, path.pid_at - slash - 1),
                              whole.substr(path.pid_end), false};
      if (!ends_in_digit(names.prefix) && !begins_with_digit(names.suffix)) {
        sweep_sockets(directory.get(), parent, names);
      }
    }
    result = bind_replacing_dead(path.text, place.mode, out, &occupant, &peer_pid);
    if (result == -EADDRINUSE && occupant == Occupant::kLive && peer_pid > 0) {
      result = bind_over_kin(place, path, peer_pid, out);
    }
  }
  if (result != 0) {
    explain(path, result, occupant, peer_pid, error);
    *out = BoundSocket{};
    if (occupant == Occupant::kLive) out->holder_pid = peer_pid;
  }
  return result;
}

/** Whether files can be made in a directory; -errno when not. */
int may_make_in(const char* directory) noexcept {
  struct stat entry {};
  if (stat(directory, &entry) != 0) return -errno;
  if (!S_ISDIR(entry.st_mode)) return -ENOTDIR;
  return faccessat(AT_FDCWD, directory, W_OK | X_OK, AT_EACCESS) == 0 ? 0 : -errno;
}

int check_named(const SocketPlace& place, TextWriter* error) noexcept {
  NamedPlace named;
  if (!find_named(place, &named, error)) return -EINVAL;
  char parent[kMaxSocketPath + 1];
  TextWriter text(parent, sizeof parent);
  put_parent(named, &text);
  int result = may_make_in(named.directory_exists ? named.path.text : parent);
  Occupant occupant = Occupant::kNobody;
  int peer_pid = 0;
  if (result == 0 && !named.directory_exists) {
    struct stat found {};
    occupant = probe_socket(named.path.text, &found, &peer_pid);
    const Kin kin = occupant == Occupant::kLive && peer_pid > 0 ? kin_of(peer_pid) : Kin::kStranger;
    const bool of_kin = kin != Kin::kStranger && kin != Kin::kSibling;
    const bool free = occupant == Occupant::kNobody || occupant == Occupant::kDead;
    if (named.directory && !free) {
      result = -ENOTDIR;
    } else if (!free && !of_kin) {
      result = -EADDRINUSE;
    }
  }
  if (result != 0) explain(named.path, result, occupant, peer_pid, error);
  return result;
}

}  // namespace

int bind_stats_socket(const SocketPlace& place, BoundSocket* out, char* error,
                      size_t cap) noexcept {
  os::ErrnoGuard guard;
  TextWriter text(error, cap);
  *out = BoundSocket{};
  if (!place.setting.empty()) return bind_named(place, out, &text);
  const int result = bind_default(place, out, &text);
  if (result != 0) *out = BoundSocket{};
  return result;
}

int check_stats_socket(const SocketPlace& place, char* error, size_t cap) noexcept {
  os::ErrnoGuard guard;
  TextWriter text(error, cap);
  return place.setting.empty() ? 0 : check_named(place, &text);
}

bool named_place_is_free(const SocketPlace& place, int holder_pid) noexcept {
  os::ErrnoGuard guard;
  TextWriter unsaid(nullptr, 0);
  NamedPlace named;
  if (place.setting.empty() || !find_named(place, &named, &unsaid) || named.directory) return false;
  struct stat entry {};
  if (lstat(named.path.text, &entry) != 0) return errno == ENOENT;
  return holder_pid > 0 && has_ended(holder_pid);
}

}  // namespace memlimit
