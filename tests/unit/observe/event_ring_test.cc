/* The event ring: order, bounds, many writers at once, and the lines that events become. */
#include "observe/event_ring.h"

#include <atomic>
#include <cerrno>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

using memlimit::Event;
using memlimit::EventKind;
using memlimit::EventRing;
using memlimit::format_event;
using memlimit::kEventKindCount;
using memlimit::LogLevel;

namespace {

Event numbered(int64_t number) { return {EventKind::kRound, number, {number, 0, 0, 0}}; }

std::string line(const Event& event, const memlimit::EventNames& names = {}) {
  char out[320];
  const size_t length = format_event(event, names, out, sizeof out);
  CHECK(length < sizeof out - 1);
  return {out, length};
}

}  // namespace

TEST_CASE("event_ring: events come out in the order they went in", "[event_ring]") {
  const auto ring = std::make_unique<EventRing>();
  Event event;
  CHECK_FALSE(ring->pop(&event));
  // Several times around, at every fill level.
  int64_t next_in = 0, next_out = 0;
  for (size_t fill = 1; fill <= EventRing::kCapacity; fill += 15) {
    for (size_t i = 0; i < fill; ++i) REQUIRE(ring->push(numbered(next_in++)));
    for (size_t i = 0; i < fill; ++i) {
      REQUIRE(ring->pop(&event));
      REQUIRE(event.args[0] == next_out++);
    }
    REQUIRE_FALSE(ring->pop(&event));
  }
  CHECK(ring->dropped() == 0);
}

TEST_CASE("event_ring: a full ring drops the new event, counts it, and recovers", "[event_ring]") {
  const auto ring = std::make_unique<EventRing>();
  for (size_t i = 0; i < EventRing::kCapacity; ++i) {
    REQUIRE(ring->push(numbered(static_cast<int64_t>(i))));
  }
  CHECK_FALSE(ring->push(numbered(-1)));
  CHECK_FALSE(ring->push(numbered(-2)));
  CHECK(ring->dropped() == 2);
  Event event;
  REQUIRE(ring->pop(&event));
  CHECK(event.args[0] == 0);
  CHECK(ring->push(numbered(1000)));
  CHECK_FALSE(ring->push(numbered(-3)));
  CHECK(ring->dropped() == 3);
  for (int64_t i = 1; i < static_cast<int64_t>(EventRing::kCapacity); ++i) {
    REQUIRE(ring->pop(&event));
    REQUIRE(event.args[0] == i);
  }
  REQUIRE(ring->pop(&event));
  CHECK(event.args[0] == 1000);
  // That there is a gap is told once, when the ring has been emptied.
  REQUIRE(ring->pop(&event));
  CHECK(event.kind == EventKind::kEventsLost);
  CHECK(event.args[0] == 3);
  CHECK(event.time_ns == -3);
  CHECK_FALSE(ring->pop(&event));
}

TEST_CASE("event_ring: the child of fork starts with an empty ring", "[event_ring][fork]") {
  // What the parent had pushed: nothing, some, one more than fits, and, popped meanwhile, some turns more.
  constexpr size_t kSome = 5;
  for (const size_t pushed :
       {size_t{0}, kSome, EventRing::kCapacity + 1, 3 * EventRing::kCapacity}) {
    CAPTURE(pushed);
    const auto ring = std::make_unique<EventRing>();
    Event event;
    for (size_t i = 0; i < pushed; ++i) {
      ring->push(numbered(1));
      if (pushed > EventRing::kCapacity + 1 && i % 2 == 0) ring->pop(&event);
    }
    ring->reset_after_fork();
    CHECK_FALSE(ring->pop(&event));
    CHECK(ring->dropped() == 0);
    for (size_t i = 0; i < EventRing::kCapacity; ++i) REQUIRE(ring->push(numbered(5)));
    CHECK_FALSE(ring->push(numbered(6)));
    for (size_t i = 0; i < EventRing::kCapacity; ++i) {
      REQUIRE(ring->pop(&event));
      REQUIRE(event.args[0] == 5);
    }
  }
}

TEST_CASE("event_ring: the first who looks in the child of a fork forgets the parent's events",
          "[event_ring][fork]") {
  Event event;
  memlimit::emit(EventKind::kRound, 1);
  memlimit::forget_events_after_fork();
  memlimit::emit(EventKind::kRound, 2);
  REQUIRE(memlimit::process_events().pop(&event));
  CHECK(event.args[0] == 2);
  CHECK_FALSE(memlimit::process_events().pop(&event));
  memlimit::emit(EventKind::kRound, 3);
  memlimit::forget_events_after_fork();
  CHECK_FALSE(memlimit::process_events().pop(&event));
}

