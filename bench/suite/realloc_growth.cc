/* Buffers that grow, as strings and vectors do: half by a random 1-256 bytes at every append (each
 * one a realloc), half by a quarter of their size when they are full, up to 256 KiB; then they
 * start anew. An iteration is one append.
 *
 * Usage: realloc_growth [iterations]
 */
#include <cstring>

#include "common.h"

namespace {

constexpr size_t kLargestBytes = 256 << 10;

struct Buffer {
  char* data = nullptr;
  size_t used = 0;
  size_t capacity = 0;
};

void grow(Buffer& buffer, size_t capacity) {
  void* bigger = std::realloc(buffer.data, capacity);
  if (bigger == nullptr) std::abort();
  buffer.data = static_cast<char*>(bigger);
  buffer.capacity = capacity;
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t iterations = bench::arg_number(argc, argv, 1, 20'000'000);
  Buffer buffers[32];
  bench::Rng rng(1);
  uint64_t sum = 0;
  for (uint64_t i = 0; i < iterations; ++i) {
    const uint64_t bits = rng.next();
    const size_t index = bits >> 59;
    Buffer& buffer = buffers[index];
    const size_t append = 1 + (bits >> 40 & 255);
    const size_t needed = buffer.used + append;
    if (needed > kLargestBytes) {
      sum += static_cast<unsigned char>(buffer.data[buffer.used / 2]);
      std::free(buffer.data);
      buffer = {};
      continue;
    }
    if (needed > buffer.capacity) {
      const bool exact = index % 2 == 0;
      grow(buffer, exact ? needed : needed + buffer.capacity / 4);
    }
    std::memset(buffer.data + buffer.used, static_cast<int>(bits & 255), append);
    buffer.used = needed;
  }
  for (Buffer& buffer : buffers) {
    sum += buffer.used;
    std::free(buffer.data);
  }
  bench::report(iterations, sum);
}
