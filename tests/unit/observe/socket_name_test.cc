/* MEMLIMIT_SOCKET as the path that it becomes, and what is said when it cannot become one. */
#include "observe/socket_name.h"

#include <string>

#include <sys/utsname.h>
#include <unistd.h>

#include <catch2/catch.hpp>

using memlimit::resolve_socket_setting;
using memlimit::SocketPath;
using memlimit::SocketPathWriter;
using memlimit::TextWriter;

namespace {

/** The path, or what is wrong. */
std::string resolved(std::string_view setting) {
  SocketPath path;
  char error[256];
  TextWriter text(error, sizeof error);
  return resolve_socket_setting(setting, &path, &text) ? path.text : error;
}

}  // namespace

TEST_CASE("socket_name: a setting is expanded", "[socket_name]") {
  utsname host{};
  uname(&host);
  const std::string pid = std::to_string(getpid());
  CHECK(resolved("/x/%p") == "/x/" + pid);
  CHECK(resolved("/%%/%h-%p") == "/%/" + std::string(host.nodename) + "-" + pid);
  char directory[4096];
  REQUIRE(getcwd(directory, sizeof directory) != nullptr);
  CHECK(resolved("x%p") == std::string(directory) + "/x" + pid);
}

TEST_CASE("socket_name: where the pid stands is known", "[socket_name]") {
  SocketPath path;
  char error[256];
  TextWriter text(error, sizeof error);
  REQUIRE(resolve_socket_setting("/a%p/b%p.s", &path, &text));
  const std::string pid = std::to_string(getpid());
  CHECK(path.pid_at == 4 + pid.size());
  CHECK(std::string(path.text).substr(path.pid_at, path.pid_end - path.pid_at) == pid);
  SocketPath without;
  REQUIRE(resolve_socket_setting("/a", &without, &text));
  CHECK(without.pid_end == 0);
}

TEST_CASE("socket_name: the faults of a setting are named", "[socket_name]") {
  for (const char* bad : {"/x/%q", "/x/%", "%%%"}) {
    CAPTURE(bad);
    CHECK(resolved(bad).find("means nothing; %p is the pid") != std::string::npos);
  }
  CHECK(resolved("/" + std::string(106, 'x')) == "/" + std::string(106, 'x'));
  CHECK(resolved("/" + std::string(107, 'x')) ==
        "the path has 108 bytes, and a socket's can have 107");
  CHECK(resolved(std::string_view("/x\0y", 4)) == "the name has a NUL byte in it");
}

TEST_CASE("socket_name: a path that does not fit is told by its length", "[socket_name]") {
  SocketPath path;
  SocketPathWriter writer(&path);
  writer.put("/").put(std::string(105, 'x')).put_number(7);
  CHECK(path.fits());
  writer.put_number(12);
  CHECK_FALSE(path.fits());
  CHECK(path.full_length == 109);
}
