/* How the gap between rounds shrinks: a cache grows evenly towards the limit, and its async hook
 * notes when it is called and evicts what it is asked for.
 *
 * Fifteen of sixteen allocated bytes are freed again at once: a round comes due by bytes allocated,
 * not by growth. Prints a CSV row a call: usage in percent of the limit, bytes allocated and
 * milliseconds since the call before, bytes wanted, level. Ends after 20 times the limit.
 *
 * Usage: gap
 */
#include <malloc.h>

#include <deque>
#include <mutex>
#include <vector>

#include "limit_common.h"

namespace {

constexpr size_t kBlockBytes = 1024;
// The pace of allocation, so that what is allocated while the service thread wakes up is small
// beside the gaps: 64 KiB every quarter of a millisecond, 256 MiB/s.
constexpr int64_t kStepBytes = 64 << 10;
constexpr int64_t kStepNs = 250'000;
constexpr int64_t kTotalLimits = 20;

struct Call {
  double usage_pct;
  int64_t allocated_bytes;
  int64_t at_ns;
  int64_t wanted_bytes;
  int level;
};

struct Program {
  std::mutex mutex;
  std::deque<char*> live;  // under mutex
  uint64_t last_round = 0;
  std::vector<Call> calls;  // the hook's
  std::atomic<int64_t> allocated_bytes{0};
};

int64_t note(const memlimit_request* request, void* arg) {
  auto* program = static_cast<Program*>(arg);
  // A round may ask for its bytes in several calls.
  if (request->limit_bytes > 0 && request->round != program->last_round) {
    program->last_round = request->round;
    program->calls.push_back({static_cast<double>(request->usage_bytes) * 100.0 /
                                  static_cast<double>(request->limit_bytes),
                              program->allocated_bytes, bench::now_ns(), request->wanted_bytes,
                              request->level});
  }
  int64_t freed = 0;
  const std::lock_guard guard(program->mutex);
  while (freed < request->wanted_bytes && !program->live.empty()) {
    freed += static_cast<int64_t>(malloc_usable_size(program->live.front()));
    std::free(program->live.front());
    program->live.pop_front();
  }
  return freed;
}

}  // namespace

int main() {
  if (!memlimit_is_loaded() || memlimit_get() == 0) {
    std::fprintf(stderr, "gap: needs libmemlimit.so and MEMLIMIT\n");
    return 2;
  }
  static Program program;
  program.calls.reserve(1 << 20);
  const int64_t limit = memlimit_get();
  bench::add_async_hook("note", note, &program);
  int64_t due_ns = bench::now_ns();
  char* recent[15] = {};
  while (program.allocated_bytes < kTotalLimits * limit &&
         program.calls.size() < program.calls.capacity() - 1000) {
    for (int64_t done = 0; done < kStepBytes; done += 16 * static_cast<int64_t>(kBlockBytes)) {
      for (char*& block : recent) {
        std::free(block);
        block = bench::must_malloc(kBlockBytes);
      }
      char* kept = bench::must_malloc(kBlockBytes);
      program.allocated_bytes += 16 * static_cast<int64_t>(kBlockBytes);
      const std::lock_guard guard(program.mutex);
      program.live.push_back(kept);
    }
    due_ns += kStepNs;
    bench::sleep_until_ns(due_ns);
  }
  std::printf("usage_pct,gap_bytes,gap_ms,wanted,level\n");
  for (size_t i = 1; i < program.calls.size(); ++i) {
    const Call& before = program.calls[i - 1];
    const Call& call = program.calls[i];
    std::printf("%.3f,%" PRId64 ",%.3f,%" PRId64 ",%d\n", call.usage_pct,
                call.allocated_bytes - before.allocated_bytes,
                static_cast<double>(call.at_ns - before.at_ns) / 1e6, call.wanted_bytes,
                call.level);
  }
  std::fflush(stdout);
  _exit(0);  // the hook still holds on to `program`
}
