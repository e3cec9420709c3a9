/* The shape of go_ring/main.go for a program that frees by hand: a ring of 100,000 live blocks of
 * 256-2303 bytes, 4 million allocations. A block that falls out of the ring is garbage: like Go's,
 * it is not freed at once but by the collector, here an async hook that frees as much garbage as
 * it is asked for. With --direct each block is freed when it falls out: the floor for time and
 * memory.
 *
 * Usage: ring [--direct] [--csv FILE]
 */
#include <vector>

#include "limit_common.h"

namespace {

constexpr size_t kLive = 100'000;
constexpr uint64_t kAllocations = 4'000'000;

/** What a dead block holds. */
struct Garbage {
  Garbage* next;
  int64_t bytes;
};

/** A stack of dead blocks: the program pushes one at a time, the hook takes all there are. */
struct Heap {
  std::atomic<Garbage*> dead{nullptr};
  bench::HookClock clock;

  void push(Garbage* block) {
    block->next = dead.load(std::memory_order_relaxed);
    while (!dead.compare_exchange_weak(block->next, block, std::memory_order_release,
                                       std::memory_order_relaxed)) {
    }
  }
};

int64_t collect(const memlimit_request* request, void* arg) {
  auto* heap = static_cast<Heap*>(arg);
  const int64_t begin_ns = heap->clock.begin();
  int64_t freed = 0;
  // Taken in an earlier call and not needed then; hooks never run on two threads at once.
  static Garbage* kept = nullptr;
  while (freed < request->wanted_bytes) {
    if (kept == nullptr) kept = heap->dead.exchange(nullptr, std::memory_order_acquire);
    if (kept == nullptr) break;
    Garbage* block = kept;
    kept = block->next;
    freed += block->bytes;
    std::free(block);
  }
  heap->clock.end(begin_ns);
  return freed;
}

}  // namespace

int main(int argc, char** argv) {
  bool direct = false;
  const char* csv = nullptr;
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--direct") direct = true;
    if (std::string_view(argv[i]) == "--csv" && i + 1 < argc) csv = argv[++i];
  }
  static Heap heap;
  if (!direct) {
    if (!memlimit_is_loaded() || memlimit_get() == 0) {
      std::fprintf(stderr, "ring: without MEMLIMIT, say --direct\n");
      return 2;
    }
    bench::add_async_hook("garbage", collect, &heap);
  }
  bench::Sampler sampler(120);
  std::vector<char*> ring(kLive);
  std::vector<uint16_t> sizes(kLive);
  bench::Rng rng(1);
  const int64_t begin_ns = bench::now_ns();
  for (uint64_t i = 0; i < kAllocations; ++i) {
    char*& slot = ring[i % kLive];
    if (direct) {
      std::free(slot);
    } else if (slot != nullptr) {
      auto* garbage = reinterpret_cast<Garbage*>(slot);
      garbage->bytes = sizes[i % kLive];
      heap.push(garbage);
    }
    const size_t size = rng.between(256, 2303);
    slot = bench::must_malloc(size);
    std::memset(slot, 0, size);
    sizes[i % kLive] = static_cast<uint16_t>(size);
  }
  bench::print("seconds", static_cast<double>(bench::now_ns() - begin_ns) / 1e9);
  sampler.stop();
  bench::print_stats(heap.clock.spent_ns());
  if (csv != nullptr && !sampler.write_csv(csv)) {
    std::perror(csv);
    return 1;
  }
  return 0;
}
