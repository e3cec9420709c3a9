/* Labels: a text has one, and all that find no room have another. */
#include "profile/labels.h"

#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

using memlimit::profile::Labels;

TEST_CASE("labels: a text has one, beyond all addresses", "[profile]") {
  Labels labels;
  CHECK(labels.find_or_add("early") == Labels::kFirst);
  REQUIRE(labels.open());
  const uintptr_t load = labels.find_or_add("load a.py:1");
  CHECK(Labels::is_label(load));
  CHECK(load != Labels::kFirst);
  CHECK(labels.find_or_add("load a.py:1") == load);
  CHECK(labels.find_or_add("load a.py:2") != load);
  CHECK(labels.text(load) == "load a.py:1");
  CHECK(labels.text(0x1000).empty());
  const std::string long_text(1000, 'x');
  CHECK(labels.text(labels.find_or_add(long_text)).size() == Labels::kMostTextBytes);
}

TEST_CASE("labels: threads agree, and a full table says so", "[profile][threads]") {
  Labels labels;
  REQUIRE(labels.open());
  constexpr int kThreads = 4, kTexts = 20'000;
  std::vector<std::vector<uintptr_t>> seen(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kTexts; ++i) {
        const std::string text =
            "function_with_quite_a_long_name_" + std::string(90, 'x') + std::to_string(i);
        const uintptr_t label = labels.find_or_add(text);
        if (label != Labels::kFirst && labels.text(label) != text) seen[t].push_back(0);
        seen[t].push_back(label);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  int without_room = 0;
  for (int i = 0; i < kTexts; ++i) {
    uintptr_t known = Labels::kFirst;
    for (const auto& of_thread : seen) {
      REQUIRE(of_thread.size() == kTexts);
      if (of_thread[i] == Labels::kFirst) {
        ++without_room;
        continue;
      }
      REQUIRE((known == Labels::kFirst || known == of_thread[i]));
      known = of_thread[i];
    }
  }
  CHECK(without_room > 0);
  CHECK(labels.text(Labels::kFirst) == "(function whose name had no room)");
}
