/* memlimit.hpp over the core itself: what a hook's function is told and answers, how long it lives, who
 * waits for it, and that a charge takes itself off. Hooks are ASYNC ones that the tests run themselves:
 * no service thread comes up here. What needs the loader is in hpp_alone.cc and tests/preload/. */
#include "memlimit.hpp"

#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <catch2/catch.hpp>

#include "engine/account.h"
#include "engine/hooks.h"

namespace account = memlimit::account;
namespace hooks = memlimit::hooks;
using memlimit::HookRow;

namespace {

/* Runs every hook once. */
hooks::Outcome run_hooks() {
  hooks::Pass pass;
  pass.round = 7;
  pass.wanted_bytes = 1000;
  pass.usage_bytes = 900;
  pass.limit_bytes = 950;
  pass.level = memlimit::Level::kCritical;
  pass.budget_ns = 1'000'000'000;
  pass.everything = true;
  pass.still_wanted = [](const hooks::Pass& all, int64_t) { return all.wanted_bytes; };
  return hooks::run(MEMLIMIT_ASYNC, pass);
}

/* Counts itself, so that a test sees when a hook's captures are there. */
class Witness {
 public:
  explicit Witness(int* alive) : alive_(alive) { ++*alive_; }
  Witness(const Witness& other) : alive_(other.alive_) { ++*alive_; }
  Witness& operator=(const Witness&) = delete;
  ~Witness() { --*alive_; }
  int alive() const { return *alive_; }

 private:
  int* alive_;
};

int64_t do_nothing(const memlimit::request&) { return 0; }

template <class Function>
constexpr bool is_accepted = std::is_constructible_v<memlimit::hook, const char*, Function>;

}  // namespace

static_assert(std::is_nothrow_default_constructible_v<memlimit::hook>);
static_assert(std::is_nothrow_move_constructible_v<memlimit::hook>);
static_assert(std::is_nothrow_move_assignable_v<memlimit::hook>);
static_assert(!std::is_copy_constructible_v<memlimit::hook>);
static_assert(!std::is_copy_constructible_v<memlimit::charge>);
static_assert(is_accepted<int64_t (*)(const memlimit::request&)>);
static_assert(is_accepted<size_t (*)(memlimit::request)>);
static_assert(!is_accepted<bool (*)(const memlimit::request&)>);
static_assert(!is_accepted<void (*)(const memlimit::request&)>);
static_assert(!is_accepted<double (*)(const memlimit::request&)>);
static_assert(!is_accepted<int64_t (*)()>);
static_assert(memlimit::detail::to_bytes(SIZE_MAX) == INT64_MAX);
static_assert(memlimit::detail::to_bytes(size_t{INT64_MAX} - 1) == INT64_MAX - 1);
static_assert(memlimit::detail::to_bytes(UINT32_MAX) == UINT32_MAX);
static_assert(memlimit::cannot_now == MEMLIMIT_CANNOT_NOW);
static_assert(memlimit::detail::to_bytes(-1) == memlimit::cannot_now);

TEST_CASE("hpp: a hook is told what the round wants, in C++ types", "[hpp]") {
  memlimit::request seen;
  const auto before = std::chrono::steady_clock::now();
  memlimit::hook hook{"teller", [&](const memlimit::request& request) -> int64_t {
                        seen = request;
                        return 0;
                      }};
  REQUIRE(hook.registered());
  CHECK(hook.error() == 0);
  CHECK(run_hooks().calls == 1);
  CHECK(seen.wanted_bytes == 1000);
  CHECK(seen.usage_bytes == 900);
  CHECK(seen.limit_bytes == 950);
  CHECK(seen.level == memlimit::level::critical);
  CHECK(seen.round == 7);
  CHECK(seen.deadline >= before + std::chrono::seconds(1));
  CHECK(seen.deadline <= std::chrono::steady_clock::now() + std::chrono::seconds(1));
}

