/* A hook allocates (more than the limit, too), frees, throws and catches, registers and removes hooks, changes the limit,
 * charges, reads statistics; memlimit_reclaim and memlimit_poll inside it do nothing and answer 0. */
#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

#include "blocks.h"

namespace {

std::atomic<int> calls{0};

int64_t do_nothing(const memlimit_request*, void*) { return 0; }

int64_t use_everything(const memlimit_request* request, void*) {
  std::vector<std::string> texts;
  for (int i = 0; i < 300; ++i) texts.emplace_back(100000, 'x'); /* 30 MB under a limit of 16 */
  texts.clear();
  texts.shrink_to_fit();

  bool caught = false;
  try {
    if (request->round > 0) throw std::runtime_error("inside a hook");
  } catch (const std::exception& error) {
    caught = std::string(error.what()) == "inside a hook";
  }
  CHECK(caught);

  const memlimit_hook hook = {sizeof hook, "inner", MEMLIMIT_ASYNC, do_nothing, nullptr};
  memlimit_hook_id id = 0;
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
  CHECK_EQ(memlimit_hook_remove(id), 0);

  const int64_t limit = memlimit_get();
  CHECK_EQ(memlimit_set(limit + 1), limit);
  CHECK_EQ(memlimit_set(limit), limit + 1);
  memlimit_charge(1000);
  memlimit_charge(-1000);
  CHECK(stats_now().heap_alloc > 0);
  CHECK_EQ(memlimit_reclaim(0), 0);
  CHECK_EQ(memlimit_poll(), 0);
  ++calls;
  return 0;
}

}  // namespace

int main() {
  need_library();
  CHECK_EQ(memlimit_get(), 16 * kMiB);
  const memlimit_hook hook = {sizeof hook, "everything", MEMLIMIT_ASYNC, use_everything, nullptr};
  memlimit_hook_id id = 0;
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
  chain chain{};
  for (int turn = 0; turn < 3; ++turn) {
    chain_grow_by(&chain, 20 * kMiB, 10 * kKiB);
    memlimit_reclaim(0);
    chain_drop(&chain);
  }
  CHECK(calls >= 3);
  CHECK_EQ(memlimit_hook_remove(id), 0);
  return 0;
}
