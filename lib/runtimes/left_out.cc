/* See left_out.h. */
#include "runtimes/left_out.h"

#include <atomic>

#include "observe/event_ring.h"
#include "runtimes/adapters.h"

namespace memlimit::runtimes::left_out {
namespace {

/* Runtimes that have no adapter, and a function that only an image of each defines. */
struct Runtime {
  const char* name;
  HashedName landmark;
};
constexpr Runtime kOthers[] = {
    {"lua", "lua_gc"},
    {"dotnet", "coreclr_initialize"},
};
constexpr size_t kOtherCount = sizeof kOthers / sizeof kOthers[0];
constexpr size_t kAll = kAdapterCount + kOtherCount;

/* Each stands for itself. */
constinit std::atomic<Why> found[kAll]{};

void write_down(size_t index, Why why) noexcept {
  const Why before = found[index].exchange(why, std::memory_order_relaxed);
  if (why != Why::kNone && before == Why::kNone) {
    emit(EventKind::kAdapterLeftOut, static_cast<int64_t>(index));
  }
}

const char* reason(Why why) noexcept {
  switch (why) {
    case Why::kNone:
      break;
    case Why::kUnwanted:
      return "MEMLIMIT_ADAPTERS leaves it out";
    case Why::kNotNamed:
      return "used only where MEMLIMIT_ADAPTERS names it";
    case Why::kUnknownVersion:
      return "its version is not known";
    case Why::kThreadSafe:
      return "a thread-safe build";
    case Why::kCompiledFunctions:
      return "opcache.jit compiles functions";
    case Why::kNoAdapter:
      return "no adapter: use its own limit";
    case Why::kCollectionsDisabled:
      return "the program disables explicit collections";
  }
  return "";
}

}  // namespace

void note(size_t adapter, Why why) noexcept { write_down(adapter, why); }

void look_at(const ElfImage& image) noexcept {
  for (size_t i = 0; i < kOtherCount; ++i) {
    const size_t index = kAdapterCount + i;
    if (found[index].load(std::memory_order_relaxed) != Why::kNone) continue;
    if (image.symbol(kOthers[i].landmark) != nullptr) write_down(index, Why::kNoAdapter);
  }
}

void tell(TextWriter& out) noexcept {
  for (size_t i = 0; i < kAll; ++i) {
    const Why why = found[i].load(std::memory_order_relaxed);
    if (why == Why::kNone) continue;
    if (out.length() > 0) out.put(", ");
    out.put(name_of(static_cast<int64_t>(i))).put(" (").put(reason(why)).put(')');
  }
}

const char* name_of(int64_t index) noexcept {
  if (index < 0 || index >= static_cast<int64_t>(kAll)) return nullptr;
  const auto at = static_cast<size_t>(index);
  return at < kAdapterCount ? kAdapters[at]->name : kOthers[at - kAdapterCount].name;
}

}  // namespace memlimit::runtimes::left_out
