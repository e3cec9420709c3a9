/* The site that holds most, in words: which one it is, and what a frame is called. */
#include "profile/first_site.h"

#include <cstdio>
#include <initializer_list>
#include <string>

#include <catch2/catch.hpp>

#include "support/temp_dir.h"

using memlimit::TextWriter;
using memlimit::profile::Labels;
using memlimit::profile::put_first_site;
using memlimit::profile::Sites;
using memlimit::test::TempDir;

namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

struct Profile {
  Sites sites;
  Labels labels;

  Profile() {
    REQUIRE(sites.open());
    REQUIRE(labels.open());
  }

  void add(std::initializer_list<uintptr_t> frames, uint64_t bytes) {
    const Sites::Number site = sites.find_or_add(frames.begin(), static_cast<int>(frames.size()));
    REQUIRE(site != Sites::kNoSite);
    sites.add(site, bytes, bytes);
  }

  std::string first(const std::string& maps = "/nonexistent", int64_t* bytes = nullptr) {
    char text[320];
    TextWriter out(text, sizeof text);
    const int64_t live = put_first_site(out, sites, labels, maps.c_str());
    if (bytes != nullptr) *bytes = live;
    return std::string(out.view());
  }
};

const char* const kMaps =
    "00400000-00500000 r--p 00000000 08:01 17         /srv/server\n"
    "00500000-00600000 r-xp 00100000 08:01 17         /srv/server\n"
    "00700000-00800000 r-xp 00000000 00:00 0\n"
    "7f0000000000-7f0000100000 r-xp 00026000 08:01 18 /usr/lib/libc.so.6\n"
    "7f0000200000-7f0000300000 r-xp 00000000 08:01 19 /usr/lib/libstdc++.so.6.0.30\n"
    "no line of maps\n";

}  // namespace

TEST_CASE("first_site: nothing is said where nothing is sampled", "[profile]") {
  Profile profile;
  int64_t bytes = 1;
  CHECK(profile.first("/nonexistent", &bytes).empty());
  CHECK(bytes == 0);
  Sites closed;
  char text[16];
  TextWriter out(text, sizeof text);
  CHECK(put_first_site(out, closed, profile.labels, "/proc/self/maps") == 0);
}

TEST_CASE("first_site: it is the one that holds most, by what is alive", "[profile]") {
  Profile profile;
  const Sites::Number freed = [&] {
    const uintptr_t frames[] = {0x111};
    return profile.sites.find_or_add(frames, 1);
  }();
  profile.sites.add(freed, 9 * kMiB, kMiB);
  profile.sites.remove(freed, 9 * kMiB, kMiB);
  profile.add({0x222}, 3 * kMiB);
  profile.add({0x333}, 2 * kMiB);
  int64_t bytes = 0;
  CHECK(profile.first("/nonexistent", &bytes) == "0x222");
  CHECK(bytes == static_cast<int64_t>(3 * kMiB));
}

TEST_CASE("first_site: what a script allocates is called by its functions", "[profile]") {
  Profile profile;
  const uintptr_t render = profile.labels.find_or_add("render /srv/service.py:17");
  const uintptr_t page = profile.labels.find_or_add("page /srv/service.py:22");
  const uintptr_t main = profile.labels.find_or_add("<module> /srv/service.py:40");
  profile.add({0x500010, render, page, main}, kMiB);
  CHECK(profile.first() == "render /srv/service.py:17 < page /srv/service.py:22");
}

TEST_CASE("first_site: a long path loses its beginning", "[profile]") {
  Profile profile;
  profile.add({profile.labels.find_or_add("f /" + std::string(150, 'd') + "/service.py:17")}, kMiB);
  const std::string text = profile.first();
  CHECK(text.size() <= 110);
  CHECK_THAT(text,
             Catch::Matchers::StartsWith("f ...") && Catch::Matchers::EndsWith("d/service.py:17"));
}

TEST_CASE("first_site: code is called by its image, the C library's callers first", "[profile]") {
  const TempDir directory;
  const std::string maps = directory / "maps";
  std::FILE* const file = std::fopen(maps.c_str(), "w");
  REQUIRE(file != nullptr);
  std::fputs(kMaps, file);
  std::fclose(file);

  Profile profile;
  profile.add({0x7f0000200010, 0x7f0000000010, 0x500020, 0x500030, 0x500040}, 2 * kMiB);
  CHECK(profile.first(maps) == "server+0x100020 < server+0x100030");

  Profile anonymous;
  anonymous.add({0x700010, 0x500020}, kMiB);
  CHECK(anonymous.first(maps) == "0x700010 < server+0x100020");

  Profile library;
  library.add({0x7f0000000010}, kMiB);
  CHECK(library.first(maps) == "libc.so.6+0x26010");
}
