/* Ranking: who is asked first, who is left alone, and who is found again. */
#include "pacing/ranking.h"

#include <cstdint>
#include <limits>
#include <vector>

#include <catch2/catch.hpp>

using memlimit::hook_cannot_now;
using memlimit::hook_due;
using memlimit::hook_ran;
using memlimit::hook_rate;
using memlimit::hook_recover;
using memlimit::HookFigures;
using memlimit::slice_for;

namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kUs = 1000;
constexpr int64_t kRoom = int64_t{1} << 30; /* far from the limit */

void ran(HookFigures& hook, uint64_t round, int64_t freed, int64_t us, bool late = false) {
  hook_ran(hook, {.round = round,
                  .wanted_bytes = kMiB,
                  .freed_bytes = freed,
                  .elapsed_ns = us * kUs,
                  .past_deadline = late});
}

std::vector<uint16_t> order(uint64_t round, const std::vector<const HookFigures*>& hooks,
                            bool everyone = false) {
  std::vector<uint16_t> out(hooks.size() + 1, 999);
  out.resize(memlimit::order(round, hooks.data(), hooks.size(), everyone, kRoom, out.data()));
  return out;
}

using Order = std::vector<uint16_t>;

}  // namespace

TEST_CASE("ranking: fruitful hooks first, new ones before them", "[ranking]") {
  HookFigures slow, fast, fresh;
  ran(slow, 1, kMiB, 9000);
  ran(fast, 1, kMiB, 90);
  CHECK(order(2, {&slow, nullptr, &fast, &fresh}) == Order{3, 2, 0});
  CHECK(order(2, {}).empty());
  CHECK(order(2, {nullptr, nullptr}).empty());
}

