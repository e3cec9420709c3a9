/* The engine with a pretended allocator: rounds come when the pacer says, hooks see the right numbers,
 * and the limit can be changed, let go and asked for by hand. INLINE hooks, so that nothing runs on
 * another thread. */
#include "engine/look.h"
#include "engine/allocator.h"
#include "engine/configure.h"
#include "engine/decision.h"
#include "engine/explicit_reclaim.h"
#include "engine/figures.h"
#include "engine/footprint.h"
#include "engine/limit.h"
#include "engine/poll_pass.h"
#include "engine/poller.h"
#include "engine/pressure.h"
#include "engine/round.h"
#include "engine/service_rounds.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include <poll.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "engine/account.h"
#include "engine/hooks.h"
#include "engine/paced.h"
#include "engine/thread_state.h"
#include "observe/event_ring.h"
#include "pacing/hopeless.h"
#include "pacing/overhead.h"
#include "pacing/pacer.h"
#include "support/pretended_allocator.h"
#include "support/recorded_tree.h"
#include "system/os.h"

namespace account = memlimit::account;
namespace hooks = memlimit::hooks;
namespace explicit_reclaim = memlimit::explicit_reclaim;
namespace limit = memlimit::limit;
namespace look = memlimit::look;
namespace poll_pass = memlimit::poll_pass;
namespace poller = memlimit::poller;
namespace pressure = memlimit::pressure;
namespace service_rounds = memlimit::service_rounds;
namespace pretended = memlimit::test::pretended;
using memlimit::Level;
using memlimit::LimitSource;
using pretended::allocate;
using pretended::release;

namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

/* How many events of a kind came since the last call, whichever it asked for. */
int count_events(memlimit::EventKind kind) {
  int count = 0;
  memlimit::Event event;
  while (memlimit::process_events().pop(&event)) count += event.kind == kind ? 1 : 0;
  return count;
}

memlimit_stats figures() {
  memlimit_stats out{};
  memlimit::figures::fill(&out);
  return out;
}

/* A cache that gives what it is asked for, as long as it has it. */
struct Cache {
  int64_t held = 0;
  std::vector<memlimit_request> requests;
  memlimit_hook_id id = 0;

  static int64_t evict(const memlimit_request* request, void* arg) {
    auto* const cache = static_cast<Cache*>(arg);
    cache->requests.push_back(*request);
    const int64_t freed = std::min(cache->held, request->wanted_bytes);
    cache->held -= freed;
    release(freed);
    return freed;
  }
};

/* An engine with a limit for one test, and everything back as it was after it. */
class Engine {
 public:
  explicit Engine(int64_t limit_bytes) : before_(account::totals().usage_bytes()) {
    memlimit::Config config;
    // The test process is not small itself: its footprint must not press.
    config.account = memlimit::AccountMode::kHeap;
    config.assist_ns = 0;
    memlimit::engine::configure(config, pretended::kOps);
    // What other tests' figures have taught it is none of this one's.
    memlimit::decision::kForkPart.reset();
    memlimit::paced::set_overhead(0);
    memlimit::paced::set_footprint_over(false);
    const memlimit_hook hook{sizeof hook, "cache", MEMLIMIT_INLINE, Cache::evict, &cache};
    REQUIRE(hooks::add(hook, &cache.id) == 0);
    limit::set(limit_bytes, LimitSource::kApi, "test");
  }
  ~Engine() {
    hooks::remove(cache.id);
    limit::set(0, LimitSource::kApi, "test");
    const int64_t left = account::totals().usage_bytes() - before_;
    if (left > 0) release(left);
  }
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  void fill(int64_t bytes) {
    for (int64_t done = 0; done < bytes; done += 4096) {
      allocate(4096);
      cache.held += 4096;
    }
  }

  Cache cache;

 private:
  int64_t before_;
};

/* Memory that the kernel holds and the engine is not told of. */
class Idle {
 public:
  explicit Idle(int64_t bytes) : bytes_(static_cast<size_t>(bytes), 'x') {
    // Or the compiler leaves all of it out.
    __asm__ volatile("" : : "g"(bytes_.data()) : "memory");
  }

 private:
  std::vector<char> bytes_;
};

