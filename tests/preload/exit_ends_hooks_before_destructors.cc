/* What a hook works on may be destroyed by exit(): a hook that runs when main returns is waited for, and none runs after
 * that, however much memory the destructors ask for. */
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <vector>

#include "check.h"
#include "memlimit.h"

namespace {

std::atomic<bool> running{false};
std::atomic<bool> main_returns{false};
std::atomic<bool> gone{false};

struct Cache {
  ~Cache() {
    CHECK(!running.load());
    gone.store(true);
    CHECK(memlimit_reclaim(0) >= 0);
    CHECK_EQ(memlimit_poll(), 0);
    std::vector<char> more(std::size_t{64} << 20, 1);
    CHECK(more.size() != 0);
  }
};
Cache cache;

void sleep_ms(long ms) {
  const timespec time{0, ms * 1'000'000};
  nanosleep(&time, nullptr);
}

std::int64_t reclaim(const memlimit_request* request, void* arg) {
  if (gone.load()) std::abort();
  running.store(true);
  /* Longer than it takes main to return. */
  if (arg != nullptr) {
    while (!main_returns.load()) sleep_ms(1);
    sleep_ms(100);
  }
  if (gone.load()) std::abort();
  running.store(false);
  return request->wanted_bytes;
}

}  // namespace

int main() {
  int slow = 0;
  const memlimit_hook hooks[] = {
      {sizeof(memlimit_hook), "async", MEMLIMIT_ASYNC, reclaim, &slow},
      {sizeof(memlimit_hook), "poll", MEMLIMIT_POLL, reclaim, nullptr},
      {sizeof(memlimit_hook), "inline", MEMLIMIT_INLINE, reclaim, nullptr}};
  memlimit_hook_id ids[3];
  /* The last of them comes when its round is under way. */
  for (const int which : {1, 0}) CHECK_EQ(memlimit_hook_add(&hooks[which], &ids[which]), 0);
  std::vector<char> held(std::size_t{40} << 20, 1);
  CHECK(held.size() != 0);
  while (!running.load()) sleep_ms(1);
  CHECK_EQ(memlimit_hook_add(&hooks[2], &ids[2]), 0);
  main_returns.store(true);
  return 0;
}
