/* Choosing, preparing, sweeping and binding the statistics socket's place; see socket_path.h.
 *
 * Two facts about Linux carry this file. The mode of a socket's file is that of the unbound
 * socket's inode less the umask, so fchmod() before bind() leaves no moment in which the file is
 * too open. And bind() creates the last component exclusively: it never follows or replaces a link,
 * a file or a socket there.
 */
#include "observe/socket_path.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <ctime>

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "system/os.h"
#include "system/text.h"

namespace memlimit {
namespace {

constexpr size_t kMaxPath = sizeof(sockaddr_un::sun_path) - 1; /* 107 bytes and a NUL */
constexpr int kBacklog = 4096;                                 /* the kernel cuts it to somaxconn */
constexpr int kMaxTwins = 99; /* live processes of one pid in one directory */
constexpr int kMaxSweepProbes = 256;

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) noexcept : fd_(fd) {}
  ~FileDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  int get() const noexcept { return fd_; }
  int release() noexcept {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }

 private:
  int fd_;
};

/** An absolute path short enough for a socket, or a note that it was too long. */
struct Path {
  char text[kMaxPath + 1] = {};
  size_t full_length = 0;
  size_t pid_at = 0, pid_end = 0; /* where the setting's last %p stands; 0 and 0 without one */
  bool fits() const noexcept { return full_length <= kMaxPath; }
};

/** Collects a path that may turn out too long, and how long it would have been. */
class PathWriter {
 public:
  explicit PathWriter(Path* path) noexcept : path_(path), out_(path->text, sizeof path->text) {}
  PathWriter& put(std::string_view text) noexcept {
    out_.put(text);
    path_->full_length += text.size();
    return *this;
  }
  PathWriter& put_number(int64_t number) noexcept {
    char digits[24];
    TextWriter text(digits, sizeof digits);
    text.put_int(number);
    return put(text.view());
  }
  void put_pid() noexcept {
    path_->pid_at = path_->full_length;
    put_number(os::process_id());
    path_->pid_end = path_->full_length;
  }

 private:
  Path* path_;
  TextWriter out_;
};

/** Replaces %p, %h and %%. Returns the sequence that has no meaning, or nothing. */
std::string_view expand(std::string_view setting, PathWriter* out) noexcept {
  for (size_t i = 0; i < setting.size(); ++i) {
    if (setting[i] != '%') {
      out->put(setting.substr(i, 1));
      continue;
    }
    const std::string_view sequence = setting.substr(i++, 2);
    if (sequence == "%p") {
      out->put_pid();
    } else if (sequence == "%h") {
      utsname host{};
      uname(&host);
      // The kernel takes any bytes as a host's name; here it must stay one component of a path.
      for (char* c = host.nodename; *c != '\0'; ++c) {
        if (*c == '/') *c = '_';
      }
      out->put(host.nodename[0] == '\0' ? "localhost" : host.nodename);
    } else if (sequence == "%%") {
      out->put("%");
    } else {
      return sequence;
    }
  }
  return {};
}

/** Expands the setting and makes it absolute, so that a later chdir does not matter. */
bool resolve(std::string_view setting, Path* path, TextWriter* error) noexcept {
  PathWriter out(path);
  if (setting.find('\0') != std::string_view::npos) {
    error->put("the name has a NUL byte in it");
    return false;
  }
  if (setting.front() != '/') {
    char directory[4096];
    if (syscall(SYS_getcwd, directory, sizeof directory) < 0 || directory[0] != '/') {
      error->put("the working directory has no name; give an absolute path");
      return false;
    }
    out.put(directory).put("/");
  }
  const std::string_view bad = expand(setting, &out);
  if (!bad.empty()) {
    error->put('"').put_escaped(bad).put(
        "\" means nothing; %p is the pid, %h the host's name, %% a %");
    return false;
  }
  if (!path->fits()) {
    error->put("the path has ").put_uint(path->full_length);
    error->put(" bytes, and a socket's can have ").put_uint(kMaxPath);
    return false;
  }
  return true;
}

sockaddr_un address_of(const char* path) noexcept {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path, strnlen(path, kMaxPath));
  return address;
}

enum class Occupant : uint8_t { kNobody, kDead, kLive, kOther };

/** Who has this path: nothing, a socket of ours nobody listens to, a listener, or anything else.
 *  Whether it is dead is decided by connect() alone, so that pid namespaces do not matter. */
Occupant probe(const char* path, struct stat* found, int* peer_pid) noexcept {
  *peer_pid = 0;
  if (lstat(path, found) != 0) return errno == ENOENT ? Occupant::kNobody : Occupant::kOther;
  if (!S_ISSOCK(found->st_mode)) return Occupant::kOther;

  const FileDescriptor fd(
      os::move_fd_high(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)));
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