/* More threads that count: the quantum is shared among them. */
class Threads {
 public:
  explicit Threads(int count) : before_(pretended::threads) { pretended::threads += count; }
  ~Threads() { pretended::threads = before_; }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

/* Far more than the process holds, with what a sanitizer keeps of freed memory: near the limit the footprint counts. */
constexpr int64_t kLimit = 2048 * kMiB;

}  // namespace

TEST_CASE("reclaim: nothing runs below the start", "[reclaim]") {
  Engine engine(kLimit);
  engine.fill(kLimit * 45 / 100);
  CHECK(engine.cache.requests.empty());
  CHECK(pressure::level() == Level::kLow);
}

TEST_CASE("reclaim: a cache filled for ever settles below the limit", "[reclaim]") {
  Engine engine(kLimit);
  engine.fill(4 * kLimit);
  const memlimit_stats now = figures();
  CHECK(now.heap_alloc <= kLimit);
  CHECK(now.heap_alloc >= kLimit * 9 / 10);
  REQUIRE_FALSE(engine.cache.requests.empty());
  int64_t highest = 0;
  for (const memlimit_request& request : engine.cache.requests) {
    highest = std::max(highest, request.usage_bytes);
  }
  CHECK(highest <= kLimit + kLimit / 50);
}

TEST_CASE("reclaim: requests say the level, the limit and rising round numbers", "[reclaim]") {
  Engine engine(kLimit);
  engine.fill(2 * kLimit);
  REQUIRE(engine.cache.requests.size() > 10);
  uint64_t last_round = 0;
  for (const memlimit_request& request : engine.cache.requests) {
    CHECK(request.limit_bytes == kLimit);
    CHECK(request.wanted_bytes > 0);
    CHECK(request.round > last_round);
    CHECK(request.usage_bytes >= kLimit / 2);
    last_round = request.round;
  }
  CHECK(engine.cache.requests.front().level >= MEMLIMIT_LOW);
  CHECK(engine.cache.requests.back().level >= MEMLIMIT_MODERATE);
}

TEST_CASE("reclaim: an oversized request is followed by a round at once", "[reclaim]") {
  Engine engine(kLimit);
  engine.fill(kLimit * 45 / 100);
  REQUIRE(engine.cache.requests.empty());
  const int64_t oversized_before = figures().oversized;
  allocate(2 * kLimit);
  REQUIRE(engine.cache.requests.size() == 1);
  CHECK(engine.cache.requests[0].level == MEMLIMIT_OVER);
  CHECK(engine.cache.held == 0);
  CHECK(figures().oversized == oversized_before + 1);
  release(2 * kLimit);
  CHECK(figures().heap_alloc < kLimit);
}

TEST_CASE("reclaim: a limit set below usage takes effect at once", "[reclaim]") {
  Engine engine(kLimit);
  engine.fill(kLimit * 45 / 100);
  REQUIRE(engine.cache.requests.empty());
  CHECK(limit::set(kLimit / 4, LimitSource::kSocket, "socket") == kLimit);
  CHECK(engine.cache.requests.size() == 1);
  CHECK(figures().heap_alloc < kLimit / 4);
  CHECK(figures().limit == kLimit / 4);
}

TEST_CASE("reclaim: without a limit nothing is asked, and the level is low", "[reclaim]") {
  Engine engine(kLimit);
  engine.fill(kLimit);
  CHECK(limit::set(0, LimitSource::kApi, "test") == kLimit);
  const size_t asked = engine.cache.requests.size();
  engine.fill(kLimit);
  CHECK(engine.cache.requests.size() == asked);
  CHECK(pressure::level() == Level::kLow);
  CHECK(pressure::limit_bytes() == 0);
}

