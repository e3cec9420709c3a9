/* A leak with a hook that cannot help: a million small blocks that nobody frees, 100 malloc+free
 * pairs after each, and an async hook that works for a while and frees nothing. What counts is how
 * much of its speed without a limit the program keeps, and that the limiter says so.
 *
 * Usage: leak [iterations] [microseconds of work in the hook]
 */
#include "limit_common.h"

namespace {

struct Hook {
  int64_t work_ns;
  std::atomic<int64_t> cpu_ns{0};
};

int64_t useless(const memlimit_request*, void* arg) {
  auto* hook = static_cast<Hook*>(arg);
  const int64_t begin_ns = bench::clock_ns(CLOCK_THREAD_CPUTIME_ID);
  int64_t spent_ns = 0;
  while ((spent_ns = bench::clock_ns(CLOCK_THREAD_CPUTIME_ID) - begin_ns) < hook->work_ns) {
  }
  hook->cpu_ns += spent_ns;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t iterations = bench::arg_number(argc, argv, 1, 1'000'000);
  static Hook hook;
  hook.work_ns = static_cast<int64_t>(bench::arg_number(argc, argv, 2, 1000)) * 1000;
  bench::add_async_hook("useless", useless, &hook);
  bench::Rng rng(1);
  char* last =
      nullptr;  // each leaked block points to the one before: reachable, so nobody's mistake
  uint64_t sum = 0;
  const int64_t begin_ns = bench::now_ns();
  for (uint64_t i = 0; i < iterations; ++i) {
    const size_t size = rng.between(64, 447);
    char* block = bench::must_malloc(size);
    std::memset(block, 0, size);
    std::memcpy(block, &last, sizeof last);
    last = block;
    sum += bench::run_pairs(100, i + 1);
  }
  bench::keep(last);
  const auto elapsed_ns = static_cast<double>(bench::now_ns() - begin_ns);
  bench::print("iterations_per_s", static_cast<double>(iterations) * 1e9 / elapsed_ns);
  bench::print("checksum", static_cast<int64_t>(sum));
  bench::print_stats(hook.cpu_ns);
  return 0;
}
