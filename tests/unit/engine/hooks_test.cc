/* The registry: what a hook is told, what is believed of it, and that removal means removed. */
#include "engine/hooks.h"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "support/pretended_allocator.h"

#include "engine/allocator.h"
#include "engine/thread_state.h"
#include "system/os.h"

namespace pretended = memlimit::test::pretended;
namespace hooks = memlimit::hooks;
using memlimit::HookRow;
using memlimit::Level;

namespace {

/* What a hook frees is measured by what the allocator counts. */
const bool counts = (memlimit::set_allocator(pretended::kOps), true);

struct Probe {
  int calls = 0;
  int64_t frees = 0; /* counted as freed by the hook's own thread */
  int64_t answers = 0;
  memlimit_request last{};
  memlimit_hook_id id = 0;
};

int64_t run_probe(const memlimit_request* request, void* arg) {
  auto* const probe = static_cast<Probe*>(arg);
  probe->calls += 1;
  probe->last = *request;
  pretended::release(probe->frees);
  return probe->answers;
}

memlimit_hook hook_of(Probe* probe, const char* name = "probe",
                      int64_t (*reclaim)(const memlimit_request*, void*) = run_probe) {
  return {sizeof(memlimit_hook), name, MEMLIMIT_INLINE, reclaim, probe};
}

hooks::Pass pass_for(int64_t wanted_bytes, uint64_t round = 1) {
  hooks::Pass pass;
  pass.round = round;
  pass.wanted_bytes = wanted_bytes;
  pass.usage_bytes = 900;
  pass.limit_bytes = 1000;
  pass.level = Level::kCritical;
  pass.budget_ns = 1'000'000'000;
  return pass;
}

HookRow row_of(memlimit_hook_id id) {
  std::vector<HookRow> rows(hooks::kMaxHooks);
  const size_t count = hooks::rows(rows.data(), rows.size());
  for (size_t i = 0; i < count; ++i) {
    if (rows[i].id == id) return rows[i];
  }
  return HookRow{};
}

}  // namespace

TEST_CASE("hooks: bad registrations are refused and leave the id alone", "[hooks]") {
  Probe probe;
  memlimit_hook_id id = 77;
  memlimit_hook hook = hook_of(&probe);
  CHECK(hooks::add(hook, nullptr) == -EINVAL);
  hook.reclaim = nullptr;
  CHECK(hooks::add(hook, &id) == -EINVAL);
  hook = hook_of(&probe, "");
  CHECK(hooks::add(hook, &id) == -EINVAL);
  hook = hook_of(&probe, nullptr);
  CHECK(hooks::add(hook, &id) == -EINVAL);
  hook = hook_of(&probe);
  hook.context = 3;
  CHECK(hooks::add(hook, &id) == -EINVAL);
  hook = hook_of(&probe);
  hook.size = sizeof hook - 1;
  CHECK(hooks::add(hook, &id) == -EINVAL);
  CHECK(id == 77);
}

TEST_CASE("hooks: a request says what the round is about", "[hooks]") {
  Probe probe;
  probe.frees = 100;
  probe.answers = 100;
  REQUIRE(hooks::add(hook_of(&probe), &probe.id) == 0);
  pretended::allocate(100);
  const hooks::Outcome outcome = hooks::run(MEMLIMIT_INLINE, pass_for(500, 9));
  CHECK(outcome.calls == 1);
  CHECK(outcome.freed_bytes == 100);
  CHECK(probe.last.size == sizeof(memlimit_request));
  CHECK(probe.last.wanted_bytes == 500);
  CHECK(probe.last.usage_bytes == 900);
  CHECK(probe.last.limit_bytes == 1000);
  CHECK(probe.last.level == MEMLIMIT_CRITICAL);
  CHECK(probe.last.round == 9);
  CHECK(probe.last.deadline_ns > 0);
  CHECK(hooks::remove(probe.id) == 0);
  CHECK(hooks::remove(probe.id) == -ENOENT);
}

