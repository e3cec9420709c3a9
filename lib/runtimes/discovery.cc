/* See discovery.h. */
#include "runtimes/discovery.h"

#include <atomic>
#include <climits>
#include <cstring>

#include <dlfcn.h>
#include <link.h>

#include "engine/fork.h"
#include "engine/paced.h"
#include "observe/event_ring.h"
#include "runtimes/adapter.h"
#include "runtimes/adapters.h"
#include "runtimes/attached.h"
#include "runtimes/left_out.h"
#include "system/os.h"

namespace memlimit::runtimes::discovery {
namespace {

constexpr size_t kCount = kAdapterCount;

/* A dlopen that was noticed may still be under way: looked at again after so long. */
constexpr int64_t kLookAgainNs[] = {10'000'000, 100'000'000, 1'000'000'000, 10'000'000'000};
constexpr int kLooks = sizeof kLookAgainNs / sizeof kLookAgainNs[0];

constinit LoaderCalls loader_calls{};
constinit std::atomic<uint32_t> handled_calls{0};
constinit std::atomic<int64_t> look_again_ns{0};
constinit int looks = 0;                    /* service thread */
constinit unsigned long long seen_adds = 0; /* service thread */

/* Where the code of a runtime lies that wants to know when it loads something. Written before it is attached. */
struct CodeRange {
  uintptr_t begin = 0;
  uintptr_t end = 0;
};
constinit CodeRange code_ranges[kCount]{};

/* How often the service thread looks whether the fork is over. */
constexpr int64_t kForkPauseNs = 1'000'000;

bool is_missing(size_t index) noexcept {
  return attached::is_wanted(index) && !attached::is(index);
}

/* On the thread that loads, outside of everything of ours. An adapter's function may jump out of it. */
void before_dlopen(const void* caller) {
  const auto address = reinterpret_cast<uintptr_t>(caller);
  for (size_t i = 0; i < kCount; ++i) {
    if (!attached::is(i) || address < code_ranges[i].begin || address >= code_ranges[i].end)
      continue;
    kAdapters[i]->on_dlopen();
  }
}

bool try_attach(size_t index, const ElfImage& image) noexcept {
  if (!is_missing(index) || image.symbol(kAdapters[index]->landmark) == nullptr) return false;
  const Adapter& adapter = *kAdapters[index];
  if (!adapter.attach(image)) {
    left_out::note(index, adapter.why_not != nullptr ? adapter.why_not(image)
                                                     : left_out::Why::kUnknownVersion);
    return false;
  }
  left_out::note(index, left_out::Why::kNone);
  if (kAdapters[index]->on_dlopen != nullptr) {
    code_ranges[index] = {image.begin(), image.end()};
    loader_calls.listener->store(before_dlopen, std::memory_order_release);
  }
  attached::add(index);
  // malloc sees a small part of such a heap.
  paced::set_hint(paced::Hint::kRuntimeHeap, true);
  emit(EventKind::kAdapterAttached, static_cast<int64_t>(index));
  return true;
}

/* dl_iterate_phdr on the service thread, never while a process forks: the loader holds a lock for it that the child
 * does not get back. */
int walk_list(int (*visit)(dl_phdr_info*, size_t, void*), void* arg) noexcept {
  for (;;) {
    {
      const fork::Inside inside;
      if (inside) return dl_iterate_phdr(visit, arg);
    }
    fork::gate().wait_until_open(kForkPauseNs);
  }
}

/* Runtimes that are not to be attached, or cannot be. */
void note_left_out(const ElfImage& image) noexcept {
  for (size_t i = 0; i < kCount; ++i) {
    if (attached::is_wanted(i) || image.symbol(kAdapters[i]->landmark) == nullptr) continue;
    left_out::note(
        i, attached::waits_for_its_name(i) ? left_out::Why::kNotNamed : left_out::Why::kUnwanted);
  }
  left_out::look_at(image);
}

int attach_all(dl_phdr_info* info, size_t, void*) {
  ElfImage image;
  if (!image.open(*info)) return 0;
  for (size_t i = 0; i < kCount; ++i) try_attach(i, image);
  note_left_out(image);
  return 0;
}

int note_all_left_out(dl_phdr_info* info, size_t, void*) {
  ElfImage image;
  if (image.open(*info)) note_left_out(image);
  return 0;
}

/* A library that may be a runtime but may not have been relocated yet. */
struct Candidate {
  size_t index = kCount;
  char path[PATH_MAX];
};

int find_candidate(dl_phdr_info* info, size_t, void* arg) {
  auto& candidate = *static_cast<Candidate*>(arg);
  ElfImage image;
  if (!image.open(*info)) return 0;
  for (; candidate.index < kCount; ++candidate.index) {
    if (is_missing(candidate.index) &&
        image.symbol(kAdapters[candidate.index]->landmark) != nullptr) {
      const size_t size = strlen(image.path()) + 1;
      if (size > sizeof candidate.path) continue;
      memcpy(candidate.path, image.path(), size);
      return 1;
    }
  }
  candidate.index = 0;
  return 0;
}

int attach_candidate(dl_phdr_info* info, size_t, void* arg) {
  const auto& candidate = *static_cast<const Candidate*>(arg);
  ElfImage image;
  if (!image.open(*info) || strcmp(image.path(), candidate.path) != 0) return 0;
  return try_attach(candidate.index, image) ? 1 : 0;
}

/* Whether libraries were loaded since the last time, going by the loader's own count. */
bool libraries_were_added() noexcept {
  unsigned long long adds = 0;
  walk_list(
      [](dl_phdr_info* info, size_t, void* arg) {
        *static_cast<unsigned long long*>(arg) = info->dlpi_adds;
        return 1;
      },
      &adds);
  const bool added = adds != seen_adds;
  seen_adds = adds;
  return added;
}

}  // namespace

bool is_due() noexcept {
  if (loader_calls.count == nullptr) return false;
  if (loader_calls.count->load(std::memory_order_relaxed) !=
      handled_calls.load(std::memory_order_relaxed)) {
    return true;
  }
  const int64_t at = look_again_ns.load(std::memory_order_relaxed);
  return at != 0 && os::monotonic_ns() >= at;
}

void run() noexcept {
  const uint32_t calls = loader_calls.count->load(std::memory_order_relaxed);
  if (handled_calls.exchange(calls, std::memory_order_relaxed) != calls) looks = 0;
  const bool again = looks < kLooks;
  look_again_ns.store(again ? os::monotonic_ns() + kLookAgainNs[looks] : 0,
                      std::memory_order_relaxed);
  looks += again ? 1 : 0;
  if (!libraries_were_added()) return;
  Candidate candidate;
  candidate.index = 0;
  while (walk_list(find_candidate, &candidate) == 1) {
    // The loader lets us in when the dlopen that brought the library is through: it is then relocated
    // and its constructors have run. The handle is kept, so it stays for ever.
    if (dlopen(candidate.path, RTLD_NOLOAD | RTLD_LAZY) != nullptr) {
      walk_list(attach_candidate, &candidate);
    }
    if (++candidate.index >= kCount) break;
  }
  walk_list(note_all_left_out, nullptr);
}

void begin(const LoaderCalls& calls) noexcept {
  loader_calls = calls;
  handled_calls.store(calls.count->load(std::memory_order_relaxed), std::memory_order_relaxed);
  dl_iterate_phdr(attach_all, nullptr);
}

}  // namespace memlimit::runtimes::discovery
