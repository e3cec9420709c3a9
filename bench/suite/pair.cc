/* One thread, random malloc and free of 16-527 bytes in 64 slots: the bare fast path.
 *
 * Usage: pair [iterations]
 */
#include "common.h"

int main(int argc, char** argv) {
  const uint64_t iterations = bench::arg_number(argc, argv, 1, 100'000'000);
  bench::report(iterations, bench::run_pairs(iterations, 1));
}
