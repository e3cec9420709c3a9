#include "settings/options.h"

namespace memlimit {
namespace {

enum class State { kActive, kLater };

struct Row {
  const char* name;
  const char* fallback;
  const char* sentence;
  State state;
};

constexpr Row kRows[] = {
#define MEMLIMIT_OPTION(id, name, kind, unit, fallback, state, sentence) \
  {name, fallback, sentence, State::state},
#include "settings/options.inc"
#undef MEMLIMIT_OPTION
};

const Row& row_of(Option option) noexcept { return kRows[static_cast<int>(option)]; }

}  // namespace

const char* option_name(Option option) noexcept { return row_of(option).name; }
const char* option_default(Option option) noexcept { return row_of(option).fallback; }
const char* option_sentence(Option option) noexcept { return row_of(option).sentence; }
bool option_has_effect(Option option) noexcept { return row_of(option).state == State::kActive; }

}  // namespace memlimit
