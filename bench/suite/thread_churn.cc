/* Short-lived threads, a few at a time: what creating and ending a thread costs in the allocator.
 * Each makes 100 malloc+free pairs and leaves one block behind, which main frees. Iterations are
 * threads in all.
 *
 * Usage: thread_churn [iterations] [threads at a time]
 */
#include <algorithm>
#include <thread>
#include <vector>

#include "common.h"

int main(int argc, char** argv) {
  const uint64_t total = bench::arg_number(argc, argv, 1, 10'000);
  const uint64_t at_a_time = bench::arg_number(argc, argv, 2, 4);
  struct Result {
    uint64_t checksum;
    char* left_behind;
  };
  std::vector<Result> results(at_a_time);
  uint64_t sum = 0;
  for (uint64_t done = 0; done < total; done += at_a_time) {
    const uint64_t wave = std::min(at_a_time, total - done);
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < wave; ++t) {
      threads.emplace_back([&result = results[t], seed = done + t + 1] {
        result.checksum = bench::run_pairs(100, seed);
        result.left_behind = bench::must_malloc(100);
      });
    }
    for (uint64_t t = 0; t < wave; ++t) {
      threads[t].join();
      sum += results[t].checksum;
      std::free(results[t].left_behind);
    }
  }
  bench::report(total, sum);
}
