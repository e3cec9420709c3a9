/* Buffers of three sizes, each with a lock-free list of spare ones that any thread may take and refill: an INLINE hook
 * empties the lists inside malloc, touching nothing but their atomic heads, and usage stays under the limit although the
 * lists alone would pass it. An example of memlimit.hpp. */
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <thread>

#include "check.h"
#include "memlimit.hpp"

namespace {

constexpr std::int64_t kMiB = std::int64_t{1} << 20;
constexpr std::int64_t kLimitBytes = 32 * kMiB;
constexpr std::int64_t kBurstBytes = 12 * kMiB; /* a thread's buffers in use at a time */
constexpr size_t kSizes[] = {1000, 4000, 16000};

struct Buffer {
  Buffer* next;
  size_t bytes;
};

/* Whole chains go in and out: no node is looked at by two threads, so there is no ABA problem. */
class FreeList {
 public:
  Buffer* take_all() { return head_.exchange(nullptr, std::memory_order_acquire); }
  void put(Buffer* first, Buffer* last) {
    last->next = head_.load(std::memory_order_relaxed);
    while (!head_.compare_exchange_weak(last->next, first, std::memory_order_release,
                                        std::memory_order_relaxed)) {
    }
  }

 private:
  std::atomic<Buffer*> head_{nullptr};
};

FreeList spare[3];
std::atomic<int> calls{0};

/* Runs inside malloc, on whichever thread needs memory: nothing but atomics, and nodes that nobody else can reach. */
std::int64_t empty_lists(const memlimit::request& request) {
  ++calls;
  std::int64_t freed = 0;
  for (FreeList& list : spare) {
    if (freed >= request.wanted_bytes) break;
    for (Buffer* buffer = list.take_all(); buffer != nullptr;) {
      Buffer* const next = buffer->next;
      freed += static_cast<std::int64_t>(buffer->bytes);
      std::free(buffer);
      buffer = next;
    }
  }
  return freed;
}

/* Uses 12 MiB of buffers of a size, spare ones first, and leaves them to whoever is next. */
void burst(size_t size, FreeList* list) {
  Buffer* stock = list->take_all();
  Buffer* first = nullptr;
  Buffer* last = nullptr;
  for (std::int64_t bytes = 0; bytes < kBurstBytes; bytes += static_cast<std::int64_t>(size)) {
    Buffer* buffer = stock;
    if (buffer != nullptr) {
      stock = buffer->next;
    } else {
      buffer = static_cast<Buffer*>(std::malloc(size));
      CHECK(buffer != nullptr);
      buffer->bytes = size;
    }
    if (last == nullptr) last = buffer;
    buffer->next = first;
    first = buffer;
  }
  list->put(first, last);
  while (stock != nullptr) {
    Buffer* const next = stock->next;
    list->put(stock, stock);
    stock = next;
  }
}

void bursts(int count) {
  for (int i = 0; i < count; ++i) burst(kSizes[i % 3], &spare[i % 3]);
}

}  // namespace

int main() {
  need_library();
  CHECK_EQ(memlimit::limit(), kLimitBytes);
  {
    const memlimit::hook hook{"spare buffers", empty_lists, memlimit::context::inline_};
    CHECK(hook.registered());
    /* The thread that allocates is the one that frees: usage passes the limit by no more than the quanta allow. */
    bursts(30);
    CHECK(calls >= 10);
    CHECK(memlimit::stats().heap_peak <= kLimitBytes + 2 * kMiB);
    CHECK(memlimit::stats().reclaimed >= 100 * kMiB);

    /* While one thread empties the lists others go on, as far as they get. */
    std::thread threads[3];
    for (std::thread& thread : threads) thread = std::thread([] { bursts(30); });
    for (std::thread& thread : threads) thread.join();
    bursts(3);
    CHECK(memlimit::stats().heap_alloc <= kLimitBytes);
  }
  memlimit::request all;
  all.wanted_bytes = INT64_MAX;
  empty_lists(all);
  CHECK(memlimit::stats().heap_alloc <= kMiB);
  return 0;
}
