/* Nodes, published totals, allowances. See account.h.
 *
 * Free nodes are a Treiber stack of indices with a tag against ABA; nodes are never unmapped, so a
 * stale read of next_free reads a number, not freed memory.
 */
#include "engine/account.h"

#include <algorithm>

#include "system/os.h"

namespace memlimit {

constinit ThreadNode unowned_node{{-1}, {-1}};
MEMLIMIT_TLS ThreadState this_thread{&unowned_node, 0, ThreadPhase::kFresh, false, false, false,
                                     false,         0};

namespace account {
namespace {

constexpr uint32_t kFirstChunkNodes = 64;
constexpr uint32_t kChunkNodes = 512;
constexpr uint32_t kMaxChunks = 1024; /* about half a million threads at once */
constexpr int64_t kDefaultQuantumBytes = 64 << 10;

constinit ThreadNode first_chunk[kFirstChunkNodes]{};
constinit std::atomic<ThreadNode*> chunks[kMaxChunks]{};
constinit std::atomic<uint32_t> node_count{0}; /* nodes ever handed out */
constinit std::atomic<uint64_t> free_head{0};  /* tag << 32 | index + 1; 0 in the low half: empty */
constinit std::atomic<int32_t> live_threads{0};

/* The published sums share a line: they are written together, once a quantum. */
struct alignas(128) Published {
  std::atomic<int64_t> allocated{0};
  std::atomic<int64_t> freed{0};
  std::atomic<int64_t> heap_peak{0};
  std::atomic<uint64_t> publishes{0};
};
constinit Published published{};

/* Read at every publish, written rarely: not on the line above. */
struct alignas(128) Tuning {
  std::atomic<int64_t> quantum_bytes{kDefaultQuantumBytes};
  std::atomic<bool (*)() noexcept> arm_exit{nullptr};
};
constinit Tuning tuning{};

/* Threads without a node: after their destructors, or when half a million others live. */
constinit std::atomic<uint64_t> direct_allocated{0};
constinit std::atomic<uint64_t> direct_freed{0};

constinit std::atomic<int64_t> charged_in{0};
constinit std::atomic<int64_t> charged_out{0};

ThreadNode* node_at(uint32_t index) noexcept {
  if (index < kFirstChunkNodes) return &first_chunk[index];
  index -= kFirstChunkNodes;
  ThreadNode* const chunk = chunks[index / kChunkNodes].load(std::memory_order_acquire);
  return chunk == nullptr ? nullptr : &chunk[index % kChunkNodes];
}

ThreadNode* pop_free_node() noexcept {
  uint64_t head = free_head.load(std::memory_order_acquire);
  for (;;) {
    const auto slot = static_cast<uint32_t>(head);
    if (slot == 0) return nullptr;
    ThreadNode* const node = node_at(slot - 1);
    const uint64_t next = node->next_free.load(std::memory_order_relaxed);
    const uint64_t tag = (head >> 32) + 1;
    if (free_head.compare_exchange_weak(head, tag << 32 | next, std::memory_order_acq_rel,
                                        std::memory_order_acquire)) {
      return node;
    }
  }
}

void push_free_node(ThreadNode* node) noexcept {
  uint64_t head = free_head.load(std::memory_order_relaxed);
  uint64_t next;
  do {
    node->next_free.store(static_cast<uint32_t>(head), std::memory_order_relaxed);
    next = ((head >> 32) + 1) << 32 | (node->index + 1);
  } while (!free_head.compare_exchange_weak(head, next, std::memory_order_release,
                                            std::memory_order_relaxed));
}

/* Makes the chunk that holds the index; several threads may try, one mapping wins. */
bool ensure_chunk(uint32_t index) noexcept {
  if (index < kFirstChunkNodes) return true;
  const uint32_t chunk_index = (index - kFirstChunkNodes) / kChunkNodes;
  if (chunk_index >= kMaxChunks) return false;
  if (chunks[chunk_index].load(std::memory_order_acquire) != nullptr) return true;
  // Zero pages are valid nodes: every field starts at 0.
  void* const fresh = os::map_pages(kChunkNodes * sizeof(ThreadNode));
  if (fresh == nullptr) return false;
  ThreadNode* expected = nullptr;
  if (!chunks[chunk_index].compare_exchange_strong(expected, static_cast<ThreadNode*>(fresh),
                                                   std::memory_order_acq_rel)) {
    os::unmap_pages(fresh, kChunkNodes * sizeof(ThreadNode));
  }
  return true;
}

ThreadNode* take_node() noexcept {
  if (ThreadNode* const node = pop_free_node()) return node;
  uint32_t index = node_count.load(std::memory_order_relaxed);
  do {
    if (!ensure_chunk(index)) return nullptr;
  } while (!node_count.compare_exchange_weak(index, index + 1, std::memory_order_acq_rel));
  ThreadNode* const node = node_at(index);
  node->index = index;
  return node;
}

/* Marked before: pthread_setspecific() allocates for a key that is not among the first 32, and comes back here. */
void arm_exit() noexcept {
  const auto arm = tuning.arm_exit.load(std::memory_order_acquire);
  if (arm == nullptr || this_thread.exit_armed) return;
  this_thread.exit_armed = true;
  if (!arm()) this_thread.exit_armed = false;
}

MEMLIMIT_COLD bool register_thread() noexcept {
  ThreadNode* const node = take_node();
  if (node == nullptr) {
    this_thread.phase = ThreadPhase::kTornDown;
    return false;
  }
  node->owner_tid.store(os::thread_id(), std::memory_order_relaxed);
  this_thread.node = node;
  this_thread.phase = ThreadPhase::kLive;
  live_threads.fetch_add(1, std::memory_order_relaxed);
  return true;
}

void raise_peak(int64_t heap_bytes) noexcept {
  int64_t peak = published.heap_peak.load(std::memory_order_relaxed);
  while (heap_bytes > peak &&
         !published.heap_peak.compare_exchange_weak(peak, heap_bytes, std::memory_order_relaxed)) {
  }
}

int64_t charged_now() noexcept {
  const int64_t out = charged_out.load(std::memory_order_acquire);
  return charged_in.load(std::memory_order_acquire) - out;
}

void add_published(int64_t allocated_bytes, int64_t freed_bytes) noexcept {
  // Relaxed: the sums are estimates between publishes; nothing is inferred from their order.
  const int64_t allocated =
      published.allocated.fetch_add(allocated_bytes, std::memory_order_relaxed) + allocated_bytes;
  const int64_t freed =
      freed_bytes == 0
          ? published.freed.load(std::memory_order_relaxed)
          : published.freed.fetch_add(freed_bytes, std::memory_order_relaxed) + freed_bytes;
  raise_peak(allocated - freed - charged_now());
}

/* A node's counts, as far as its owner has got. */
uint64_t allocated_of(const ThreadNode& node) noexcept {
  return node.allocated_end.load(std::memory_order_relaxed) -
         static_cast<uint64_t>(node.allocatable.load(std::memory_order_relaxed));
}
uint64_t freed_of(const ThreadNode& node) noexcept {
  auto freeable = static_cast<uint64_t>(node.freeable.load(std::memory_order_acquire));
  // A free of a block whose size is still being looked up has not happened yet.
  constexpr auto kUnknown = -static_cast<int64_t>(kUnknownBytes / 4 * 3);
  if (static_cast<int64_t>(freeable) < kUnknown) freeable += kUnknownBytes;
  return node.freed_end.load(std::memory_order_relaxed) - freeable;
}

/* Reads one of the counts while the owner may be changing both of its words. The owner is inside for a
 * few instructions; if it was stopped there (or killed: the node is then wrong for ever, by one quantum
 * at most), the reader does not wait for it. */
template <typename Count>
uint64_t read_count(const ThreadNode& node, Count count) noexcept {
  constexpr int kTries = 1000;
  uint64_t value = 0;
  for (int i = 0; i < kTries; ++i) {
    const uint32_t before = node.sequence.load(std::memory_order_acquire);
    value = count(node);
    std::atomic_thread_fence(std::memory_order_acquire);
    if ((before & 1) == 0 && node.sequence.load(std::memory_order_relaxed) == before) break;
  }
  return value;
}

/* Gives the owner a new allowance from where its counts stand. */
void set_allowance(ThreadNode* node, uint64_t allocated, uint64_t freed) noexcept {
  const int64_t quantum = tuning.quantum_bytes.load(std::memory_order_relaxed);
  const bool own = node == this_thread.node;
  const int64_t freeable = own && this_thread.looks_at_every_free ? -1 : quantum;
  const int64_t allocatable = own && this_thread.looks_at_every_allocation ? -1 : quantum;
  const uint32_t sequence = node->sequence.load(std::memory_order_relaxed) | 1;
  node->sequence.store(sequence, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  node->allocated_end.store(allocated + static_cast<uint64_t>(allocatable),
                            std::memory_order_relaxed);
  node->freed_end.store(freed + static_cast<uint64_t>(freeable), std::memory_order_relaxed);
  node->allocatable.store(allocatable, std::memory_order_relaxed);
  node->freeable.store(freeable, std::memory_order_relaxed);
  node->sequence.store(sequence + 1, std::memory_order_release);
}

/* Publishes what the owner has counted, and these bytes on top. */
void publish_node(ThreadNode* node, uint64_t more_allocated, uint64_t more_freed) noexcept {
  // Read as others do: a signal handler may end the allowance in between.
  const uint64_t allocated = read_count(*node, allocated_of) + more_allocated;
  const uint64_t freed = freed_of(*node) + more_freed;
  const auto allocated_bytes = static_cast<int64_t>(allocated - node->published_allocated);
  const auto freed_bytes = static_cast<int64_t>(freed - node->published_freed);
  node->published_allocated = allocated;
  node->published_freed = freed;
  set_allowance(node, allocated, freed);
  add_published(allocated_bytes, freed_bytes);
}

/* The bytes are counted already for a thread that has a node, and for no other. */
void publish_bytes(uint64_t allocated_bytes, uint64_t freed_bytes, bool counted) noexcept {
  const bool had_node = this_thread.phase == ThreadPhase::kLive;
  if (!had_node && (this_thread.phase == ThreadPhase::kTornDown || !register_thread())) {
    direct_allocated.fetch_add(allocated_bytes, std::memory_order_relaxed);
    direct_freed.fetch_add(freed_bytes, std::memory_order_release);
    add_published(static_cast<int64_t>(allocated_bytes), static_cast<int64_t>(freed_bytes));
    return;
  }
  if (!this_thread.exit_armed) arm_exit();
  if (had_node && counted) allocated_bytes = freed_bytes = 0;
  publish_node(this_thread.node, allocated_bytes, freed_bytes);
  published.publishes.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

void publish_allocated(uint64_t bytes) noexcept { publish_bytes(bytes, 0, true); }
void publish_freed(uint64_t bytes) noexcept { publish_bytes(0, bytes, true); }
void publish() noexcept { publish_bytes(0, 0, true); }

void uncount_allocated(uint64_t bytes) noexcept {
  if (this_thread.phase != ThreadPhase::kLive) return;
  take(this_thread.node->allocatable, -bytes);
}

void look_at_next_allocation() noexcept {
#if defined(__x86_64__) && !MEMLIMIT_THREAD_SANITIZER
  if (this_thread.phase != ThreadPhase::kLive) return;
  ThreadNode& node = *this_thread.node;
  const uint32_t sequence = node.sequence.load(std::memory_order_relaxed);
  // Interrupted in giving itself an allowance, the thread is about to look.
  if ((sequence & 1) != 0) return;
  const int64_t rest = node.allocatable.load(std::memory_order_relaxed);
  // Where it returns true each time, so far below that a publish is due.
  const int64_t quantum = tuning.quantum_bytes.load(std::memory_order_relaxed);
  const int64_t due = this_thread.looks_at_every_allocation ? -quantum - 1 : -1;
  if (rest <= due) return;
  // Both words by the same number: what was counted stays. By one instruction, as everywhere, so it does not
  // matter where the thread was interrupted.
  node.sequence.store(sequence + 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  const auto taken = static_cast<uint64_t>(rest - due);
  node.allocated_end.store(node.allocated_end.load(std::memory_order_relaxed) - taken,
                           std::memory_order_relaxed);
  take(node.allocatable, taken);
  node.sequence.store(sequence + 2, std::memory_order_release);
#endif
}

bool recount_freed(uint64_t bytes) noexcept {
  if (this_thread.phase != ThreadPhase::kLive) return true;
  // Only the owner writes here.
  ThreadNode& node = *this_thread.node;
  const bool large = bytes >= kMostBytes;
  // The end first: a reader in between sees the free, and only once.
  if (large) {
    const uint64_t end = node.freed_end.load(std::memory_order_relaxed);
    node.freed_end.store(end + bytes, std::memory_order_release);
  }
  const auto back = static_cast<int64_t>(kUnknownBytes - (large ? 0 : bytes));
  const int64_t left = node.freeable.load(std::memory_order_relaxed) + back;
  node.freeable.store(left, std::memory_order_release);
  return large || left < 0;
}

void look_at_every_free(bool on) noexcept {
  this_thread.looks_at_every_free = on;
  publish();
}

void look_at_every_allocation(bool on) noexcept {
  this_thread.looks_at_every_allocation = on && this_thread.phase == ThreadPhase::kLive;
}

bool publish_is_due() noexcept {
  const int64_t quantum = tuning.quantum_bytes.load(std::memory_order_relaxed);
  return this_thread.node->freeable.load(std::memory_order_relaxed) < -quantum ||
         this_thread.node->allocatable.load(std::memory_order_relaxed) < -quantum;
}

int64_t own_net_freed() noexcept {
  if (this_thread.phase != ThreadPhase::kLive) return 0;
  return static_cast<int64_t>(freed_of(*this_thread.node) - allocated_of(*this_thread.node));
}

int own_tid() noexcept {
  if (this_thread.phase != ThreadPhase::kLive) return os::thread_id();
  return this_thread.node->owner_tid.load(std::memory_order_relaxed);
}

void charge(int64_t bytes) noexcept {
  // In both orders the heap (usage less charges) reads too low for a moment, never too high: a peak that
  // never was would stay in the statistics for ever.
  if (bytes >= 0) {
    charged_in.fetch_add(bytes, std::memory_order_release);
    publish_bytes(static_cast<uint64_t>(bytes), 0, false);
  } else {
    // Negated as unsigned: -INT64_MIN does not exist as a signed number.
    const uint64_t off = -static_cast<uint64_t>(bytes);
    publish_bytes(0, off, false);
    charged_out.fetch_add(static_cast<int64_t>(off), std::memory_order_release);
  }
}

Totals totals() noexcept {
  uint32_t count = node_count.load(std::memory_order_acquire);
  Totals sum{};
  // Frees first, allocations second: a block that is freed while we walk may be missed as freed, but a
  // free is never seen without its allocation. Concurrent work can only make usage look too high.
  sum.charged_out_bytes = charged_out.load(std::memory_order_acquire);
  uint64_t freed = direct_freed.load(std::memory_order_acquire);
  for (uint32_t i = 0; i < count; ++i) {
    if (const ThreadNode* node = node_at(i)) freed += read_count(*node, freed_of);
  }
  uint64_t allocated = direct_allocated.load(std::memory_order_acquire);
  // Again: a thread that came meanwhile may have allocated what one of the above has freed.
  count = node_count.load(std::memory_order_acquire);
  for (uint32_t i = 0; i < count; ++i) {
    if (const ThreadNode* node = node_at(i)) allocated += read_count(*node, allocated_of);
  }
  sum.charged_in_bytes = charged_in.load(std::memory_order_acquire);
  sum.allocated_bytes = static_cast<int64_t>(allocated);
  sum.freed_bytes = static_cast<int64_t>(freed);
  sum.charged_bytes = sum.charged_in_bytes - sum.charged_out_bytes;
  return sum;
}

int64_t published_usage_bytes() noexcept {
  const int64_t freed = published.freed.load(std::memory_order_relaxed);
  return published.allocated.load(std::memory_order_relaxed) - freed;
}

int64_t published_allocated_bytes() noexcept {
  return published.allocated.load(std::memory_order_relaxed);
}

int64_t published_freed_bytes() noexcept { return published.freed.load(std::memory_order_relaxed); }

int64_t heap_peak_bytes() noexcept { return published.heap_peak.load(std::memory_order_relaxed); }
void note_peak(int64_t heap_bytes) noexcept { raise_peak(heap_bytes); }

void set_quantum_bytes(int64_t bytes) noexcept {
  tuning.quantum_bytes.store(std::max<int64_t>(bytes, 1), std::memory_order_relaxed);
}
int64_t quantum_bytes() noexcept { return tuning.quantum_bytes.load(std::memory_order_relaxed); }

int thread_count() noexcept { return live_threads.load(std::memory_order_relaxed); }
uint64_t publish_count() noexcept { return published.publishes.load(std::memory_order_relaxed); }

void thread_exit() noexcept {
  if (this_thread.phase != ThreadPhase::kLive) return;
  ThreadNode* const node = this_thread.node;
  publish_node(node, 0, 0);
  node->owner_tid.store(0, std::memory_order_relaxed);
  this_thread.node = &unowned_node;
  this_thread.phase = ThreadPhase::kTornDown;
  this_thread.looks_at_every_allocation = false;
  live_threads.fetch_sub(1, std::memory_order_relaxed);
  push_free_node(node);
}

void set_thread_exit_arm(bool (*arm)() noexcept) noexcept {
  tuning.arm_exit.store(arm, std::memory_order_release);
}

void for_each_live_node(void (*visit)(const ThreadNode&, void*), void* arg) noexcept {
  const uint32_t count = node_count.load(std::memory_order_acquire);
  for (uint32_t i = 0; i < count; ++i) {
    const ThreadNode* const node = node_at(i);
    if (node != nullptr && node->owner_tid.load(std::memory_order_relaxed) != 0) visit(*node, arg);
  }
}

namespace {

void reset_after_fork() noexcept {
  // In the child of a hook this is a thread as any other, and a new service thread may keep blocks beside it.
  this_thread.looks_at_every_free = false;
  this_thread.is_service = false;
  const uint32_t count = node_count.load(std::memory_order_acquire);
  for (uint32_t i = 0; i < count; ++i) {
    ThreadNode* const node = node_at(i);
    if (node == nullptr) continue;
    // An owner that was inside set_allowance() had published all it had counted; one that was inside
    // publish_node() had perhaps not told it all, so what is published starts from what is counted.
    const bool torn = (node->sequence.load(std::memory_order_relaxed) & 1) != 0;
    if (!torn) {
      node->published_allocated = allocated_of(*node);
      node->published_freed = freed_of(*node);
    }
    set_allowance(node, node->published_allocated, node->published_freed);
    if (node == this_thread.node) continue;
    if (node->owner_tid.exchange(0, std::memory_order_relaxed) == 0) continue;
    push_free_node(node);
  }
  const bool live = this_thread.phase == ThreadPhase::kLive;
  live_threads.store(live ? 1 : 0, std::memory_order_relaxed);
  if (live) this_thread.node->owner_tid.store(os::thread_id(), std::memory_order_relaxed);
  const Totals sum = totals();
  published.allocated.store(sum.allocated_bytes, std::memory_order_relaxed);
  published.freed.store(sum.freed_bytes, std::memory_order_relaxed);
  published.heap_peak.store(sum.heap_bytes(), std::memory_order_relaxed);
  published.publishes.store(0, std::memory_order_relaxed);
}

}  // namespace

constinit const fork::Part kForkPart{.name = "account", .reset = reset_after_fork};

}  // namespace account
}  // namespace memlimit
