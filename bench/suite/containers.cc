/* What C++ programs do all day: maps, hash tables, lists and strings that grow, are searched and
 * shrink. Strings are 8-71 characters, so most of them are on the heap. An iteration is a turn of
 * all containers.
 *
 * Usage: containers [iterations]
 */
#include <list>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "common.h"

namespace {

std::string text(bench::Rng& rng) {
  const uint64_t bits = rng.next();
  return std::string(8 + (bits >> 40 & 63), static_cast<char>('a' + (bits >> 32) % 26));
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t iterations = bench::arg_number(argc, argv, 1, 1'000'000);
  constexpr uint64_t kKeys = 20'000;
  bench::Rng rng(1);
  std::map<uint64_t, std::string> tree;
  std::unordered_map<uint64_t, std::string> table;
  std::list<std::string> queue;
  std::vector<std::string> words;
  uint64_t sum = 0;
  for (uint64_t i = 0; i < iterations; ++i) {
    const uint64_t key = rng.between(0, kKeys - 1);
    if (const auto found = tree.find(key); found != tree.end()) {
      sum += found->second.size();
      tree.erase(found);
    } else {
      tree.emplace(key, text(rng));
    }
    table[rng.between(0, kKeys - 1)] = text(rng);
    if (i % 4 == 0) table.erase(rng.between(0, kKeys - 1));
    queue.push_back(text(rng));
    if (queue.size() > 1000) {
      sum += queue.front().size();
      queue.pop_front();
    }
    words.push_back(text(rng));
    if (words.size() > 5000) {
      sum += words[i % words.size()].size();
      words = {};
    }
  }
  bench::report(iterations, sum + tree.size() + table.size());
}
