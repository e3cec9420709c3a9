#include "observe/socket_path.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "observe/socket_directory.h"
#include "observe/socket_name.h"
#include "system/file_descriptor.h"
#include "system/os.h"
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

void explain(const SocketPath& path, int result, Occupant occupant, int peer_pid,
             TextWriter* error) noexcept {
  error->put("MEMLIMIT_SOCKET: ").put_escaped(path.text, kMaxSocketPath);
  switch (-result) {
    case EADDRINUSE:
      if (occupant == Occupant::kLive) {
        error->put(" is in use");
        if (peer_pid > 0) error->put(" by process ").put_int(peer_pid);
        error->put("; put %p, the pid, in the name");
      } else {
        error->put(" exists and is not a dead socket of this user; it is left alone: remove it");
      }
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

int bind_named(const SocketPlace& place, BoundSocket* out, TextWriter* error) noexcept {
  SocketPath path;
  if (!resolve_socket_setting(place.setting, &path, error)) return -EINVAL;
  Occupant occupant = Occupant::kOther;
  int peer_pid = 0;
  int result = 0;
  size_t length = std::strlen(path.text);
  const bool wants_directory = path.text[length - 1] == '/';
  while (length > 1 && path.text[length - 1] == '/') path.text[--length] = '\0';
  struct stat entry {};
  if (wants_directory || (stat(path.text, &entry) == 0 && S_ISDIR(entry.st_mode))) {
    const mode_t mode = (place.mode & 077) != 0 ? 0755 : 0700;
    const FileDescriptor directory(make_directory(path.text, mode, 0));
    result = directory.get() < 0 ? -errno
                                 : bind_in_directory(directory.get(), path.text, place.mode, out);
  } else {
    // The lock of the parent, so that no other process looks at the path between bind and listen.
    char parent[kMaxSocketPath + 1];
    TextWriter text(parent, sizeof parent);
    const size_t slash = std::string_view(path.text).rfind('/');
    text.put(std::string_view(path.text, slash == 0 ? 1 : slash));
    const FileDescriptor directory(open_directory(parent, 0));
    const DirectoryLock lock(directory.get());
    // Where the name's only difference is the pid, earlier processes' are known by it. A digit beside it hides
    // where it begins or ends.
    if (lock.held() && path.pid_at > slash) {
      const std::string_view whole(path.text, length);
      const SocketNames names{whole.substr(slash + 1, path.pid_at - slash - 1),
                              whole.substr(path.pid_end), false};
      if (!ends_in_digit(names.prefix) && !begins_with_digit(names.suffix)) {
        sweep_sockets(directory.get(), parent, names);
      }
    }
    result = bind_replacing_dead(path.text, place.mode, out, &occupant, &peer_pid);
  }
  if (result != 0) explain(path, result, occupant, peer_pid, error);
  return result;
}

}  // namespace

int bind_stats_socket(const SocketPlace& place, BoundSocket* out, char* error,
                      size_t cap) noexcept {
  os::ErrnoGuard guard;
  TextWriter text(error, cap);
  *out = BoundSocket{};
  const int result =
      place.setting.empty() ? bind_default(place, out, &text) : bind_named(place, out, &text);
  if (result != 0) *out = BoundSocket{};
  return result;
}

}  // namespace memlimit
