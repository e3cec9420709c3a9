#include "observe/socket_name.h"

#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "system/os.h"

namespace memlimit {
namespace {

/** Replaces %p, %h and %%. Returns the sequence that has no meaning, or nothing. */
std::string_view expand(std::string_view setting, SocketPathWriter* out) noexcept {
  for (size_t i = 0; i < setting.size(); ++i) {
    if (setting[i] != '%') {
      out->put(setting.substr(i, 1));
      continue;
    }
    const std::string_view sequence = setting.substr(i++, 2);
    if (sequence == "%p") {
      out->put_pid();
    } else if (sequence == "%h") {
      out->put_host();
    } else if (sequence == "%%") {
      out->put("%");
    } else {
      return sequence;
    }
  }
  return {};
}

}  // namespace

SocketPathWriter& SocketPathWriter::put_number(int64_t number) noexcept {
  char digits[24];
  TextWriter text(digits, sizeof digits);
  text.put_int(number);
  return put(text.view());
}

SocketPathWriter& SocketPathWriter::put_pid() noexcept {
  path_->pid_at = path_->full_length;
  put_number(os::process_id());
  path_->pid_end = path_->full_length;
  return *this;
}

SocketPathWriter& SocketPathWriter::put_host() noexcept {
  path_->has_host = true;
  utsname host{};
  uname(&host);
  // The kernel takes any bytes as a host's name; here it must stay one component of a path.
  for (char* c = host.nodename; *c != '\0'; ++c) {
    if (*c == '/') *c = '_';
  }
  return put(host.nodename[0] == '\0' ? "localhost" : host.nodename);
}

bool resolve_socket_setting(std::string_view setting, SocketPath* path,
                            TextWriter* error) noexcept {
  SocketPathWriter out(path);
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
    error->put(" bytes, and a socket's can have ").put_uint(kMaxSocketPath);
    return false;
  }
  return true;
}

}  // namespace memlimit