TEST_CASE("hpp: name and context arrive in the registry", "[hpp]") {
  const memlimit::hook async{"first", do_nothing};
  const memlimit::hook poll{std::string("second").c_str(), do_nothing, memlimit::context::poll};
  const memlimit::hook inside{"third", do_nothing, memlimit::context::inline_};
  std::vector<HookRow> rows(hooks::kMaxHooks);
  rows.resize(hooks::rows(rows.data(), rows.size()));
  const auto row_of = [&](const memlimit::hook& hook) {
    for (const HookRow& row : rows) {
      if (row.id == hook.id()) return row;
    }
    return HookRow{};
  };
  CHECK(std::string(row_of(async).name) == "first");
  CHECK(row_of(async).context == MEMLIMIT_ASYNC);
  CHECK(std::string(row_of(poll).name) == "second");
  CHECK(row_of(poll).context == MEMLIMIT_POLL);
  CHECK(std::string(row_of(inside).name) == "third");
  CHECK(row_of(inside).context == MEMLIMIT_INLINE);
}

TEST_CASE("hpp: what a hook throws is an answer: cannot now", "[hpp]") {
  int turn = 0;
  memlimit::hook hook{"thrower", [&](const memlimit::request&) -> size_t {
                        switch (++turn) {
                          case 1:
                            throw std::runtime_error("no");
                          case 2:
                            throw 5;
                          default:
                            return 0;
                        }
                      }};
  const memlimit::hook skipper{"skipper",
                               [](const memlimit::request&) { return memlimit::cannot_now; }};
  CHECK(run_hooks().skips == 2);
  CHECK(run_hooks().skips == 2);
  CHECK(run_hooks().skips == 1);
  CHECK(turn == 3);
}

// The analyser does not count holds: to it, each call may be the end of the function.
// NOLINTBEGIN(clang-analyzer-cplusplus.NewDelete)
TEST_CASE("hpp: an exception ends in the trampoline, a thread's end goes through it", "[hpp]") {
  using Function = std::function<int64_t(const memlimit::request&)>;
  using State = memlimit::detail::hook_state_of<Function, true>;
  int alive = 0;
  memlimit_request raw{};
  raw.size = sizeof raw;

  auto* const thrower = new State(std::in_place, [witness = Witness(&alive)](auto&) -> int64_t {
    throw std::runtime_error(std::to_string(witness.alive()));
  });
  CHECK(State::call(&raw, thrower) == MEMLIMIT_CANNOT_NOW);
  CHECK(alive == 1);
  thrower->drop();
  CHECK(alive == 0);

  static int marker;
  auto* const leaver = new State(std::in_place, [witness = Witness(&alive)](auto&) -> int64_t {
    if (witness.alive() == 1) pthread_exit(&marker);
    return 0;
  });
  pthread_t thread;
  REQUIRE(pthread_create(
              &thread, nullptr,
              [](void* state) -> void* {
                memlimit_request request{};
                State::call(&request, state);
                return nullptr;
              },
              leaver) == 0);
  void* result = nullptr;
  REQUIRE(pthread_join(thread, &result) == 0);
  CHECK(result == &marker);
  CHECK(alive == 1);
  leaver->drop();
  CHECK(alive == 0);
}
// NOLINTEND(clang-analyzer-cplusplus.NewDelete)

// What a handle is after it was moved from is a promise here, and so tested.
// NOLINTBEGIN(bugprone-use-after-move,clang-analyzer-cplusplus.Move)
TEST_CASE("hpp: a hook lives as long as its handle, wherever that moves", "[hpp]") {
  int alive = 0, calls = 0;
  const auto count = [&, witness = Witness(&alive)](const memlimit::request&) {
    calls += witness.alive() > 0 ? 1 : 0;
    return 0;
  };
  REQUIRE(alive == 1);
  {
    memlimit::hook empty;
    CHECK_FALSE(empty);
    memlimit::hook first{"mover", count};
    CHECK(alive == 2);
    const memlimit_hook_id id = first.id();
    memlimit::hook second(std::move(first));
    CHECK_FALSE(first);
    CHECK(first.id() == 0);
    CHECK(second.id() == id);
    CHECK(run_hooks().calls == 1);
    empty = std::move(second);
    CHECK(empty.id() == id);
    CHECK(run_hooks().calls == 1);
    memlimit::hook& same = empty;
    empty = std::move(same);
    CHECK(empty.id() == id);
    CHECK(run_hooks().calls == 1);
    std::vector<memlimit::hook> many;
    many.push_back(std::move(empty));
    for (int i = 0; i < 10; ++i) many.emplace_back();
    CHECK(run_hooks().calls == 1);
    CHECK(alive == 2);
  }
  CHECK(alive == 1);
  CHECK(run_hooks().calls == 0);
  CHECK(calls == 4);
}