TEST_CASE("hooks: a hook that claims what it did not free is not believed", "[hooks]") {
  Probe liar;
  liar.answers = 1'000'000;
  REQUIRE(hooks::add(hook_of(&liar, "liar"), &liar.id) == 0);
  CHECK(hooks::run(MEMLIMIT_INLINE, pass_for(500)).freed_bytes == 0);
  const HookRow row = row_of(liar.id);
  CHECK(row.calls == 1);
  CHECK(row.freed_bytes == 0);
  CHECK(hooks::remove(liar.id) == 0);
}

TEST_CASE("hooks: a round stops as soon as enough is free", "[hooks]") {
  Probe probes[3];
  for (Probe& probe : probes) {
    probe.frees = probe.answers = 400;
    REQUIRE(hooks::add(hook_of(&probe), &probe.id) == 0);
  }
  pretended::allocate(800);
  const hooks::Outcome outcome = hooks::run(MEMLIMIT_INLINE, pass_for(700));
  CHECK(outcome.calls == 2);
  CHECK(outcome.freed_bytes == 800);
  CHECK(probes[0].calls + probes[1].calls + probes[2].calls == 2);
  for (Probe& probe : probes) CHECK(hooks::remove(probe.id) == 0);
}

TEST_CASE("hooks: 'cannot now' and exceptions are skips, and the others run", "[hooks]") {
  Probe busy, thrower, good;
  busy.answers = MEMLIMIT_CANNOT_NOW;
  good.frees = good.answers = 10;
  REQUIRE(hooks::add(hook_of(&busy, "busy"), &busy.id) == 0);
  REQUIRE(hooks::add(hook_of(&thrower, "thrower",
                             [](const memlimit_request*, void*) -> int64_t {
                               throw std::runtime_error("from a hook");
                             }),
                     &thrower.id) == 0);
  REQUIRE(hooks::add(hook_of(&good, "good"), &good.id) == 0);
  pretended::allocate(10);
  const hooks::Outcome outcome = hooks::run(MEMLIMIT_INLINE, pass_for(10));
  CHECK(outcome.skips == 2);
  CHECK(outcome.freed_bytes == 10);
  CHECK(row_of(busy.id).last_result == MEMLIMIT_CANNOT_NOW);
  CHECK(row_of(busy.id).skips == 1);
  for (Probe* probe : {&busy, &thrower, &good}) CHECK(hooks::remove(probe->id) == 0);
}

TEST_CASE("hooks: allocations inside a hook start nothing", "[hooks]") {
  Probe probe;
  REQUIRE(hooks::add(hook_of(&probe, "inside",
                             [](const memlimit_request*, void* arg) -> int64_t {
                               static_cast<Probe*>(arg)->calls =
                                   memlimit::ReentryGuard::inside() ? 1 : -1;
                               return 0;
                             }),
                     &probe.id) == 0);
  hooks::run(MEMLIMIT_INLINE, pass_for(1));
  CHECK(probe.calls == 1);
  CHECK_FALSE(memlimit::ReentryGuard::inside());
  CHECK(hooks::remove(probe.id) == 0);
}

TEST_CASE("hooks: a hook may add and remove hooks, itself included", "[hooks]") {
  static memlimit_hook_id own = 0, added = 0;
  static int removed = -1, again = -1;
  const memlimit_hook hook{
      sizeof(memlimit_hook), "self", MEMLIMIT_INLINE,
      [](const memlimit_request*, void*) -> int64_t {
        Probe* const none = nullptr;
        hooks::add(
            hook_of(none, "by a hook", [](const memlimit_request*, void*) -> int64_t { return 0; }),
            &added);
        removed = hooks::remove(own);
        again = hooks::remove(own);
        return 0;
      },
      nullptr};
  REQUIRE(hooks::add(hook, &own) == 0);
  hooks::run(MEMLIMIT_INLINE, pass_for(1));
  CHECK(removed == 0);
  CHECK(again == -ENOENT);
  CHECK(hooks::remove(own) == -ENOENT);
  CHECK(row_of(own).id == 0);
  CHECK(hooks::remove(added) == 0);
}