TEST_CASE("reclaim: a limit turned off leaves nothing of itself behind", "[reclaim]") {
  const bool by_client_or_hook = GENERATE(true, false);
  constexpr int64_t kSmall = kMiB;
  const Idle idle(8 * kMiB);
  const Threads threads(3);
  Engine engine(kSmall);
  hooks::remove(engine.cache.id);
  engine.fill(kSmall + 8192);
  for (int i = 0; i < 64; ++i) engine.fill(4096);
  REQUIRE(pressure::level() == Level::kOver);
  REQUIRE(account::quantum_bytes() < memlimit::kQuantumMaxBytes);
  REQUIRE(pretended::cache_bytes == memlimit::kCacheMinBytes);
  if (by_client_or_hook) {
    const memlimit::ReentryGuard inside;
    limit::set(0, LimitSource::kSocket, "socket");
    REQUIRE(service_rounds::kLookTask.has_work());
    service_rounds::kLookTask.run({});
  } else {
    limit::set(0, LimitSource::kApi, "test");
  }
  CHECK(pressure::level() == Level::kLow);
  CHECK(account::quantum_bytes() == memlimit::kQuantumMaxBytes);
  CHECK(pretended::cache_bytes == memlimit::kCacheMaxBytes);
}

TEST_CASE("reclaim: idle pages are what the kernel holds beyond usage", "[reclaim]") {
  Engine engine(kLimit);
  const Idle idle(8 * kMiB);
  const memlimit_stats few = figures();
  CHECK(few.held_idle >= 8 * kMiB);
  CHECK(few.held_idle == few.rss_anon - few.heap_alloc - few.charged);
  allocate(kLimit / 8 * 7); /* the kernel is not told of it */
  CHECK(figures().held_idle == 0);
}

TEST_CASE("reclaim: idle pages near the limit are purged, once they are worth it", "[reclaim]") {
  const Idle idle(64 * kMiB);
  const int64_t limit = figures().rss_anon / 8 * 9;
  const int before = pretended::purges;
  pretended::idle_bytes = 3 * kMiB;
  const int64_t purged = figures().purged;
  Engine engine(limit);
  CHECK(pretended::purges > before);
  CHECK(figures().purged == purged + 3 * kMiB);
  SECTION("by hand, whatever the pacer says") {
    const int paced = pretended::purges;
    pretended::idle_bytes = 5 * kMiB;
    CHECK(explicit_reclaim::purge_now() == 5 * kMiB);
    CHECK(pretended::purges > paced);
  }
  SECTION("but not without a limit") {
    limit::set(0, LimitSource::kApi, "test");
    const int without = pretended::purges;
    engine.fill(kMiB);
    CHECK(pretended::purges == without);
  }
}

TEST_CASE("reclaim: what became idle on the way down is purged", "[reclaim]") {
  constexpr int64_t kLow = 512 * kMiB;
  const Idle idle(kLow / 2);
  Engine engine(kLow);
  hooks::remove(engine.cache.id);
  allocate(kLow / 2);
  const int before = pretended::purges;
  release(kLow / 4);
  CHECK(pretended::purges > before);
  release(kLow / 4);
}

TEST_CASE("reclaim: what a round freed is purged at once where idle pages are paced", "[reclaim]") {
  Engine engine(kLimit);
  const auto purges_of_round = [](int64_t freed_bytes) {
    const int before = pretended::purges;
    memlimit::round::end(1, kMiB, freed_bytes, true, 0);
    return pretended::purges - before;
  };
  CHECK(purges_of_round(kMiB) == 0);
  memlimit::paced::configure(memlimit::AccountMode::kRss);
  CHECK(purges_of_round(kMiB) == 1);
  CHECK(purges_of_round(4096) == 0); /* nothing to speak of */
  memlimit::paced::configure(memlimit::AccountMode::kHeap);
}

TEST_CASE("reclaim: a hook that has nothing is asked again before the limit", "[reclaim]") {
  Engine engine(kLimit);
  while (figures().heap_alloc < kLimit * 97 / 100) allocate(4096); /* none of it is the cache's */
  int asked = 0;
  for (const memlimit_request& request : engine.cache.requests)
    asked += request.usage_bytes >= kLimit * 70 / 100 ? 1 : 0;
  CHECK(asked >= 3);
  CHECK(engine.cache.requests.size() < 60);
}