TEST_CASE("hpp: assigning unregisters what the handle held before", "[hpp]") {
  int alive = 0;
  memlimit::hook hook{"old", [witness = Witness(&alive)](const memlimit::request&) { return 0; }};
  hook = memlimit::hook{"new", do_nothing};
  CHECK(alive == 0);
  CHECK(hook.registered());
  CHECK(run_hooks().calls == 1);
  hook.reset();
  CHECK_FALSE(hook.registered());
  CHECK(run_hooks().calls == 0);
  hook.reset();
}

TEST_CASE("hpp: functions that only move, and those that change, are hooks", "[hpp]") {
  auto number = std::make_unique<int>(0);
  int* const seen = number.get();
  memlimit::hook hook{"mutable", [number = std::move(number)](const memlimit::request&) mutable {
                        return ++*number;
                      }};
  run_hooks();
  run_hooks();
  CHECK(*seen == 2);
}

TEST_CASE("hpp: a hook may destroy its own handle and go on", "[hpp]") {
  int alive = 0, calls = 0, alive_after = 0;
  auto handle = std::make_unique<memlimit::hook>();
  *handle = memlimit::hook{"suicide", [&, witness = Witness(&alive),
                                       text = std::string(100, 'x')](const memlimit::request&) {
                             ++calls;
                             handle.reset();
                             alive_after = witness.alive();
                             return text == std::string(100, 'x') ? 0 : -1;
                           }};
  const hooks::Outcome outcome = run_hooks();
  CHECK(outcome.calls == 1);
  CHECK(outcome.skips == 0);
  CHECK(alive_after == 1);
  CHECK(alive == 0);
  CHECK(run_hooks().calls == 0);
  CHECK(calls == 1);
}

TEST_CASE("hpp: a hook may put another in its own place", "[hpp]") {
  int alive = 0, calls = 0;
  memlimit::hook handle;
  handle = memlimit::hook{"first", [&, witness = Witness(&alive)](const memlimit::request&) {
                            handle = memlimit::hook{"second", [&](const memlimit::request&) {
                                                      ++calls;
                                                      return 0;
                                                    }};
                            return witness.alive() - 1;
                          }};
  run_hooks();
  CHECK(alive == 0);
  CHECK(handle.registered());
  CHECK(run_hooks().calls == 1);
  CHECK(calls == 1);
}

TEST_CASE("hpp: a function that throws after destroying its handle is destroyed too", "[hpp]") {
  int alive = 0;
  memlimit::hook handle;
  handle =
      memlimit::hook{"both", [&, witness = Witness(&alive)](const memlimit::request&) -> int64_t {
                       handle.reset();
                       throw std::runtime_error(std::to_string(witness.alive()));
                     }};
  CHECK(run_hooks().skips == 1);
  CHECK(alive == 0);
}

TEST_CASE("hpp: whoever destroys a hook waits until it is not running", "[hpp][threads]") {
  for (int turn = 0; turn < 50; ++turn) {
    int alive = 0;
    std::atomic<bool> started{false}, removing{false}, ended{false};
    memlimit::hook hook{"slow", [&, witness = Witness(&alive)](const memlimit::request&) {
                          started = true;
                          while (!removing) std::this_thread::yield();
                          for (int i = 0; i < 100; ++i) std::this_thread::yield();
                          ended = true;
                          return 0;
                        }};
    std::thread runner([] { run_hooks(); });
    while (!started) std::this_thread::yield();
    removing = true;
    hook.reset();
    CHECK(ended);
    CHECK(alive == 0);
    runner.join();
  }
}

