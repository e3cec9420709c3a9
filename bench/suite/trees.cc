/* Binary trees: builds trees of 2^12 small nodes, walks them and frees them, while a tree of 2^18
 * nodes lives on. Unlike `pair` it uses the blocks: where the allocator puts neighbours decides
 * how fast the walks are.
 *
 * Usage: trees [iterations]
 */
#include "common.h"

namespace {

struct Node {
  Node* left;
  Node* right;
  uint64_t value;
};

Node* build(unsigned depth, uint64_t value) {
  auto* node = reinterpret_cast<Node*>(bench::must_malloc(sizeof(Node)));
  node->value = value;
  node->left = depth == 0 ? nullptr : build(depth - 1, 2 * value);
  node->right = depth == 0 ? nullptr : build(depth - 1, 2 * value + 1);
  return node;
}

uint64_t sum(const Node* node) {
  return node == nullptr ? 0 : node->value + sum(node->left) + sum(node->right);
}

void release(Node* node) {
  if (node == nullptr) return;
  release(node->left);
  release(node->right);
  std::free(node);
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t iterations = bench::arg_number(argc, argv, 1, 10'000);
  Node* old = build(18, 1);
  uint64_t total = 0;
  for (uint64_t i = 0; i < iterations; ++i) {
    Node* tree = build(12, i);
    total += sum(tree) + sum(tree);
    release(tree);
    if (i % 64 == 0) total += sum(old);
  }
  release(old);
  bench::report(iterations, total);
}
