/* See participants.h. The table only grows, so whoever walks it needs no lock: an entry is written before the count that
 * includes it. */
#include "engine/participants.h"

#include <atomic>

namespace memlimit::participants {
namespace {

constinit const Participant* table[kMax]{};
constinit std::atomic<size_t> filled{0};

/* Calls `visit` for each participant that has this function. */
template <typename Function, typename Visit>
void for_each(Function Participant::*function, Visit visit) noexcept {
  // Acquire: pairs with add(), whose entry is to be seen.
  const size_t count = filled.load(std::memory_order_acquire);
  for (size_t i = 0; i < count; ++i) {
    if (table[i]->*function != nullptr) visit(table[i]->*function);
  }
}

}  // namespace

bool add(const Participant& participant) noexcept {
  const size_t at = filled.load(std::memory_order_relaxed);
  if (at == kMax) return false;
  table[at] = &participant;
  filled.store(at + 1, std::memory_order_release);
  return true;
}

bool any() noexcept {
  bool found = false;
  for_each(&Participant::present, [&](auto present) { found = found || present(); });
  return found;
}

bool grows_unseen() noexcept {
  bool found = false;
  for_each(&Participant::grows_unseen, [&](auto grows) { found = found || grows(); });
  return found;
}

bool begin_round(const hooks::Pass& pass, int64_t began_ns, bool ends_round) noexcept {
  bool due = false;
  for_each(&Participant::begin_round,
           [&](auto begin) { due = begin(pass, began_ns, ends_round && !due) || due; });
  return due;
}

void visit_soon() noexcept {
  for_each(&Participant::visit_soon, [](auto visit) { visit(); });
}

void ask_if_wanted() noexcept {
  for_each(&Participant::ask_if_wanted, [](auto ask) { ask(); });
}

bool wants_service() noexcept {
  bool wanted = false;
  for_each(&Participant::wants_service, [&](auto wants) { wanted = wanted || wants(); });
  return wanted;
}

void limit_changed() noexcept {
  for_each(&Participant::limit_changed, [](auto changed) { changed(); });
}

size_t rows(HookRow* out, size_t cap) noexcept {
  size_t count = 0;
  for_each(&Participant::rows, [&](auto rows_of) { count += rows_of(out + count, cap - count); });
  return count;
}

hooks::Sums sums() noexcept {
  hooks::Sums all{};
  for_each(&Participant::sums, [&](auto sums_of) { all += sums_of(); });
  return all;
}

int count() noexcept {
  int all = 0;
  for_each(&Participant::count, [&](auto count_of) { all += count_of(); });
  return all;
}

size_t left_out(char* out, size_t cap) noexcept {
  TextWriter text(out, cap);
  for_each(&Participant::left_out, [&](auto tell) { tell(text); });
  return text.length();
}

const char* name_of(int64_t index) noexcept {
  const char* name = nullptr;
  for_each(&Participant::name_of, [&](auto of) {
    if (name == nullptr) name = of(index);
  });
  return name != nullptr ? name : "?";
}

}  // namespace memlimit::participants
