/* Producer and consumer: every block is freed by another thread than the one that allocated it.
 *
 * Blocks travel in batches of 256 through a ring of 16, so that the cost of handing over (a
 * semaphore a batch) is small beside 256 mallocs and frees. Threads are taken in pairs; iterations
 * are blocks a pair.
 *
 * Usage: cross_free [iterations] [threads]
 */
#include <array>
#include <memory>
#include <semaphore>
#include <thread>
#include <vector>

#include "common.h"

namespace {

constexpr size_t kBatchBlocks = 256;
constexpr size_t kRingBatches = 16;

struct Channel {
  std::array<std::array<char*, kBatchBlocks>, kRingBatches> ring{};
  std::counting_semaphore<kRingBatches> empty{kRingBatches};
  std::counting_semaphore<kRingBatches> full{0};
  uint64_t checksum = 0;
};

void produce(Channel& channel, uint64_t batches, uint64_t seed) {
  bench::Rng rng(seed);
  for (uint64_t i = 0; i < batches; ++i) {
    channel.empty.acquire();
    for (char*& block : channel.ring[i % kRingBatches]) {
      const uint64_t bits = rng.next();
      block = bench::must_malloc(16 + (bits >> 40 & 511));
      *block = static_cast<char>(bits >> 32);
    }
    channel.full.release();
  }
}

void consume(Channel& channel, uint64_t batches) {
  for (uint64_t i = 0; i < batches; ++i) {
    channel.full.acquire();
    for (char* block : channel.ring[i % kRingBatches]) {
      channel.checksum += static_cast<unsigned char>(*block);
      std::free(block);
    }
    channel.empty.release();
  }
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t batches = bench::arg_number(argc, argv, 1, 60'000'000) / kBatchBlocks + 1;
  const uint64_t pairs = (bench::arg_number(argc, argv, 2, 2) + 1) / 2;
  std::vector<std::unique_ptr<Channel>> channels;
  std::vector<std::thread> workers;
  for (uint64_t p = 0; p < pairs; ++p) {
    Channel& channel = *channels.emplace_back(std::make_unique<Channel>());
    workers.emplace_back([&channel, batches, p] { produce(channel, batches, p + 1); });
    workers.emplace_back([&channel, batches] { consume(channel, batches); });
  }
  for (std::thread& worker : workers) worker.join();
  uint64_t sum = 0;
  for (const auto& channel : channels) sum += channel->checksum;
  bench::report(batches * kBatchBlocks * pairs, sum);
}
