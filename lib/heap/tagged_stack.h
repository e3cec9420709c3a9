/* A lock-free stack of records that are never unmapped (Treiber's, with a tag against ABA).
 *
 * Records lie on page boundaries, so the head has room for a tag: 12 bits below the address and 16 above it. A thread
 * would have to sleep in pop() through an exact multiple of 2^28 pushes to be deceived.
 * Threads: all. Node needs a member std::atomic<Node*> next_free.
 */
#pragma once

#include <atomic>
#include <cstdint>

namespace memlimit::heap {

template <typename Node>
class TaggedStack {
 public:
  void push(Node* node) noexcept {
    uint64_t head = head_.load(std::memory_order_relaxed);
    do {
      node->next_free.store(node_of(head), std::memory_order_relaxed);
      // Release: who pops the node sees what was written to it.
    } while (!head_.compare_exchange_weak(head, pack(node, head), std::memory_order_release,
                                          std::memory_order_relaxed));
  }

  Node* pop() noexcept {
    uint64_t head = head_.load(std::memory_order_acquire);
    for (;;) {
      Node* const node = node_of(head);
      if (node == nullptr) return nullptr;
      // The node may be somebody else's by now: then the tag differs, and what was read does not matter.
      Node* const next = node->next_free.load(std::memory_order_relaxed);
      if (head_.compare_exchange_weak(head, pack(next, head), std::memory_order_acquire))
        return node;
    }
  }

 private:
  static constexpr uint64_t kAddress = 0x0000'ffff'ffff'f000;

  static Node* node_of(uint64_t head) noexcept { return reinterpret_cast<Node*>(head & kAddress); }

  /* The tag of `before`, plus one. */
  static uint64_t pack(Node* node, uint64_t before) noexcept {
    const uint64_t tag = ((before & 0xfff) | before >> 48 << 12) + 1;
    return reinterpret_cast<uint64_t>(node) | (tag & 0xfff) | tag >> 12 << 48;
  }

  std::atomic<uint64_t> head_{0};
};

}  // namespace memlimit::heap