TEST_CASE("hpp: hooks come and go while rounds run", "[hpp][threads]") {
  int alive = 0;
  std::atomic<bool> stop{false};
  std::atomic<int> calls{0};
  std::thread runner([&] {
    while (!stop) run_hooks();
  });
  int turns = 0;
  for (; turns < 2000 || calls == 0; ++turns) {
    const memlimit::hook hook{"brief", [&, witness = Witness(&alive)](const memlimit::request&) {
                                ++calls;
                                return 0;
                              }};
    if (!hook) break;
    if (turns % 16 == 0) std::this_thread::yield();
  }
  stop = true;
  runner.join();
  CHECK(turns >= 2000);
  CHECK(alive == 0);
}

TEST_CASE("hpp: a released hook stays, and goes by its number", "[hpp]") {
  static int calls;
  // A released function is never destroyed: without a pointer to it the leak checker would be right to complain.
  [[maybe_unused]] static const void* released;
  struct Stays {
    int operator()(const memlimit::request& /*request*/) const {
      released = this;
      return calls++ * 0;
    }
  };
  calls = 0;
  memlimit_hook_id id = 0;
  {
    memlimit::hook hook{"stays", Stays{}};
    id = hook.release();
    CHECK(id != 0);
    CHECK_FALSE(hook);
    CHECK(hook.release() == 0);
  }
  CHECK(run_hooks().calls == 1);
  CHECK(calls == 1);
  CHECK(memlimit_hook_remove(id) == 0);
  CHECK(run_hooks().calls == 0);
}

TEST_CASE("hpp: a registration that fails says why and keeps nothing", "[hpp]") {
  int alive = 0;
  const auto function = [witness = Witness(&alive)](const memlimit::request&) { return 0; };
  const memlimit::hook nameless{"", function};
  CHECK_FALSE(nameless);
  CHECK(nameless.error() == -EINVAL);
  const memlimit::hook astray{"astray", function, static_cast<memlimit::context>(9)};
  CHECK(astray.error() == -EINVAL);
  CHECK(alive == 1);

  std::vector<memlimit::hook> all;
  do {
    all.emplace_back("one of many", function);
  } while (all.back() && all.size() <= hooks::kMaxHooks);
  CHECK(all.back().error() == -ENOSPC);
  CHECK(static_cast<size_t>(alive) == all.size());
  const memlimit::hook moved(std::move(all.back()));
  CHECK(moved.error() == -ENOSPC);
  all.clear();
  CHECK(alive == 1);
}

TEST_CASE("hpp: a charge is usage until it goes", "[hpp]") {
  const int64_t before = account::totals().usage_bytes();
  const auto charged = [&] { return account::totals().usage_bytes() - before; };
  {
    memlimit::charge one{size_t{1000}};
    CHECK(charged() == 1000);
    one.resize(1500U);
    CHECK(charged() == 1500);
    one.resize(int64_t{200});
    CHECK(charged() == 200);
    CHECK(one.bytes() == 200);

    memlimit::charge two(std::move(one));
    CHECK(one.bytes() == 0);
    CHECK(charged() == 200);
    memlimit::charge three{50};
    CHECK(charged() == 250);
    three = std::move(two);
    CHECK(charged() == 200);
    memlimit::charge& same = three;
    three = std::move(same);
    CHECK(charged() == 200);
    three.resize(-7);
    CHECK(three.bytes() == 0);
    CHECK(charged() == 0);

    const memlimit::charge none{-5};
    CHECK(none.bytes() == 0);
    memlimit::charge kept{300};
    CHECK(kept.release() == 300);
    CHECK(charged() == 300);
    kept.resize(10);
    CHECK(charged() == 310);
  }
  CHECK(charged() == 300);
  memlimit_charge(-300);
  CHECK(charged() == 0);
}

TEST_CASE("hpp: limit and descriptor are the library's", "[hpp]") {
  constexpr int64_t kFarAway = int64_t{1} << 50;
  CHECK(memlimit::loaded());
  CHECK(memlimit::hook::loaded());
  const int64_t before = memlimit::limit();
  CHECK(memlimit::set_limit(kFarAway) == before);
  CHECK(memlimit::limit() == kFarAway);
  CHECK(memlimit::set_limit(before) == kFarAway);
  const int fd = memlimit::poll_fd();
  CHECK(fd >= 0);
  CHECK(fd == memlimit_poll_fd());
  CHECK(memlimit::poll() == 0);
}
// NOLINTEND(bugprone-use-after-move,clang-analyzer-cplusplus.Move)