TEST_CASE("reclaim: the headroom is what the paced number leaves of the limit", "[reclaim]") {
  Engine engine(kLimit);
  engine.fill(kMiB);
  CHECK(figures().paced == kMiB);
  CHECK(figures().headroom == kLimit - kMiB);
  /* Idle pages past the limit, which purges did not give back: they count. */
  const Idle idle(64 * kMiB);
  const int64_t below = figures().rss_anon / 2;
  limit::set(below, LimitSource::kApi, "test");
  memlimit::paced::set_footprint_over(true);
  limit::set(below + 1, LimitSource::kApi, "test"); /* a look with what counts now */
  REQUIRE(memlimit::paced::footprint_over());
  const memlimit_stats now = figures();
  CHECK(now.level == MEMLIMIT_OVER);
  CHECK(now.paced > now.limit);
  CHECK(now.headroom == now.limit - now.paced);
  limit::set(0, LimitSource::kApi, "test");
  CHECK(figures().headroom == 0);
}

TEST_CASE("reclaim: near the limit, what is held beyond usage counts with it", "[reclaim]") {
  const Idle idle(64 * kMiB);
  const int64_t limit = figures().rss_anon / 8 * 9;
  Engine engine(limit);
  CHECK(figures().paced == limit / memlimit::kOverheadMaxDivisor);
  CHECK(figures().headroom == limit - figures().paced);
  engine.fill(kMiB);
  CHECK(figures().paced == figures().heap_alloc + limit / memlimit::kOverheadMaxDivisor);
}

TEST_CASE("reclaim: refused settings are part of the figures", "[reclaim]") {
  memlimit::Config config;
  config.states[0].source = memlimit::Source::kInvalid;
  config.states[1].source = memlimit::Source::kEnvironment;
  config.states[2].source = memlimit::Source::kInvalid;
  memlimit::engine::configure(config, pretended::kOps);
  CHECK(figures().invalid_settings == 2);
  memlimit::engine::configure(memlimit::Config{}, pretended::kOps);
  CHECK(figures().invalid_settings == 0);
}

TEST_CASE("reclaim: an explicit reclaim ignores the pacer and says what it freed", "[reclaim]") {
  Engine engine(kLimit);
  engine.fill(8 * kMiB);
  REQUIRE(engine.cache.requests.empty());
  const int purges_before = pretended::purges;
  CHECK(explicit_reclaim::now(3 * kMiB) >= 3 * kMiB);
  REQUIRE(engine.cache.requests.size() == 1);
  CHECK(engine.cache.requests[0].wanted_bytes == 3 * kMiB);
  CHECK(engine.cache.held == 5 * kMiB);
  CHECK(pretended::purges > purges_before);
  CHECK(explicit_reclaim::now(0) >= 5 * kMiB);
  CHECK(engine.cache.held == 0);
}

TEST_CASE("reclaim: POLL hooks run when the program polls, and not before", "[reclaim]") {
  Engine engine(kLimit);
  Cache polled;
  const memlimit_hook hook{sizeof hook, "polled", MEMLIMIT_POLL, Cache::evict, &polled};
  REQUIRE(hooks::add(hook, &polled.id) == 0);
  hooks::remove(engine.cache.id);
  CHECK(poll_pass::run() == 0);
  for (int64_t done = 0; done < kLimit; done += 4096) {
    allocate(4096);
    polled.held += 4096;
  }
  CHECK(polled.requests.empty());
  CHECK(poll_pass::run() == 1);
  CHECK(polled.requests.size() == 1);
  CHECK(poll_pass::run() == 0);
  CHECK(hooks::remove(polled.id) == 0);
}

TEST_CASE("reclaim: POLL hooks run however often they were asked for before", "[reclaim]") {
  Engine engine(kLimit);
  Cache polled;
  const memlimit_hook hook{sizeof hook, "polled", MEMLIMIT_POLL, Cache::evict, &polled};
  REQUIRE(hooks::add(hook, &polled.id) == 0);
  const int fd = poller::descriptor();
  REQUIRE(fd >= 0);
  for (size_t requests = 1; requests <= 6; ++requests) {
    INFO(requests);
    allocate(kMiB);
    polled.held = kMiB;
    for (size_t i = 0; i < requests; ++i) explicit_reclaim::now(0);
    pollfd readable{fd, POLLIN, 0};
    CHECK(::poll(&readable, 1, 0) == 1);
    CHECK(poll_pass::run() == 1);
    CHECK(polled.requests.size() == requests);
    CHECK(polled.held == 0);
    CHECK(::poll(&readable, 1, 0) == 0);
    CHECK(poll_pass::run() == 0);
  }
  CHECK(hooks::remove(polled.id) == 0);
}