TEST_CASE("ranking: the rate is bytes a microsecond, and of the first run exactly", "[ranking]") {
  HookFigures hook;
  CHECK(hook_rate(hook) == 0.0);
  ran(hook, 1, 500'000, 1000);
  CHECK(hook_rate(hook) == Approx(500.0));
  // A run that freed little in little time hardly moves it: sums, not a mean of ratios.
  ran(hook, 2, 20'000, 10);
  CHECK(hook_rate(hook) == Approx((500'000.0 * 7 + 20'000) / (1000.0 * 7 + 10)));
}

TEST_CASE("ranking: what a hook did long ago is forgotten", "[ranking]") {
  HookFigures hook;
  ran(hook, 1, 100 * kMiB, 1000);
  for (uint64_t round = 2; round < 60; ++round) ran(hook, round, kMiB, 1000);
  CHECK(hook_rate(hook) == Approx(static_cast<double>(kMiB) / 1000).epsilon(0.06));
}

TEST_CASE("ranking: ties go to whoever has waited longest, then to the slot", "[ranking]") {
  HookFigures a, b, c;
  ran(a, 5, kMiB, 100);
  ran(b, 3, kMiB, 100);
  ran(c, 5, kMiB, 100);
  CHECK(order(6, {&a, &b, &c}) == Order{1, 0, 2});
}

TEST_CASE("ranking: a fruitless hook doubles its interval up to a cap", "[ranking]") {
  HookFigures hook;
  std::vector<uint64_t> asked;
  for (uint64_t round = 1; round <= 40; ++round) {
    if (!hook_due(hook, round, kRoom)) continue;
    asked.push_back(round);
    ran(hook, round, 0, 100);
  }
  CHECK(asked == std::vector<uint64_t>{1, 3, 7, 11, 15, 19, 23, 27, 31, 35, 39});
  CHECK(hook.fruitless_runs == hook.runs);
}

TEST_CASE("ranking: the more a fruitless call costs, the rarer it gets", "[ranking]") {
  for (const auto& [us, cap] :
       {std::pair{10, 4}, {400, 4}, {1000, 10}, {2500, 25}, {100'000, 64}}) {
    CAPTURE(us);
    HookFigures hook;
    for (uint64_t round = 1; round < 2000; ++round) {
      if (hook_due(hook, round, kRoom)) ran(hook, round, 0, us);
    }
    CHECK(hook.interval == static_cast<uint32_t>(cap));
  }
}

TEST_CASE("ranking: fruitful calls do not make the fruitless ones rarer", "[ranking]") {
  HookFigures hook;
  ran(hook, 1, 100 * kMiB, 200'000);
  for (uint64_t round = 2; round < 100; ++round) {
    if (hook_due(hook, round, kRoom)) ran(hook, round, 0, 5);
  }
  CHECK(hook.interval == 4);
}

TEST_CASE("ranking: back-off ends when half of the headroom is gone", "[ranking]") {
  HookFigures hook;
  hook_ran(hook,
           {.round = 1, .wanted_bytes = kMiB, .elapsed_ns = 10'000 * kUs, .headroom_bytes = kRoom});
  CHECK_FALSE(hook_due(hook, 2, kRoom / 2 + 1));
  CHECK(hook_due(hook, 2, kRoom / 2));
  hook_ran(
      hook,
      {.round = 2, .wanted_bytes = kMiB, .elapsed_ns = 10'000 * kUs, .headroom_bytes = kRoom / 2});
  CHECK_FALSE(hook_due(hook, 3, kRoom / 2));
  CHECK(hook_due(hook, 3, kRoom / 4));
  // At the limit there is none left to go by.
  hook_ran(hook,
           {.round = 3, .wanted_bytes = kMiB, .elapsed_ns = 10'000 * kUs, .headroom_bytes = -5});
  CHECK_FALSE(hook_due(hook, 4, -5));
}

TEST_CASE("ranking: back-off ends with anything freed, or when the level rises", "[ranking]") {
  HookFigures hook;
  for (uint64_t round = 1; round < 9; ++round) {
    if (hook_due(hook, round, kRoom)) ran(hook, round, 0, 10'000);
  }
  REQUIRE(hook.interval == 8);
  REQUIRE_FALSE(hook_due(hook, 10, kRoom));
  hook_recover(hook);
  CHECK(hook_due(hook, 10, kRoom));
  ran(hook, 10, 0, 10'000);
  CHECK_FALSE(hook_due(hook, 11, kRoom));
  CHECK(hook_due(hook, 12, kRoom));
  ran(hook, 12, 64 * 1024, 10'000);
  CHECK(hook_due(hook, 13, kRoom));
  CHECK(hook.interval == 1);
}

TEST_CASE("ranking: a page that others freed is not fruit, unless little was wanted", "[ranking]") {
  HookFigures hook;
  ran(hook, 1, 4096, 100);
  CHECK(hook.interval == 2);
  ran(hook, 2, 4097, 100);
  CHECK(hook.interval == 1);
  hook_ran(hook, {.round = 3, .wanted_bytes = 2048, .freed_bytes = 16, .elapsed_ns = kUs});
  CHECK(hook.interval == 1);
  hook_ran(hook, {.round = 4, .wanted_bytes = 2048, .freed_bytes = -16, .elapsed_ns = kUs});
  CHECK(hook.interval == 2);
}

TEST_CASE("ranking: cannot now is counted and not punished", "[ranking]") {
  HookFigures hook;
  ran(hook, 1, kMiB, 100);
  const double rate = hook_rate(hook);
  for (uint64_t round = 2; round < 50; ++round) hook_cannot_now(hook, round);
  CHECK(hook.skips == 48);
  CHECK(hook_rate(hook) == rate);
  CHECK(hook_due(hook, 50, kRoom));
  CHECK(hook.interval == 1);
}

TEST_CASE("ranking: a hook that can never now does not take all the tries", "[ranking]") {
  HookFigures usual, refusing, third;
  ran(usual, 1, kMiB, 100);
  ran(refusing, 1, kMiB, 1000);
  ran(third, 2, kMiB, 1000);
  int tries = 0;
  for (uint64_t round = 3; round < 3 + 16 * 10; ++round) {
    const Order out = order(round, {&usual, &refusing, &third});
    for (const uint16_t hook : out) {
      if (hook == 1) {
        hook_cannot_now(refusing, round);
        continue;
      }
      tries += hook == 2 ? 1 : 0;
      ran(hook == 0 ? usual : third, round, kMiB, hook == 0 ? 100 : 1000);
      break;  // enough
    }
  }
  CHECK(tries >= 4);
}

TEST_CASE("ranking: a new hook that can never now loses its place in front", "[ranking]") {
  HookFigures good, refusing;
  ran(good, 1, kMiB, 100);
  CHECK(order(2, {&good, &refusing}) == Order{1, 0});
  for (uint64_t round = 2; round < 18; ++round) hook_cannot_now(refusing, round);
  CHECK(order(18, {&good, &refusing}) == Order{0, 1});
}

TEST_CASE("ranking: a hook past its deadline counts as costly", "[ranking]") {
  HookFigures prompt, late;
  ran(prompt, 1, kMiB, 3000);
  ran(late, 1, kMiB, 1000, true);
  CHECK(hook_rate(late) < hook_rate(prompt));
  CHECK(order(2, {&late, &prompt}) == Order{1, 0});
}

TEST_CASE("ranking: one round in sixteen begins with whoever has waited longest", "[ranking]") {
  std::vector<HookFigures> hooks(5);
  std::vector<const HookFigures*> pointers;
  for (size_t i = 0; i < hooks.size(); ++i) {
    ran(hooks[i], 1, kMiB, static_cast<int64_t>(100 * (i + 1)));
    pointers.push_back(&hooks[i]);
  }
  // Only the first of each round is called: it frees enough.
  std::vector<int> calls(5);
  for (uint64_t round = 2; round < 2 + 16 * 40; ++round) {
    const uint16_t first = order(round, pointers).at(0);
    ++calls[first];
    ran(hooks[first], round, kMiB, 100 * (first + 1));
  }
  CHECK(calls[0] == 16 * 40 - 40);
  for (size_t i = 1; i < 5; ++i) CHECK(calls[i] == 10);
}

TEST_CASE("ranking: a hook that becomes useful is found", "[ranking]") {
  HookFigures usual, sleeper;
  ran(usual, 1, kMiB, 1000);
  ran(sleeper, 1, 0, 10);
  int sleeper_first = 0;
  for (uint64_t round = 2; round < 200; ++round) {
    const Order out = order(round, {&usual, &sleeper});
    if (out.at(0) == 1) ++sleeper_first;
    ran(out.at(0) == 1 ? sleeper : usual, round, kMiB, out.at(0) == 1 ? 10 : 1000);
  }
  CHECK(sleeper_first > 150);  // from the first explored round on
}

TEST_CASE("ranking: an explicit reclaim asks everyone", "[ranking]") {
  HookFigures a, b;
  ran(a, 1, 0, 100);
  ran(b, 1, 0, 100);
  CHECK(order(2, {&a, &b}).empty());
  CHECK(order(2, {&a, &b}, true) == Order{0, 1});
}

TEST_CASE("ranking: as many hooks as there can be, each once", "[ranking]") {
  std::vector<HookFigures> hooks(100);
  std::vector<const HookFigures*> pointers;
  for (size_t i = 0; i < hooks.size(); ++i) {
    ran(hooks[i], 1, kMiB, static_cast<int64_t>(1 + (i * 37) % 100));
    pointers.push_back(&hooks[i]);
  }
  const Order out = order(2, pointers);
  REQUIRE(out.size() == memlimit::kRankingMaxHooks);
  std::vector<int> seen(100);
  for (size_t i = 0; i < out.size(); ++i) {
    ++seen[out[i]];
    if (i > 0) CHECK(hook_rate(hooks[out[i - 1]]) >= hook_rate(hooks[out[i]]));
  }
  for (size_t i = 0; i < memlimit::kRankingMaxHooks; ++i) CHECK(seen[i] == 1);
}

TEST_CASE("ranking: slices are what a hook frees in the time given", "[ranking]") {
  HookFigures hook;
  CHECK(slice_for(hook, 10 * kMiB, 4096, 5'000'000) == 10 * kMiB);  // nothing known yet
  ran(hook, 1, 1'000'000, 1000);                                    // 1000 bytes a microsecond
  CHECK(slice_for(hook, 100'000'000, 4096, 5'000'000) == 5'000'000);
  CHECK(slice_for(hook, 1'000'000, 4096, 5'000'000) == 1'000'000);
  CHECK(slice_for(hook, 1'000'000, 4096, 1000) == 4096);
  CHECK(slice_for(hook, 1000, 4096, 0) == 1000);
  CHECK(slice_for(hook, -5, 4096, -1) == 0);
}

TEST_CASE("ranking: odd numbers do no harm", "[ranking]") {
  constexpr auto kLast = std::numeric_limits<uint64_t>::max();
  constexpr auto kMost = std::numeric_limits<int64_t>::max();
  HookFigures hook;
  hook_ran(hook, {.round = kLast, .wanted_bytes = -1, .freed_bytes = kMost, .elapsed_ns = -5});
  hook_ran(hook, {.round = kLast, .wanted_bytes = kMost, .freed_bytes = 0, .elapsed_ns = kMost});
  CHECK(hook.due_round >= hook.interval);  // did not wrap
  CHECK(hook_rate(hook) >= 0.0);
  CHECK(slice_for(hook, kMost, kMost, kMost) == kMost);
}
