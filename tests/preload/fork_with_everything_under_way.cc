/* A parent forks again and again, at its limit: two threads fill a cache and wait for rounds, an ASYNC and a POLL hook
 * evict, a client reads the socket or leaves in the middle, every round writes to the log. Each child does one of the
 * things that children do, and must end by itself. The count of forks is the argument; a long run is started by hand.
 *
 * No thread of the parent exits while it forks: mimalloc 2 does not survive that (README), and another program tries it.
 */
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <array>
#include <atomic>
#include <string>
#include <thread>

#include "check.h"

extern char** environ;

namespace {

constexpr unsigned kHangGuardSeconds = 120;
constexpr size_t kSlots = 32768; /* some 40 MiB */

/* The cache. Whoever forks takes its lock along, so that it is free in the child. */
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
std::array<void*, kSlots> slots;
size_t hand;

std::atomic<bool> stop{false};
std::atomic<int> answers{0};
std::atomic<int> async_calls{0};
int poll_calls;

void lock_cache() { CHECK_EQ(pthread_mutex_lock(&lock), 0); }
void unlock_cache() { CHECK_EQ(pthread_mutex_unlock(&lock), 0); }

void put_some(uint64_t* random) {
  for (int i = 0; i < 200; ++i) {
    void* block = malloc(256 + next_random(random) % 2048);
    CHECK(block != nullptr);
    *static_cast<volatile char*>(block) = 1;
    lock_cache();
    std::swap(block, slots[next_random(random) % kSlots]);
    unlock_cache();
    free(block);
  }
}

int64_t evict(const memlimit_request* request, void* calls) {
  if (calls != nullptr) ++*static_cast<std::atomic<int>*>(calls);
  int64_t freed = 0;
  lock_cache();
  for (size_t looked = 0; looked < kSlots && freed < request->wanted_bytes; ++looked) {
    void*& slot = slots[hand++ % kSlots];
    freed += static_cast<int64_t>(malloc_usable_size(slot));
    free(slot);
    slot = nullptr;
  }
  unlock_cache();
  return freed;
}

int64_t evict_polled(const memlimit_request* request, void*) {
  ++poll_calls;
  return evict(request, nullptr);
}

memlimit_hook_id add_hook(const char* name, memlimit_context context,
                          decltype(memlimit_hook::reclaim) call, void* arg) {
  const memlimit_hook hook = {sizeof hook, name, context, call, arg};
  memlimit_hook_id id = 0;
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
  return id;
}

void ask(const sockaddr_un& address, const std::string& request, bool to_the_end) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(fd >= 0);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
      send(fd, request.data(), request.size(), MSG_NOSIGNAL) > 0 && to_the_end) {
    std::array<char, 4096> piece;
    ssize_t first = recv(fd, piece.data(), piece.size(), 0), more = first;
    CHECK(first <= 6 || memcmp(piece.data(), "limit ", 6) == 0);
    while (more > 0) more = recv(fd, piece.data(), piece.size(), 0);
    if (first > 0) ++answers;
  }
  close(fd);
}

void run_client(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  CHECK(path.size() < sizeof address.sun_path);
  memcpy(address.sun_path, path.data(), path.size());
  while (!stop.load(std::memory_order_relaxed)) {
    ask(address, "stat\n", true);
    ask(address, "events\n", false);
  }
}

std::string socket_path() {
  std::string path = getenv("MEMLIMIT_SOCKET");
  const size_t at = path.find("%p");
  CHECK(at != std::string::npos);
  return path.replace(at, 2, std::to_string(getpid()));
}

void spawn_true() {
  char name[] = "true";
  char* const arguments[] = {name, nullptr};
  pid_t pid;
  int status = 0;
  CHECK_EQ(posix_spawn(&pid, "/bin/true", nullptr, nullptr, arguments, environ), 0);
  CHECK_EQ(waitpid(pid, &status, 0), pid);
  CHECK_EQ(status, 0);
}

[[noreturn]] void run_child(int number) {
  alarm(kHangGuardSeconds);
  uint64_t random = static_cast<uint64_t>(number) + 1;
  switch (number % 6) {
    case 0:
      _exit(0);
    case 1: {
      std::thread other([] {
        uint64_t seed = 99;
        put_some(&seed);
      });
      put_some(&random);
      other.join();
      exit(0);
    }
    case 2:
      execl("/bin/true", "true", nullptr);
      _exit(1);
    case 3: {
      put_some(&random);
      const pid_t grandchild = fork();
      CHECK(grandchild >= 0);
      put_some(&random);
      if (grandchild == 0) _exit(0);
      int status = 0;
      CHECK_EQ(waitpid(grandchild, &status, 0), grandchild);
      CHECK_EQ(status, 0);
      _exit(0);
    }
    case 4:
      spawn_true();
      _exit(0);
    default: {
      CHECK_EQ(stats_now().forks, 1);
      const int64_t calls_before = stats_now().hook_calls;
      const memlimit_hook_id id = add_hook("child", MEMLIMIT_ASYNC, evict, nullptr);
      CHECK(memlimit_reclaim(1 << 20) > 0);
      CHECK(stats_now().hook_calls > calls_before);
      CHECK_EQ(memlimit_hook_remove(id), 0);
      _exit(0);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  need_library();
  const int forks = argc > 1 ? atoi(argv[1]) : 120;
  CHECK_EQ(pthread_atfork(lock_cache, unlock_cache, unlock_cache), 0);
  add_hook("async", MEMLIMIT_ASYNC, evict, &async_calls);
  add_hook("polled", MEMLIMIT_POLL, evict_polled, nullptr);
  const auto fill = [](uint64_t seed) {
    while (!stop.load(std::memory_order_relaxed)) put_some(&seed);
  };
  std::thread first(fill, 1), second(fill, 2), client(run_client, socket_path());
  uint64_t random = 4711;
  while (stats_now().rounds == 0) put_some(&random);
  for (int number = 0; number < forks; ++number) {
    memlimit_poll();
    put_some(&random);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) run_child(number);
    int status = 0;
    CHECK_EQ(waitpid(child, &status, 0), child);
    if (status != 0)
      finish_saying(kFailedStatus, "child %d, of kind %d: status %#x", number, number % 6, status);
  }
  // On a busy machine the client may not have had its turn yet.
  while (answers == 0 || async_calls == 0 || poll_calls == 0) {
    memlimit_poll();
    put_some(&random);
  }
  stop = true;
  first.join();
  second.join();
  client.join();
  return 0;
}