/** Removes a dead socket, unless the path changed hands since it was looked at. */
bool unlink_if_same(const char* path, dev_t device, ino_t inode) noexcept {
  struct stat now {};
  if (lstat(path, &now) != 0 || !S_ISSOCK(now.st_mode)) return false;
  if (now.st_dev != device || now.st_ino != inode) return false;
  return unlink(path) == 0;
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
  FileDescriptor fd(
      os::move_fd_high(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)));
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

/** Binds the path, replacing a dead socket of ours. -EADDRINUSE: somebody lives there (*peer_pid)
 * or it is not a dead socket of ours (*peer_pid == 0). */
int bind_replacing_dead(const char* path, unsigned mode, BoundSocket* out, Occupant* occupant,
                        int* peer_pid) noexcept {
  *occupant = Occupant::kNobody;
  for (int attempt = 0; attempt < 3; ++attempt) {
    const int result = bind_path(path, mode, out);
    if (result != -EADDRINUSE) return result;
    struct stat found {};
    *occupant = probe(path, &found, peer_pid);
    if (*occupant == Occupant::kLive || *occupant == Occupant::kOther) return -EADDRINUSE;
    if (*occupant == Occupant::kDead) unlink_if_same(path, found.st_dev, found.st_ino);
  }
  return -EADDRINUSE;
}

/** Keeps other processes of memlimit from binding or sweeping in a directory meanwhile: a socket
 * that is bound but does not listen yet looks dead. Best effort; somebody may hold the lock to
 * annoy us. */
class DirectoryLock {
 public:
  explicit DirectoryLock(int directory) noexcept : directory_(directory) {
    for (int attempt = 0; attempt < kAttempts && !held_; ++attempt) {
      if (attempt > 0) nanosleep(&kPause, nullptr);
      held_ = flock(directory, LOCK_EX | LOCK_NB) == 0;
      if (!held_ && errno != EWOULDBLOCK && errno != EINTR) return;
    }
  }
  // Unlocked by hand: a child forked meanwhile has the descriptor too, and would hold the lock on.
  ~DirectoryLock() {
    if (held_) flock(directory_, LOCK_UN);
  }
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;
  bool held() const noexcept { return held_; }

 private:
  static constexpr int kAttempts = 20;
  static constexpr timespec kPause{0, 2'000'000};
  int directory_;
  bool held_ = false;
};

/** What sockets of ours are called in a directory: prefix, pid, and suffix, which begins with no digit. */
struct Names {
  std::string_view prefix = "", suffix = ".sock";
  bool may_have_twins = true; /* "-<n>" between pid and suffix */
};

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
bool ends_in_digit(std::string_view text) noexcept {
  return !text.empty() && is_digit(text.back());
}
bool begins_with_digit(std::string_view text) noexcept {
  return !text.empty() && is_digit(text.front());
}

/** The pid in a name of ours; 0 for any other name. */
int pid_of_name(const Names& names, std::string_view name) noexcept {
  const auto digits = [&name] {
    const size_t count = std::min(name.find_first_not_of("0123456789"), name.size());
    const std::string_view found = name.substr(0, count);
    name.remove_prefix(count);
    return found;
  };
  if (name.substr(0, names.prefix.size()) != names.prefix) return 0;
  name.remove_prefix(names.prefix.size());
  int64_t pid = 0;
  const std::string_view pid_digits = digits();
  for (const char digit : pid_digits) {
    if (pid <= INT32_MAX) pid = pid * 10 + (digit - '0');
  }
  if (pid_digits.empty() || pid_digits.front() == '0' || pid > INT32_MAX) return 0;
  if (names.may_have_twins && !name.empty() && name.front() == '-') {
    name.remove_prefix(1);
    if (digits().empty()) return 0;
  }
  return name == names.suffix ? static_cast<int>(pid) : 0;
}

void sweep_entry(std::string_view directory, const Names& names, const char* name,
                 int* probes) noexcept {
  const int pid = pid_of_name(names, name);
  if (pid == 0 || pid == os::process_id()) return;
  if (kill(pid, 0) == 0 || errno != ESRCH) return;
  Path path;
  PathWriter(&path).put(directory).put("/").put(name);
  if (!path.fits() || ++*probes > kMaxSweepProbes) return;
  struct stat found {};
  int peer_pid = 0;
  if (probe(path.text, &found, &peer_pid) != Occupant::kDead) return;
  unlink_if_same(path.text, found.st_dev, found.st_ino);
}

/** Removes what dead processes of ours left. Reads the directory without opendir(), which
 * allocates. */
void sweep(int directory, std::string_view path, const Names& names) noexcept {
  struct Entry { /* linux_dirent64 */
    uint64_t inode;
    int64_t offset;
    unsigned short length;
    unsigned char type;
    char name[1];
  };
  alignas(Entry) char buffer[4096];
  int probes = 0;
  for (int reads = 0; reads < 1024 && probes <= kMaxSweepProbes; ++reads) {
    const long got = syscall(SYS_getdents64, directory, buffer, sizeof buffer);
    if (got <= 0) return;
    for (long at = 0; at < got;) {
      const auto* entry = reinterpret_cast<const Entry*>(buffer + at);
      sweep_entry(path, names, entry->name, &probes);
      at += entry->length;
    }
  }
}

