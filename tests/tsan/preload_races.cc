/* Everything that threads do to libmemlimit.so at once, for the thread sanitizer to look at: blocks handed from thread
 * to thread, threads that come and go, hooks of each context that come and go, rounds, assists, purges, another limit
 * every few milliseconds, statistics by call and by socket, mappings. Run by itself, with the library's path.
 *
 * The library is loaded with dlopen and called by address: preloaded, it would be malloc for the sanitizer, too.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "check.h"

namespace {

constexpr int kTurns = 300;
constexpr size_t kSlots = 4096;

/* The library's own, whatever else is called so. */
struct Library {
  explicit Library(const char* path) : handle(dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
    if (handle == nullptr) finish_saying(kFailedStatus, "%s", dlerror());
    find(malloc, "malloc");
    find(calloc, "calloc");
    find(realloc, "realloc");
    find(free, "free");
    find(posix_memalign, "posix_memalign");
    find(usable_size, "malloc_usable_size");
    find(trim, "malloc_trim");
    find(mmap, "mmap");
    find(munmap, "munmap");
    find(set, "memlimit_set");
    find(hook_add, "memlimit_hook_add");
    find(hook_remove, "memlimit_hook_remove");
    find(reclaim, "memlimit_reclaim");
    find(poll, "memlimit_poll");
    find(charge, "memlimit_charge");
    find(read_stats, "memlimit_read_stats");
  }

  template <typename Function>
  void find(Function*& function, const char* name) {
    function = reinterpret_cast<Function*>(dlsym(handle, name));
    CHECK(function != nullptr);
  }

  void* handle;
  decltype(::malloc)* malloc;
  decltype(::calloc)* calloc;
  decltype(::realloc)* realloc;
  decltype(::free)* free;
  decltype(::posix_memalign)* posix_memalign;
  size_t (*usable_size)(void*);
  int (*trim)(size_t);
  decltype(::mmap)* mmap;
  decltype(::munmap)* munmap;
  decltype(memlimit_set)* set;
  decltype(memlimit_hook_add)* hook_add;
  decltype(memlimit_hook_remove)* hook_remove;
  decltype(memlimit_reclaim)* reclaim;
  decltype(memlimit_poll)* poll;
  decltype(memlimit_charge)* charge;
  decltype(memlimit_read_stats)* read_stats;
};

const Library* library;
std::array<std::atomic<void*>, kSlots> slots;
std::atomic<bool> stop{false};
std::atomic<int> hook_calls{0}, answers{0};

memlimit_stats read_stats() {
  memlimit_stats stats{};
  CHECK_EQ(library->read_stats(&stats, sizeof stats), 0);
  return stats;
}

void churn(uint64_t* random, int steps) {
  for (int i = 0; i < steps; ++i) {
    const size_t bytes =
        next_random(random) % 16 == 0 ? next_random(random) % 200'000 : next_random(random) % 3'000;
    void* block = nullptr;
    switch (next_random(random) % 4) {
      case 0:
        block = library->calloc(1, bytes);
        break;
      case 1:
        CHECK_EQ(library->posix_memalign(&block, 64, bytes), 0);
        break;
      case 2:
        block = library->realloc(library->malloc(bytes / 2), bytes + 1);
        break;
      default:
        block = library->malloc(bytes);
    }
    library->free(slots[next_random(random) % kSlots].exchange(block));
  }
}

int64_t evict(const memlimit_request* request, void*) {
  ++hook_calls;
  int64_t freed = 0;
  for (auto& slot : slots) {
    if (freed >= request->wanted_bytes) break;
    void* const block = slot.exchange(nullptr);
    freed += static_cast<int64_t>(library->usable_size(block));
    library->free(block);
  }
  return freed;
}

void come_and_go(memlimit_context context) {
  for (int i = 0; i < kTurns; ++i) {
    const memlimit_hook hook = {sizeof hook, "evict", context, evict, nullptr};
    memlimit_hook_id id = 0;
    CHECK_EQ(library->hook_add(&hook, &id), 0);
    uint64_t random = static_cast<uint64_t>(i) + 1;
    churn(&random, 50);
    if (context == MEMLIMIT_POLL) library->poll();
    CHECK_EQ(library->hook_remove(id), 0);
  }
}

void change_the_limit() {
  for (int i = 0; i < kTurns; ++i) {
    CHECK(library->set(int64_t{i % 7 + 2} << 20) > 0);
    library->reclaim(i % 3 == 0 ? 0 : 100'000);
    library->charge(i % 2 == 0 ? 1'000'000 : -1'000'000);
    if (i % 10 == 0) library->trim(0);
    read_stats();
  }
}

void map_and_unmap() {
  for (int i = 0; i < kTurns; ++i) {
    void* const pages =
        library->mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED);
    CHECK_EQ(library->munmap(pages, 1 << 20), 0);
  }
}

void threads_that_exit() {
  for (int i = 0; i < kTurns; ++i) {
    std::thread([i] {
      uint64_t random = static_cast<uint64_t>(i) + 1;
      churn(&random, 30);
    }).join();
  }
}

void ask(const std::string& path, const char* request) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  CHECK(path.size() < sizeof address.sun_path);
  memcpy(address.sun_path, path.data(), path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(fd >= 0);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
      send(fd, request, strlen(request), MSG_NOSIGNAL) > 0) {
    std::array<char, 4096> piece;
    if (recv(fd, piece.data(), piece.size(), 0) > 0) ++answers;
  }
  close(fd);
}

void ask_on(const std::string& path) {
  while (!stop.load(std::memory_order_relaxed)) {
    for (const char* request : {"stat\n", "hooks\n", "metrics\n", "limit=5MiB\n", "events\n"})
      ask(path, request);
  }
}

}  // namespace

int main(int argc, char** argv) {
  CHECK_EQ(argc, 2);
  char directory[] = "/tmp/memlimit-races-XXXXXX";
  CHECK(mkdtemp(directory) != nullptr);
  const std::string name = directory;
  setenv("MEMLIMIT", "4MiB", 1);
  const std::string path = name + "/socket";
  setenv("MEMLIMIT_SOCKET", path.c_str(), 1);
  setenv("MEMLIMIT_LOG", ("debug:" + name + "/log").c_str(), 1);
  const Library loaded(argv[1]);
  library = &loaded;
  {
    std::thread client(ask_on, path);
    std::vector<std::thread> threads;
    for (const memlimit_context context : {MEMLIMIT_ASYNC, MEMLIMIT_POLL, MEMLIMIT_INLINE})
      threads.emplace_back(come_and_go, context);
    threads.emplace_back(change_the_limit);
    threads.emplace_back(map_and_unmap);
    threads.emplace_back(threads_that_exit);
    for (auto& thread : threads) thread.join();
    stop = true;
    client.join();
  }
  CHECK(read_stats().rounds > 0);
  CHECK(hook_calls > 0);
  CHECK(answers > 0);
  for (auto& slot : slots) library->free(slot.exchange(nullptr));
  unlink((name + "/log").c_str());
  unlink(path.c_str());
  rmdir(directory);
  return 0;
}