TEST_CASE("hooks: removal waits for a hook that is running", "[hooks][threads]") {
  struct Gate {
    std::atomic<bool> entered{false}, leave{false}, left{false};
  } gate;
  memlimit_hook_id id = 0;
  const memlimit_hook hook{sizeof(memlimit_hook), "slow", MEMLIMIT_INLINE,
                           [](const memlimit_request*, void* arg) -> int64_t {
                             auto* const at = static_cast<Gate*>(arg);
                             at->entered.store(true);
                             while (!at->leave.load()) std::this_thread::yield();
                             at->left.store(true);
                             return 0;
                           },
                           &gate};
  REQUIRE(hooks::add(hook, &id) == 0);
  std::thread runner([] { hooks::run(MEMLIMIT_INLINE, pass_for(1)); });
  while (!gate.entered.load()) std::this_thread::yield();
  bool left_before_removed = false;
  std::thread remover([&] {
    CHECK(hooks::remove(id) == 0);
    left_before_removed = gate.left.load();
  });
  // A second thread may not run it meanwhile.
  CHECK(hooks::run(MEMLIMIT_INLINE, pass_for(1)).calls == 0);
  gate.leave.store(true);
  remover.join();
  runner.join();
  CHECK(left_before_removed);
}

TEST_CASE("hooks: one that runs past its deadline is told once, by slot", "[hooks][threads]") {
  std::atomic<int> stage{0};
  memlimit_hook_id id = 0;
  const memlimit_hook hook{sizeof(memlimit_hook), "hangs", MEMLIMIT_INLINE,
                           [](const memlimit_request*, void* arg) -> int64_t {
                             auto* const at = static_cast<std::atomic<int>*>(arg);
                             at->store(1);
                             while (at->load() != 2) std::this_thread::yield();
                             return 0;
                           },
                           &stage};
  REQUIRE(hooks::add(hook, &id) == 0);
  hooks::Pass pass = pass_for(1);
  pass.budget_ns = 0;
  const int64_t overruns_before = hooks::sums().overruns;
  std::thread runner([&] { hooks::run(MEMLIMIT_INLINE, pass); });
  while (stage.load() != 1) std::this_thread::yield();
  const int64_t later_ns = memlimit::os::monotonic_ns() + 1'000'000;
  CHECK(hooks::overrun_due_ns() < later_ns);
  hooks::Overrun overrun{};
  REQUIRE(hooks::take_overrun(later_ns, &overrun));
  CHECK(overrun.ran_ns > 0);
  CHECK(overrun.round == pass.round);
  char name[32];
  REQUIRE(hooks::name_of(overrun.slot, name, sizeof name));
  CHECK(std::string(name) == "hangs");
  CHECK_FALSE(hooks::take_overrun(later_ns, &overrun));
  CHECK(hooks::overrun_due_ns() == INT64_MAX);
  CHECK(hooks::sums().overruns == overruns_before + 1);
  CHECK(hooks::sums().running == 1);
  CHECK(hooks::sums().running_ns > 0);
  stage.store(2);
  runner.join();
  CHECK(hooks::sums().overruns == overruns_before + 1);
  CHECK(hooks::sums().running == 0);
  CHECK(hooks::remove(id) == 0);
}

TEST_CASE("hooks: the sixty-fifth is refused, and a freed slot is not the same id", "[hooks]") {
  Probe probe;
  std::vector<memlimit_hook_id> ids;
  memlimit_hook_id id = 0;
  while (hooks::add(hook_of(&probe, "a name that is longer than thirty-one bytes"), &id) == 0) {
    ids.push_back(id);
  }
  CHECK(ids.size() == hooks::kMaxHooks);
  CHECK(hooks::add(hook_of(&probe), &id) == -ENOSPC);
  CHECK(strlen(row_of(ids[0]).name) == 31);
  CHECK(hooks::remove(ids[5]) == 0);
  REQUIRE(hooks::add(hook_of(&probe), &id) == 0);
  CHECK(id != ids[5]);
  CHECK(hooks::remove(ids[5]) == -ENOENT);
  ids[5] = id;
  for (const memlimit_hook_id each : ids) CHECK(hooks::remove(each) == 0);
  CHECK(hooks::count(MEMLIMIT_INLINE) == 0);
}
