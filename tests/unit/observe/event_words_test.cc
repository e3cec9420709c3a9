/* The sentences that an operator reads: each reason has its own, and the figures stand for what they are. */
#include "observe/event_words.h"

#include <cstring>
#include <string>

#include <catch2/catch.hpp>

using memlimit::Event;
using memlimit::EventKind;
using memlimit::EventNames;
using memlimit::kEventKindCount;
using memlimit::say_event;

namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kMs = 1'000'000;

std::string said(const Event& event, const EventNames& names = {}) {
  char text[512];
  const size_t length = say_event(event, names, text, sizeof text);
  CHECK(length == std::strlen(text));
  return text;
}

}  // namespace

TEST_CASE("event_words: a limit below what remains says where it would hold", "[event_words]") {
  CHECK(said({EventKind::kLimiterOn, 1, {610 * kMiB, 512 * kMiB, 0, 0}}) ==
        "the limit cannot be held: not enough can be given back. 610 MiB remain after reclaim, the "
        "limit is 512 MiB: it would hold from 610 MiB on");
}

TEST_CASE("event_words: what a container's processes hold is not called this one's",
          "[event_words]") {
  EventNames names;
  names.part_of_container = []() -> int64_t { return 31 * kMiB; };
  CHECK(said({EventKind::kLimiterOn, 1, {3379 * kMiB, 3277 * kMiB, 0, 0}}, names) ==
        "the limit cannot be held: not enough can be given back. The container's processes hold "
        "3.3 GiB after reclaim (this one 31 MiB), the limit is 3.2 GiB: it would hold from 3.3 GiB "
        "on");
  CHECK_THAT(
      said({EventKind::kLimiterOn, 1, {70 * kMiB, 64 * kMiB, 1020 * kMs, 1900 * kMs}}, names),
      Catch::Matchers::EndsWith(". After reclaim the container's processes held 70 MiB (this "
                                "one 31 MiB)"));
  names.part_of_container = []() -> int64_t { return -1; };
  CHECK_THAT(said({EventKind::kLimiterOn, 1, {610 * kMiB, 512 * kMiB, 0, 0}}, names),
             Catch::Matchers::Contains("610 MiB remain after reclaim"));
}

TEST_CASE("event_words: a limit that costs too much time says how much", "[event_words]") {
  // As it was seen: what remained is far below the limit, so that is not why.
  CHECK(said({EventKind::kLimiterOn, 1, {9 * kMiB, 64 * kMiB, 1020 * kMs, 1900 * kMs}}) ==
        "the limit cannot be held: reclaim and waiting for it took 1.02 s in 1.9 s of CPU time, of "
        "which they may have half. It pauses, and memory may grow past 64 MiB");
  CHECK(said({EventKind::kLimiterOn, 1, {70 * kMiB, 64 * kMiB, 1020 * kMs, 1900 * kMs}}) ==
        "the limit cannot be held: reclaim and waiting for it took 1.02 s in 1.9 s of CPU time, of "
        "which they may have half. It pauses, and memory may grow past 64 MiB. After reclaim there "
        "were 70 MiB");
}

TEST_CASE("event_words: who holds most is named, where a profile knows it", "[event_words]") {
  EventNames names;
  names.first_site = [](memlimit::TextWriter& out) -> int64_t {
    out.put("render /srv/service.py:17 < page /srv/service.py:22");
    return 128 * kMiB;
  };
  const Event let_go{EventKind::kLimiterOn, 1, {137 * kMiB, 96 * kMiB, 0, 0}};
  CHECK_THAT(said(let_go, names),
             Catch::Matchers::EndsWith(": it would hold from 137 MiB on. Largest site in the heap "
                                       "profile: 128 MiB at render /srv/service.py:17 < page "
                                       "/srv/service.py:22"));
  CHECK_THAT(said({EventKind::kRoomLow, 1, {kMiB, 96 * kMiB, 0, 0}}, names),
             Catch::Matchers::Contains("128 MiB at render"));
  names.first_site = [](memlimit::TextWriter&) -> int64_t { return 0; };
  CHECK(said(let_go, names) == said(let_go));
}

TEST_CASE("event_words: a runtime that is not asked is named beside the reason", "[event_words]") {
  EventNames names;
  names.left_out = [](char* out, size_t cap) -> size_t {
    const char* const text = "cpython (MEMLIMIT_ADAPTERS leaves it out)";
    return std::strlen(std::strncpy(out, text, cap));
  };
  CHECK(
      said({EventKind::kLimiterOn, 1, {610 * kMiB, 512 * kMiB, 0, 0}}, names)
          .ends_with("from 610 MiB on. Not asked to reclaim: cpython (MEMLIMIT_ADAPTERS leaves it "
                     "out)"));
}

TEST_CASE("event_words: every kind has its words in one place or in none", "[event_words]") {
  for (int kind = 0; kind < kEventKindCount; ++kind) {
    const Event event{static_cast<EventKind>(kind), 1, {}};
    INFO(event_name(event.kind));
    const bool elsewhere = event.kind == EventKind::kSocketFailed;
    CHECK(said(event).empty() == (elsewhere || !has_words(event.kind)));
    // Warnings and worse are for people.
    CHECK(has_words(event.kind) == (event_level(event.kind) <= memlimit::LogLevel::kWarn));
  }
}

TEST_CASE("event_words: nothing is cut in the middle of the buffer", "[event_words]") {
  for (size_t cap = 1; cap < 200; ++cap) {
    char text[256];
    std::memset(text, 'x', sizeof text);
    const size_t length =
        say_event({EventKind::kRoomLow, 1, {kMiB, 64 * kMiB, 0, 0}}, {}, text, cap);
    CHECK(length < cap);
    CHECK(text[length] == '\0');
    CHECK(text[cap] == 'x');
  }
}
