/* A server that lives for ever with threads that do not: each thread serves a generation (replaces
 * random blocks of 10-500 bytes in its table of 1,000), then hands the table with its live blocks
 * to a new thread and exits. Blocks outlive the thread that made them and are freed by its
 * successors. Iterations are replacements per chain of threads; a generation is 20,000 of them.
 *
 * Usage: larson [iterations] [threads]
 */
#include <thread>
#include <vector>

#include "common.h"

namespace {

constexpr uint64_t kGeneration = 20'000;

struct Table {
  char* blocks[1000] = {};
  bench::Rng rng{1};
  uint64_t left = 0;
  uint64_t checksum = 0;
};

void serve(Table& table) {
  const uint64_t turns = table.left < kGeneration ? table.left : kGeneration;
  for (uint64_t i = 0; i < turns; ++i) {
    char*& block = table.blocks[table.rng.between(0, 999)];
    if (block != nullptr) table.checksum += static_cast<unsigned char>(*block);
    std::free(block);
    block = bench::must_malloc(table.rng.between(10, 500));
    *block = static_cast<char>(i);
  }
  table.left -= turns;
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t iterations = bench::arg_number(argc, argv, 1, 20'000'000);
  const uint64_t chains = bench::arg_number(argc, argv, 2, 2);
  std::vector<Table> tables(chains);
  for (uint64_t c = 0; c < chains; ++c) {
    tables[c].rng = bench::Rng(c + 1);
    tables[c].left = iterations;
  }
  // A generation of all chains at a time: joining in main keeps the number of live threads fixed,
  // and all chains have the same length.
  while (tables[0].left > 0) {
    std::vector<std::thread> generation;
    for (Table& table : tables) generation.emplace_back([&table] { serve(table); });
    for (std::thread& thread : generation) thread.join();
  }
  uint64_t sum = 0;
  for (Table& table : tables) {
    sum += table.checksum;
    for (char* block : table.blocks) std::free(block);
  }
  bench::report(iterations * chains, sum);
}
