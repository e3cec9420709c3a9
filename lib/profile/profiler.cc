/* See profiler.h. */
#include "profile/profiler.h"

#include <atomic>
#include <bit>

#include "profile/labels.h"
#include "profile/live_samples.h"
#include "profile/script_stack.h"
#include "profile/stack_walk.h"
#include "system/attributes.h"
#include "system/os.h"

namespace memlimit::profile {
namespace {

constinit Sites all_sites;
constinit LiveSamples live;
constinit Labels all_labels;
constinit std::atomic<const ScriptRuntime*> script{nullptr};
constinit CodeRange own{};
constinit std::atomic<int64_t> dropped_bytes{0};
/* Set before the first sample. */
constinit const std::atomic<uint32_t>* loads = nullptr;
/* Release: who sees it sees the tables. */
constinit std::atomic<FrameRules*> rules{nullptr};

/* The nearest whole number to one that is not negative. */
uint64_t rounded(double value) noexcept {
  const auto whole = static_cast<uint64_t>(value);
  return value - static_cast<double>(whole) < 0.5 ? whole : whole + 1;
}

/* exp(-x) for x >= 0: 2^-k times a series for the rest, below ln 2 / 2 in amount; the error is below 1e-12. */
double exp_of_minus(double x) noexcept {
  constexpr double kLn2 = 0.6931471805599453;
  if (x > 40) return 0;
  const auto k = static_cast<int>(rounded(x / kLn2));
  const double r = k * kLn2 - x;
  double sum = 1;
  for (int i = 12; i > 0; --i) sum = 1 + sum * r / i;
  return sum * std::bit_cast<double>(static_cast<uint64_t>(1023 - k) << 52);
}

/* A stack that is being made. */
struct Frames {
  uintptr_t addresses[kMaxFrames];
  int depth;
};

/* The interpreter's frames, from the first on, give way to those of what it interprets. */
void replace_interpreter(const ScriptRuntime& runtime, Frames& frames) noexcept {
  int first = 0;
  while (first < frames.depth &&
         (frames.addresses[first] < runtime.begin || frames.addresses[first] >= runtime.end))
    ++first;
  if (first == frames.depth) return;
  const int native_depth = frames.depth;
  frames.depth = first;
  runtime.frames(
      [](void* context, const char* text, size_t length) noexcept {
        auto& out = *static_cast<Frames*>(context);
        out.addresses[out.depth++] = all_labels.find_or_add({text, length});
        return out.depth < kMaxFrames;
      },
      &frames);
  // It could not be told: then the interpreter is better than nothing.
  if (frames.depth == first) frames.depth = native_depth;
}

}  // namespace

Ready prepare() noexcept {
  if (rules.load(std::memory_order_acquire) != nullptr) return Ready::kYes;
  if (!own_image(&own)) return Ready::kNoUnwinder;
  if (!all_sites.open() || !all_labels.open()) return Ready::kNoMemory;
  void* const table = os::map_pages(sizeof(FrameRules));
  if (table == nullptr) return Ready::kNoMemory;
  rules.store(static_cast<FrameRules*>(table), std::memory_order_release);
  return Ready::kYes;
}

uint64_t bytes_for(uint64_t block_bytes, uint64_t interval_bytes) noexcept {
  const double ratio = static_cast<double>(block_bytes) / static_cast<double>(interval_bytes);
  // 1 - exp(-x) loses digits where x is small; there it is x - x^2/2 + x^3/6 - ...
  const double probability =
      ratio < 1e-3 ? ratio * (1 - ratio / 2 * (1 - ratio / 3)) : 1 - exp_of_minus(ratio);
  return rounded(static_cast<double>(block_bytes) / probability);
}

bool sampled(void* block, uint64_t block_bytes, uint64_t interval_bytes) noexcept {
  FrameRules* const known = rules.load(std::memory_order_acquire);
  if (known == nullptr) return false;
  Frames frames;
  // Acquire: an image that lies there now was loaded before.
  const uint32_t now = loads != nullptr ? loads->load(std::memory_order_acquire) : 0;
  frames.depth = walk_stack(*known, own, now, frames.addresses, kMaxFrames);
  const ScriptRuntime* const runtime = script.load(std::memory_order_acquire);
  if (runtime != nullptr) replace_interpreter(*runtime, frames);
  LiveSample sample{Sites::kNoSite, block_bytes, bytes_for(block_bytes, interval_bytes)};
  if (frames.depth > 0) sample.site = all_sites.find_or_add(frames.addresses, frames.depth);
  if (MEMLIMIT_UNLIKELY(!live.insert(block, sample))) {
    dropped_bytes.fetch_add(static_cast<int64_t>(sample.bytes), std::memory_order_relaxed);
    return false;
  }
  all_sites.add(sample.site, sample.bytes, block_bytes);
  return true;
}

bool sample_freed(void* block) noexcept {
  LiveSample sample;
  if (!live.remove(block, &sample)) return false;
  all_sites.remove(sample.site, sample.bytes, sample.block_bytes);
  return true;
}

void follow_loads(const std::atomic<uint32_t>& count) noexcept { loads = &count; }

Figures figures() noexcept {
  return {live.count(), all_sites.count(), dropped_bytes.load(std::memory_order_relaxed)};
}

const Sites& sites() noexcept { return all_sites; }
const Labels& labels() noexcept { return all_labels; }

void set_script_runtime(const ScriptRuntime& runtime) noexcept {
  script.store(&runtime, std::memory_order_release);
}

const ScriptRuntime* script_runtime() noexcept { return script.load(std::memory_order_acquire); }

}  // namespace memlimit::profile
