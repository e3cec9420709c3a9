/* C++ thread_local objects with heap-owning members are destroyed at thread exit, and their destructors allocate
 * anew; nothing crashes and nothing stays counted. */
#include <malloc.h>
#include <pthread.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "check.h"

namespace {

int destroyed = 0;

struct Local {
  std::vector<std::string> texts{20, std::string(500, 'x')};
  std::map<int, std::unique_ptr<int>> tree;
  ~Local() {
    for (int i = 0; i < 100; ++i) tree[i] = std::make_unique<int>(i);
    texts.emplace_back(100000, 'z');
    ++destroyed;
  }
};

thread_local Local first;

void* run(void*) {
  thread_local Local second;
  first.tree[1] = std::make_unique<int>(1);
  second.tree[2] = std::make_unique<int>(2);
  return nullptr;
}

alignas(4096) char stack_memory[256 << 10];

void run_thread() {
  pthread_attr_t attributes;
  pthread_t thread;
  CHECK_EQ(pthread_attr_init(&attributes), 0);
  CHECK_EQ(pthread_attr_setstack(&attributes, stack_memory, sizeof stack_memory), 0);
  CHECK_EQ(pthread_create(&thread, &attributes, run, nullptr), 0);
  CHECK_EQ(pthread_join(thread, nullptr), 0);
  pthread_attr_destroy(&attributes);
}

}  // namespace

int main() {
  settle();
  run_thread();
  const int64_t before = memlimit_is_loaded() ? stats_now().heap_alloc : 0;
  for (int i = 0; i < 200; ++i) run_thread();
  CHECK_EQ(destroyed, 402);
  if (memlimit_is_loaded()) CHECK_EQ(stats_now().heap_alloc, before);
  return 0;
}
