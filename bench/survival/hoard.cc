// Threads that each handle one large request and then wait: what they freed lies in their caches.
//
// usage: hoard THREADS MIB
//
// One after the other each of THREADS builds MIB MiB of small blocks, frees all but one in a thousand (what a
// session keeps), and sleeps until all have had their turn. Needs one request at a time.
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

namespace {

std::mutex lock;
std::condition_variable changed;
int turn = 0;

void handle(int mib, std::vector<char*>* kept) {
  std::vector<char*> blocks;
  size_t total = 0;
  for (size_t i = 0; total < static_cast<size_t>(mib) << 20; ++i) {
    const size_t size = 64 + i * 2654435761U % 2000;
    char* const block = static_cast<char*>(malloc(size));
    if (block == nullptr) abort();
    memset(block, 1, size);
    blocks.push_back(block);
    total += size;
  }
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (i % 1000 == 999) {
      kept->push_back(blocks[i]);
    } else {
      free(blocks[i]);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const int threads = atoi(argv[1]), mib = atoi(argv[2]);
  std::vector<std::thread> all;
  for (int i = 0; i < threads; ++i) {
    all.emplace_back([i, mib, threads] {
      std::vector<char*> kept;
      std::unique_lock<std::mutex> guard(lock);
      changed.wait(guard, [i] { return turn == i; });
      guard.unlock();
      handle(mib, &kept);
      guard.lock();
      ++turn;
      changed.notify_all();
      changed.wait(guard, [threads] { return turn == threads; });
      guard.unlock();
      for (char* block : kept) free(block);
    });
  }
  for (std::thread& thread : all) thread.join();
  puts("done");
  return 0;
}
