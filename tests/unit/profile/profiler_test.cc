/* Sites, live samples, and their text. */
#include "profile/profiler.h"

#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "profile/live_samples.h"
#include "profile/profile_text.h"
#include "profile/sites.h"

using namespace memlimit::profile;

TEST_CASE("profiler: a block stands for its bytes over its chance", "[profile]") {
  for (const uint64_t interval : {1024, 524'288, 1 << 30}) {
    for (const uint64_t bytes :
         {uint64_t{16}, uint64_t{100}, uint64_t{3072}, uint64_t{524'288}, uint64_t{100'000'000}}) {
      const auto size = static_cast<double>(bytes);
      const double expected = size / -std::expm1(-size / static_cast<double>(interval));
      INFO(bytes << " at " << interval);
      CHECK(static_cast<double>(bytes_for(bytes, interval)) ==
            Approx(expected).margin(0.51).epsilon(1e-9));
    }
  }
}

TEST_CASE("sites: a stack has one site, and what is added comes off again", "[profile]") {
  Sites sites;
  REQUIRE(sites.open());
  const uintptr_t first[] = {0x1000, 0x2000, 0x3000};
  const uintptr_t second[] = {0x1000, 0x2000};
  const Sites::Number a = sites.find_or_add(first, 3);
  const Sites::Number b = sites.find_or_add(second, 2);
  CHECK(a != Sites::kNoSite);
  CHECK(a != b);
  CHECK(sites.find_or_add(first, 3) == a);
  CHECK(sites.count() == 2);
  sites.add(a, 1600, 1000);  // 1.6 blocks
  sites.add(a, 1600, 1000);
  sites.remove(a, 1600, 1000);
  const SiteFigures figures = sites.figures(a);
  CHECK(figures.live_bytes == 1600);
  CHECK(figures.live_blocks == 2);
  CHECK(figures.total_bytes == 3200);
  CHECK(figures.total_blocks == 3);
  sites.remove(a, 1600, 1000);
  CHECK(sites.figures(a).live_bytes == 0);
  CHECK(sites.figures(a).live_blocks == 0);
  const uintptr_t* frames = nullptr;
  REQUIRE(sites.frames(b, &frames) == 2);
  CHECK(std::vector<uintptr_t>(frames, frames + 2) == std::vector<uintptr_t>(second, second + 2));
}

TEST_CASE("sites: threads that meet the same stacks agree on them, and a full table says so",
          "[profile][threads]") {
  Sites sites;
  REQUIRE(sites.open());
  constexpr int kThreads = 4, kStacks = 30'000;
  std::vector<std::vector<Sites::Number>> seen(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (uintptr_t i = 1; i <= kStacks; ++i) {
        uintptr_t frames[20];
        for (uintptr_t& frame : frames) frame = i * 4096;
        const Sites::Number site = sites.find_or_add(frames, 20);
        seen[t].push_back(site);
        sites.add(site, 64, 64);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  uint64_t blocks = 0, visited = 0;
  sites.for_each([&](Sites::Number site) {
    blocks += sites.figures(site).total_blocks;
    ++visited;
  });
  CHECK(blocks == uint64_t{kThreads} * kStacks);
  CHECK(visited == sites.count() + 1);
  CHECK(sites.count() < kStacks);  // there is no room for all
  CHECK(sites.figures(Sites::kNoSite).total_blocks > 0);
  for (int i = 0; i < kStacks; ++i) {
    Sites::Number known = Sites::kNoSite;
    for (const auto& numbers : seen) {
      if (numbers[i] == Sites::kNoSite) continue;
      REQUIRE((known == Sites::kNoSite || known == numbers[i]));
      known = numbers[i];
    }
  }
}

TEST_CASE("live samples: each is found once, from any thread", "[profile][threads]") {
  LiveSamples samples;
  constexpr int kThreads = 4;
  constexpr uintptr_t kEach = 20'000;
  const auto address = [](int thread, uintptr_t i) {
    return reinterpret_cast<void*>((uintptr_t(thread) << 40) + (i + 1) * 48);
  };
  std::atomic<int> failed{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (uintptr_t i = 0; i < kEach; ++i) {
        if (!samples.insert(address(t, i), {static_cast<uint32_t>(i), 48, i * 3})) ++failed;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  threads.clear();
  CHECK(samples.count() == int64_t{kThreads} * static_cast<int64_t>(kEach));
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const int other = (t + 1) % kThreads;
      for (uintptr_t i = 0; i < kEach; ++i) {
        LiveSample sample{};
        if (!samples.remove(address(other, i), &sample) || sample.site != i ||
            sample.bytes != i * 3 || samples.remove(address(other, i), &sample))
          ++failed;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(failed == 0);
  CHECK(samples.count() == 0);
}

TEST_CASE("live samples: when there is no room that is said, and what is there stays",
          "[profile]") {
  LiveSamples samples;
  uintptr_t inserted = 0;
  while (samples.insert(reinterpret_cast<void*>((inserted + 1) * 16), {1, 16, 16}) &&
         inserted < 2'000'000)
    ++inserted;
  CHECK(inserted > 400'000);
  CHECK(inserted < 2'000'000);
  LiveSample sample{};
  for (uintptr_t i = 0; i < inserted; ++i) {
    if (!samples.remove(reinterpret_cast<void*>((i + 1) * 16), &sample)) FAIL("lost " << i);
  }
  CHECK(samples.count() == 0);
}

TEST_CASE("profile text: largest first, the rest in one line, and the maps of code", "[profile]") {
  Sites sites;
  REQUIRE(sites.open());
  const uintptr_t small[] = {0xabc000, 0x1234};
  const uintptr_t large[] = {0xdef000};
  sites.add(sites.find_or_add(small, 2), 100, 50);
  sites.add(sites.find_or_add(large, 1), 5000, 1000);
  sites.add(Sites::kNoSite, 10, 10);
  Labels labels;
  char path[] = "/tmp/memlimit-maps-XXXXXX";
  const int fd = mkstemp(path);
  REQUIRE(fd >= 0);
  const std::string maps =
      "00400000-00401000 r--p 00000000 08:01 1 /bin/x\n00401000-00402000 r-xp 00001000 08:01 1 "
      "/bin/x\n";
  REQUIRE(write(fd, maps.data(), maps.size()) == static_cast<ssize_t>(maps.size()));
  close(fd);
  std::vector<char> buffer(64 << 10);
  const size_t length = render_profile(sites, labels, path, buffer.data(), buffer.size());
  CHECK(std::string(buffer.data(), length) ==
        "heap profile: 8: 5110 [8: 5110] @ heapprofile\n"
        "5: 5000 [5: 5000] @ 0xdef000\n"
        "2: 100 [2: 100] @ 0xabc000 0x1234\n"
        "1: 10 [1: 10] @ 0x2\n"
        "\nMAPPED_LIBRARIES:\n"
        "00401000-00402000 r-xp 00001000 08:01 1 /bin/x\n");

  for (uintptr_t i = 1; i <= 3000; ++i) {
    uintptr_t frames[10];
    for (uintptr_t& frame : frames) frame = i << 20;
    sites.add(sites.find_or_add(frames, 10), 1000 + i, 100);
  }
  const size_t cut = render_profile(sites, labels, path, buffer.data(), buffer.size());
  unlink(path);
  CHECK(cut < buffer.size());
  std::istringstream lines(std::string(buffer.data(), cut));
  std::string line;
  REQUIRE(std::getline(lines, line));
  uint64_t all = 0, sum = 0;
  REQUIRE(sscanf(line.c_str(), "heap profile: %*u: %lu", &all) == 1);
  bool rest = false, has_maps = false;
  for (uint64_t last = UINT64_MAX; std::getline(lines, line);) {
    uint64_t bytes = 0;
    if (sscanf(line.c_str(), "%*u: %lu [", &bytes) == 1) {
      sum += bytes;
      if (line.ends_with("@ 0x1")) {
        rest = true;
      } else {
        CHECK(bytes <= last);
        last = bytes;
      }
    }
    has_maps = has_maps || line.find("/bin/x") != std::string::npos;
  }
  CHECK(rest);
  CHECK(has_maps);
  CHECK(sum == all);
  CHECK(render_profile(Sites(), labels, "/nonexistent", buffer.data(), buffer.size()) > 0);
}
