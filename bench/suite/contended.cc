/* The pair loop on several threads that share nothing: any slowdown against one thread is
 * contention inside the allocator. Iterations are per thread.
 *
 * Usage: contended [iterations] [threads]
 */
#include <thread>
#include <vector>

#include "common.h"

int main(int argc, char** argv) {
  const uint64_t iterations = bench::arg_number(argc, argv, 1, 40'000'000);
  const uint64_t threads = bench::arg_number(argc, argv, 2, 2);
  std::vector<uint64_t> sums(threads * 8);  // 64 bytes apart: no cache line of ours is shared
  std::vector<std::thread> workers;
  for (uint64_t t = 0; t < threads; ++t) {
    workers.emplace_back(
        [&sums, iterations, t] { sums[t * 8] = bench::run_pairs(iterations, t + 1); });
  }
  uint64_t sum = 0;
  for (uint64_t t = 0; t < threads; ++t) {
    workers[t].join();
    sum += sums[t * 8];
  }
  bench::report(iterations * threads, sum);
}