TEST_CASE("reclaim: POLL hooks without anything to give run whenever somebody asked", "[reclaim]") {
  Engine engine(kLimit);
  Cache empty;
  const memlimit_hook hook{sizeof hook, "empty", MEMLIMIT_POLL, Cache::evict, &empty};
  REQUIRE(hooks::add(hook, &empty.id) == 0);
  for (int turn = 0; turn < 20; ++turn) {
    INFO(turn);
    explicit_reclaim::now(0);
    CHECK(poll_pass::run() == 1);
  }
  CHECK(hooks::remove(empty.id) == 0);
}

TEST_CASE("reclaim: a leak with a useless hook is not asked at every quantum", "[reclaim]") {
  Engine engine(kLimit);
  // What the cache does not hold, it cannot give.
  for (int64_t done = 0; done < 4 * kLimit; done += 4096) allocate(4096);
  CHECK(engine.cache.requests.size() < 200);
  CHECK(pressure::level() == Level::kOver);
}

namespace {

/* Fills far beyond the limit with what the cache does not hold, until the limit is let go. */
void leak_until_let_go(int64_t limit) {
  int64_t leaked = 0;
  while (figures().limiter_on == 0 && leaked < 8 * limit) {
    for (int64_t done = 0; done < limit / 16; done += 4096) allocate(4096);
    leaked += limit / 16;
  }
  REQUIRE(figures().limiter_on == 1);
  REQUIRE(pressure::level() == Level::kOver);
  count_events(memlimit::EventKind::kLimiterOff);
}

}  // namespace

TEST_CASE("reclaim: a limit that was let go is held again once usage is below it", "[reclaim]") {
  Engine engine(kLimit);
  leak_until_let_go(kLimit);
  const int64_t episodes = figures().limiter_episodes;
  int64_t held = figures().heap_alloc;
  while (held > kLimit / 4) {
    release(kMiB);
    held -= kMiB;
  }
  CHECK(figures().limiter_on == 0);
  CHECK(figures().limiter_episodes == episodes);
  CHECK(figures().limiter_needed > kLimit); /* when it was last let go */
  CHECK(count_events(memlimit::EventKind::kLimiterOff) == 1);
  leak_until_let_go(kLimit);
  CHECK(figures().limiter_episodes == episodes + 1);
}

TEST_CASE("reclaim: no limit after no limit reads nothing", "[reclaim]") {
  limit::set(0, LimitSource::kApi, "test");
  memlimit::paced::note_footprint(4096);
  CHECK(limit::set(0, LimitSource::kApi, "test") == 0);
  CHECK(memlimit::paced::footprint_bytes() == 4096);
}

TEST_CASE("reclaim: a child of a fork reads its footprint when its parent would have",
          "[reclaim]") {
  Engine engine(kLimit);
  memlimit::footprint::read_if_due();
  memlimit::paced::note_footprint(4096);
  memlimit::footprint::kForkPart.reset();
  memlimit::footprint::read_if_due();
  CHECK(memlimit::paced::footprint_bytes() == 4096);
  allocate(kLimit / 8); /* more than the longest way between two readings */
  memlimit::footprint::read_if_due();
  CHECK(memlimit::paced::footprint_bytes() > 4096);
}

TEST_CASE("reclaim: who cannot give now has a second until the limit is let go", "[reclaim]") {
  Engine engine(kLimit);
  hooks::remove(engine.cache.id);
  int asked = 0;
  const auto cannot = [](const memlimit_request*, void* arg) -> int64_t {
    ++*static_cast<int*>(arg);
    return MEMLIMIT_CANNOT_NOW;
  };
  const memlimit_hook hook{sizeof hook, "cannot", MEMLIMIT_INLINE, cannot, &asked};
  REQUIRE(hooks::add(hook, &engine.cache.id) == 0);
  allocate(kLimit);
  asked = 0;
  const int64_t began_ns = memlimit::os::monotonic_ns();
  while (asked <= memlimit::kHopelessRounds) allocate(kLimit / 16);
  const bool let_go = figures().limiter_on != 0;
  // What a machine that stood still for so long says is true as well.
  const int64_t took_ns = memlimit::os::monotonic_ns() - began_ns;
  CHECK((!let_go || took_ns >= memlimit::kHopelessUnansweredNs));
  usleep(memlimit::kHopelessUnansweredNs / 1000);
  for (int i = 0; i < 64 && figures().limiter_on == 0; ++i) allocate(kLimit / 16);
  CHECK(figures().limiter_on == 1);
}