/** Binds <directory>/<pid>.sock, or with a number appended while that is taken by somebody else. */
int bind_in_directory(int directory, std::string_view path, unsigned mode,
                      BoundSocket* out) noexcept {
  const DirectoryLock lock(directory);
  if (lock.held()) sweep(directory, path, Names{});  // else somebody is at it already
  int result = -EADDRINUSE;
  for (int twin = 1; twin <= kMaxTwins && result == -EADDRINUSE; ++twin) {
    Path file;
    PathWriter writer(&file);
    writer.put(path).put("/").put_number(os::process_id());
    if (twin > 1) writer.put("-").put_number(twin);
    writer.put(".sock");
    if (!file.fits()) return -ENAMETOOLONG;
    Occupant occupant;
    int peer_pid = 0;
    result = bind_replacing_dead(file.text, mode, out, &occupant, &peer_pid);
  }
  return result;
}

int open_directory(const char* path, int no_follow) noexcept {
  return os::move_fd_high(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | no_follow));
}

/** Opens a directory, first making it if it is not there. The mode is exact if we made it. */
int make_directory(const char* path, mode_t mode, int no_follow) noexcept {
  const bool made = mkdir(path, mode) == 0;
  const int fd = open_directory(path, no_follow);
  if (made && fd >= 0) fchmod(fd, mode);
  return fd;
}

bool owned_by_us(const struct stat& entry) noexcept { return entry.st_uid == geteuid(); }

/** /run/memlimit: the system's, or a volume that containers share. Others may be able to write
 * there; all that gains them is to hide our socket, since nothing here follows a link. */
int bind_in_run_dir(const SocketPlace& place, BoundSocket* out) noexcept {
  Path path;
  PathWriter(&path).put(place.run_dir);
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
  Path parent;
  PathWriter(&parent).put(place.xdg_runtime_dir);
  Path path;
  PathWriter(&path).put(place.xdg_runtime_dir).put("/memlimit");
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
  Path parent;
  PathWriter(&parent).put(place.tmp_dir);
  Path path;
  PathWriter(&path).put(place.tmp_dir).put("/memlimit-").put_number(geteuid());
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

/** The abstract name memlimit/<pid>: needs no file system, is gone with the process, and has no
 * mode, so that only the client's credentials protect it. */
int bind_abstract(BoundSocket* out) noexcept {
  int result = -EADDRINUSE;
  for (int twin = 1; twin <= kMaxTwins && result == -EADDRINUSE; ++twin) {
    FileDescriptor fd(
        os::move_fd_high(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)));
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

void explain(const Path& path, int result, Occupant occupant, int peer_pid,
             TextWriter* error) noexcept {
  error->put("MEMLIMIT_SOCKET: ").put_escaped(path.text, kMaxPath);
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
      error->put(": too long with the pid appended; a socket's path can have ").put_uint(kMaxPath);
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
  Path path;
  if (!resolve(place.setting, &path, error)) return -EINVAL;
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
    char parent[kMaxPath + 1];
    TextWriter text(parent, sizeof parent);
    const size_t slash = std::string_view(path.text).rfind('/');
    text.put(std::string_view(path.text, slash == 0 ? 1 : slash));
    const FileDescriptor directory(open_directory(parent, 0));
    const DirectoryLock lock(directory.get());
    // Where the name's only difference is the pid, earlier processes' are known by it. A digit beside it hides
    // where it begins or ends.
    if (lock.held() && path.pid_at > slash) {
      const std::string_view whole(path.text, length);
      const Names names{whole.substr(slash + 1, path.pid_at - slash - 1),
                        whole.substr(path.pid_end), false};
      if (!ends_in_digit(names.prefix) && !begins_with_digit(names.suffix)) {
        sweep(directory.get(), parent, names);
      }
    }
    result = bind_replacing_dead(path.text, place.mode, out, &occupant, &peer_pid);
  }
  if (result != 0) explain(path, result, occupant, peer_pid, error);
  return result;
}

}  // namespace

bool check_socket_setting(std::string_view setting, char* error, size_t cap) noexcept {
  os::ErrnoGuard guard;
  TextWriter text(error, cap);
  if (setting.empty()) return true;
  Path path;
  return resolve(setting, &path, &text);
}

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

void unlink_stats_socket(const BoundSocket& bound) noexcept {
  os::ErrnoGuard guard;
  if (bound.path[0] != '/' || bound.abstract) return;
  unlink_if_same(bound.path, bound.device, bound.inode);
}

}  // namespace memlimit
