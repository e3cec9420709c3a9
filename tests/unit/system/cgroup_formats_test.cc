/* The formats that memory groups are described in, line by line. */
#include "system/cgroup_formats.h"

#include <string>

#include <catch2/catch.hpp>

namespace cgroup = memlimit::cgroup;

TEST_CASE("cgroup_formats: a limit file's content", "[cgroup_formats]") {
  CHECK(cgroup::parse_limit("536870912\n") == 536870912);
  CHECK(cgroup::parse_limit("536870912") == 536870912);
  CHECK(cgroup::parse_limit("0\n") == 0);
  CHECK(cgroup::parse_limit("max\n") == cgroup::kNoLimit);
  CHECK(cgroup::parse_limit("-1\n") == cgroup::kNoLimit);
  CHECK(cgroup::parse_limit("9223372036854771712\n") == cgroup::kNoLimit);   // 4 KiB pages
  CHECK(cgroup::parse_limit("9223372036854710272\n") == cgroup::kNoLimit);   // 64 KiB pages
  CHECK(cgroup::parse_limit("9223372036854775807\n") == cgroup::kNoLimit);   // before 3.19
  CHECK(cgroup::parse_limit("18446744073709551615\n") == cgroup::kNoLimit);  // memsw on some
  for (const char* text :
       {"", "\n", "max ", "maximum\n", "512M\n", "0x200\n", " 512\n", "512\n\n", "-2\n", "5 12\n",
        "18446744073709551616\n", "99999999999999999999999999999\n"}) {
    CAPTURE(text);
    CHECK(cgroup::parse_limit(text) == cgroup::kMalformed);
  }
}

TEST_CASE("cgroup_formats: a line of /proc/self/cgroup", "[cgroup_formats]") {
  cgroup::Membership member;
  REQUIRE(cgroup::parse_membership("0::/user.slice", &member));
  CHECK(member.controllers.empty());
  CHECK(member.path == "/user.slice");
  REQUIRE(cgroup::parse_membership("4:cpu,memory:/a:b:c", &member));
  CHECK(member.controllers == "cpu,memory");
  CHECK(member.path == "/a:b:c");
  for (const char* line :
       {"", "0", "0:", "0::", "0::relative", ":memory:/x", "x:memory:/x", "4:memory"}) {
    CAPTURE(line);
    CHECK_FALSE(cgroup::parse_membership(line, &member));
  }
  CHECK_FALSE(cgroup::parse_membership(std::string_view("0::/a\0b", 7), &member));
  CHECK(cgroup::has_word("cpu,memory", "memory"));
  CHECK(cgroup::has_word("memory", "memory"));
  CHECK_FALSE(cgroup::has_word("name=memory", "memory"));
  CHECK_FALSE(cgroup::has_word("memory2,xmemory", "memory"));
  CHECK_FALSE(cgroup::has_word("", "memory"));
}

TEST_CASE("cgroup_formats: a line of mountinfo, with any number of optional fields",
          "[cgroup_formats]") {
  for (const char* optional : {"", "shared:44 ", "shared:44 master:3 propagate_from:2 "}) {
    const std::string line = "70 28 0:37 /outer /mnt/cg rw,relatime " + std::string(optional) +
                             "- cgroup cgroup rw,memory";
    cgroup::Mount mount;
    REQUIRE(cgroup::parse_mount(line, &mount));
    CHECK(mount.id == 70);
    CHECK(mount.root == "/outer");
    CHECK(mount.mount_point == "/mnt/cg");
    CHECK(mount.fs_type == "cgroup");
    CHECK(mount.super_options == "rw,memory");
  }
  cgroup::Mount mount;
  for (const char* line :
       {"", "-", "70", "70 28 0:37 /outer /mnt/cg rw,relatime", "70 28 0:37 / / rw -",
        "70 28 0:37 outer /mnt/cg rw - cgroup cgroup rw", "70 28 0:37 /o m rw - c c rw"}) {
    CAPTURE(line);
    CHECK_FALSE(cgroup::parse_mount(line, &mount));
  }
}

TEST_CASE("cgroup_formats: mountinfo's escapes are undone", "[cgroup_formats]") {
  const auto plain = [](std::string_view text) {
    char out[32];
    const int64_t length = cgroup::unescape(text, out, sizeof out);
    return length < 0 ? std::string("?") : std::string(out, static_cast<size_t>(length));
  };
  CHECK(plain("/my\\040groups") == "/my groups");
  CHECK(plain("/a\\134x2db") == "/a\\x2db");
  CHECK(plain("/a\\011\\012\\043") == "/a\t\n#");
  CHECK(plain("/a\\04") == "/a\\04");
  CHECK(plain("/a\\") == "/a\\");
  CHECK(plain("/a\\400") == "?");
  CHECK(plain("/a\\000b") == "?");
  CHECK(plain(std::string(33, 'x')) == "?");
  CHECK(plain(std::string(32, 'x')) == std::string(32, 'x'));
}

TEST_CASE("cgroup_formats: where a group lies below a mount", "[cgroup_formats]") {
  const auto below = [](std::string_view root, std::string_view path) {
    std::string_view rest = "-";
    return cgroup::path_below(root, path, &rest) ? std::string(rest) : std::string("?");
  };
  CHECK(below("/", "/") == "");
  CHECK(below("/", "/a/b") == "/a/b");
  CHECK(below("/a", "/a/b") == "/b");
  CHECK(below("/a/b", "/a/b") == "");
  CHECK(below("/a", "/ab") == "?");
  CHECK(below("/a/b", "/a") == "?");
  CHECK(below("/..", "/") == "?");
  CHECK(below("/..", "/../x") == "/x");
  CHECK(below("/..", "/../../x") == "?");
  CHECK(below("/", "/../x") == "?");
  CHECK(below("/", "/..x/y..") == "/..x/y..");
  CHECK(cgroup::root_above("/..", "/"));
  CHECK(cgroup::root_above("/../../..", "/a/b"));
  CHECK(cgroup::root_above("/../..", "/../x"));
  CHECK_FALSE(cgroup::root_above("/..", "/../x"));
  CHECK_FALSE(cgroup::root_above("/../y", "/a"));
  CHECK_FALSE(cgroup::root_above("/", "/a"));
}