TEST_CASE("reclaim: the level that is read is that of now, not of the last look", "[reclaim]") {
  Engine engine(kLimit);
  leak_until_let_go(kLimit);
  CHECK(figures().level == static_cast<int64_t>(Level::kOver));
  // Freed by a thread that does not look.
  memlimit::ReentryGuard unseen;
  const int64_t over = figures().heap_alloc - kLimit * 3 / 4;
  release(over);
  CHECK(pressure::level() == Level::kOver);
  CHECK(figures().headroom > 0);
  CHECK(figures().level == static_cast<int64_t>(Level::kModerate));
}

TEST_CASE("reclaim: the kernel's kill is announced when nothing helps, and not before",
          "[reclaim]") {
  // Room is what the whole process leaves, and under a sanitizer it holds far more than it has allocated.
  constexpr int64_t kContainer = kLimit;
  memlimit::test::TreeDir directory;
  directory.lay_out(
      memlimit::test::read_tree(std::string(MEMLIMIT_TEST_DATA "/cgroup/docker-v2.tree")));
  directory.write("/sys/fs/cgroup/memory.max", std::to_string(kContainer) + "\n");
  memlimit::MemoryGroup group;
  group.find(directory.path().c_str());
  REQUIRE(group.container_bytes() == kContainer);
  {
    Engine engine(64 * kMiB);
    memlimit::paced::configure(memlimit::AccountMode::kCgroup);
    memlimit::paced::set_group(&group);
    memlimit::paced::read(false, 0);
    REQUIRE(memlimit::paced::room_bytes() > 0);
    const auto leak_until_room_is = [](int64_t bytes) {
      while (memlimit::paced::room_bytes() > bytes) allocate(4096);
    };
    count_events(memlimit::EventKind::kRoomLow);
    leak_until_room_is(kContainer / 16);
    CHECK(count_events(memlimit::EventKind::kRoomLow) == 0);
    leak_until_room_is(kContainer / 64);
    CHECK(count_events(memlimit::EventKind::kRoomLow) == 1);
  }
  memlimit::paced::configure(memlimit::AccountMode::kHeap);
  memlimit::paced::set_group(nullptr);
}

TEST_CASE("reclaim: a limit that is let go says which reason it has", "[reclaim]") {
  Engine engine(kLimit);
  count_events(memlimit::EventKind::kLimiterOn);
  int64_t leaked = 0;
  memlimit::Event event, on;
  while (on.args[0] == 0 && leaked < 8 * kLimit) {
    for (int64_t done = 0; done < kLimit / 16; done += 4096) allocate(4096);
    leaked += kLimit / 16;
    while (memlimit::process_events().pop(&event)) {
      if (event.kind == memlimit::EventKind::kLimiterOn) on = event;
    }
  }
  // Nothing is left to give: no time is told, and what remains is more than the limit.
  CHECK(on.args[0] > kLimit);
  CHECK(on.args[1] == kLimit);
  CHECK(on.args[2] == 0);
  CHECK(on.args[3] == 0);
  CHECK_FALSE(memlimit::decision::let_go_for_time());
}

TEST_CASE("reclaim: a limit that was let go is not when it is raised or turned off", "[reclaim]") {
  for (const int64_t next : {64 * kLimit, int64_t{0}}) {
    Engine engine(kLimit);
    leak_until_let_go(kLimit);
    limit::set(next, LimitSource::kApi, "test");
    CHECK(figures().limiter_on == 0);
    CHECK(count_events(memlimit::EventKind::kLimiterOff) == 1);
  }
}