TEST_CASE("event_ring: with many writers nothing is lost, doubled, torn or out of a writer's order",
          "[event_ring][threads]") {
  const auto ring = std::make_unique<EventRing>();
  constexpr int kWriters = 4, kReaders = 2;
  constexpr int64_t kEach = 20'000;
  std::atomic<int> writing{kWriters};
  std::atomic<int64_t> dropped{0};
  std::vector<std::thread> threads;
  for (int writer = 0; writer < kWriters; ++writer) {
    threads.emplace_back([&, writer] {
      for (int64_t i = 1; i <= kEach; ++i) {
        // Every field follows from (writer, i), so that a torn event shows.
        const Event event{EventKind::kRound, i * kWriters + writer, {writer, i, ~i, i * 3}};
        if (!ring->push(event)) dropped.fetch_add(1);
      }
      writing.fetch_sub(1);
    });
  }
  struct Seen {
    int64_t count = 0, torn = 0, disordered = 0, lost = 0;
  };
  Seen seen[kReaders];
  for (Seen& mine : seen) {
    threads.emplace_back([&] {
      int64_t last[kWriters] = {};
      for (;;) {
        // Read before pop: after the last writer, an empty ring stays empty.
        const bool last_look = writing.load() == 0;
        Event event;
        if (!ring->pop(&event)) {
          if (last_look) return;
          std::this_thread::yield();
          continue;
        }
        if (event.kind == EventKind::kEventsLost) {
          mine.lost += event.args[0];
          continue;
        }
        const int64_t writer = event.args[0], i = event.args[1];
        ++mine.count;
        if (event.time_ns != i * kWriters + writer || event.args[2] != ~i ||
            event.args[3] != i * 3) {
          ++mine.torn;
        }
        if (i <= last[writer]) ++mine.disordered;
        last[writer] = i;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  int64_t count = 0, lost = 0;
  for (const Seen& mine : seen) {
    count += mine.count;
    lost += mine.lost;
    CHECK(mine.torn == 0);
    CHECK(mine.disordered == 0);
  }
  CHECK(count + dropped.load() == kWriters * kEach);
  CHECK(ring->dropped() == static_cast<uint64_t>(dropped.load()));
  CHECK(lost == dropped.load());
  CHECK(count >= static_cast<int64_t>(EventRing::kCapacity));
}

TEST_CASE("event_ring: emit stamps the time and leaves errno alone", "[event_ring]") {
  Event event;
  while (memlimit::process_events().pop(&event)) {
  }
  errno = 77;
  CHECK(memlimit::emit(EventKind::kLimiterOn, 640, 512));
  CHECK(errno == 77);
  REQUIRE(memlimit::process_events().pop(&event));
  CHECK(event.kind == EventKind::kLimiterOn);
  CHECK(event.time_ns > 0);
  CHECK(event.args[0] == 640);
  CHECK(event.args[1] == 512);
}

TEST_CASE("event_ring: lines have stable keys", "[event_ring]") {
  CHECK(line({EventKind::kRound, 812'345, {7, 1 << 20, 0, 81'000}}) ==
        "event=round time_ns=812345 round=7 wanted=1048576 freed=0 duration_ns=81000");
  CHECK(line({EventKind::kLevel, 1, {0, 3, 600, 512}}) ==
        "event=level time_ns=1 from=low to=over usage=600 limit=512");
  CHECK(line({EventKind::kLevel, 1, {-1, 9, 600, 512}}) ==
        "event=level time_ns=1 from=-1 to=9 usage=600 limit=512");
  CHECK(line({EventKind::kLimit, 1, {0, 512, 2, 0}}) ==
        "event=limit time_ns=1 from=0 to=512 by=socket");
  CHECK(line({EventKind::kLimiterOn, 1, {610, 512, 0, 0}}) ==
        "event=limiter_on time_ns=1 needed=610 limit=512 reclaim_ns=0 cpu_ns=0");
  CHECK(line({EventKind::kSocketOpened, 1, {}}) == "event=socket_opened time_ns=1");
}

TEST_CASE("event_ring: a hook is named when its name is known, and cannot forge a line",
          "[event_ring]") {
  const Event event{EventKind::kHookOverran, 1, {3, 7, 9, 0}};
  CHECK(line(event) == "event=hook_overran time_ns=1 slot=3 round=7 ran_ns=9");
  CHECK(line(event, {[](int64_t) -> const char* { return nullptr; }}) ==
        "event=hook_overran time_ns=1 slot=3 round=7 ran_ns=9");
  CHECK(line(event, {[](int64_t slot) { return slot == 3 ? "my cache\nevent=x" : "?"; }}) ==
        "event=hook_overran time_ns=1 slot=3 hook=my\\040cache\\012event=x round=7 ran_ns=9");
}

TEST_CASE("event_ring: an adapter is its name, or a question mark", "[event_ring]") {
  const Event event{EventKind::kAdapterAttached, 1, {2, 0, 0, 0}};
  CHECK(line(event) == "event=adapter_attached time_ns=1 adapter=?");
  CHECK(line(event, {nullptr, [](int64_t) -> const char* { return nullptr; }}) ==
        "event=adapter_attached time_ns=1 adapter=?");
  CHECK(line(event, {nullptr, [](int64_t index) { return index == 2 ? "v8" : "other"; }}) ==
        "event=adapter_attached time_ns=1 adapter=v8");
}

TEST_CASE("event_ring: every kind has a name of its own, a sentence and a bounded line",
          "[event_ring]") {
  for (int i = 0; i < kEventKindCount; ++i) {
    const auto kind = static_cast<EventKind>(i);
    INFO(event_name(kind));
    CHECK(std::string(event_sentence(kind)).back() == '.');
    CHECK(event_level(kind) != LogLevel::kOff);
    for (int j = 0; j < i; ++j) {
      CHECK(std::string(event_name(kind)) != event_name(static_cast<EventKind>(j)));
    }
    constexpr int64_t kHuge = INT64_MIN;
    const std::string text = line({kind, kHuge, {kHuge, kHuge, kHuge, kHuge}}, {[](int64_t) {
                                    return "\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01"
                                           "\x01\x01\x01\x01\x01\x01\x01\x01"
                                           "\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01";
                                  }});
    CHECK(text.rfind(std::string("event=") + event_name(kind), 0) == 0);
  }
}
