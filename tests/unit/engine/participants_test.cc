/* Participants: all are asked, each for what it has a part in, and the table is bounded. They stay for the rest of the
 * process, so these do nothing but while a test is on. */
#include "engine/participants.h"

#include <cstring>
#include <string>

#include <catch2/catch.hpp>

namespace participants = memlimit::participants;
using memlimit::HookRow;
using memlimit::Participant;
namespace hooks = memlimit::hooks;

namespace {

constinit bool on = false;
constinit int limits_seen = 0;
constinit int asked = 0;
constinit bool first_takes_part = false;
constinit bool second_takes_part = false;
constinit int may_end = 0; /* participants that were told to end the round */

size_t one_row(HookRow* out, size_t cap) noexcept {
  if (!on || cap == 0) return 0;
  *out = {};
  strncpy(out->name, "a runtime", sizeof out->name - 1);
  return 1;
}

bool take_part(bool takes_part, bool ends_round) noexcept {
  if (!on) return false;
  may_end += takes_part && ends_round ? 1 : 0;
  return takes_part;
}

constexpr Participant kFirst{
    .present = []() noexcept { return on; },
    .begin_round = [](const hooks::Pass&, int64_t,
                      bool ends) noexcept { return take_part(first_takes_part, ends); },
    .ask_if_wanted = []() noexcept { asked += 1; },
    .limit_changed = []() noexcept { limits_seen += 1; },
    .rows = one_row,
    .sums =
        []() noexcept {
          return on ? hooks::Sums{1, 2, 3} : hooks::Sums{};
        },
    .count = []() noexcept { return on ? 1 : 0; },
    .left_out =
        [](memlimit::TextWriter& out) noexcept {
          if (on) out.put("one (why)");
        },
    .name_of = [](int64_t index) noexcept -> const char* { return index == 7 ? "seven" : nullptr; },
};

constexpr Participant kSecond{
    .begin_round = [](const hooks::Pass&, int64_t,
                      bool ends) noexcept { return take_part(second_takes_part, ends); },
    .wants_service = []() noexcept { return on; },
    .limit_changed = []() noexcept { limits_seen += 1; },
    .rows = one_row,
    .sums =
        []() noexcept {
          return on ? hooks::Sums{10, 20, 30} : hooks::Sums{};
        },
    .count = []() noexcept { return on ? 2 : 0; },
    .name_of = [](int64_t index) noexcept -> const char* { return index == 8 ? "eight" : nullptr; },
};

constexpr Participant kNothing{};

/* While it lives they answer. */
class On {
 public:
  On() {
    static const bool added = participants::add(kFirst) && participants::add(kSecond);
    REQUIRE(added);
    on = true;
  }
  ~On() { on = first_takes_part = second_takes_part = false; }
  On(const On&) = delete;
  On& operator=(const On&) = delete;
};

}  // namespace

TEST_CASE("participants: all are asked for what they have a part in", "[participants]") {
  const On here;
  CHECK(participants::any());
  CHECK(participants::wants_service());
  CHECK(participants::count() == 3);
  const hooks::Sums sums = participants::sums();
  CHECK(sums.calls == 11);
  CHECK(sums.skips == 22);
  CHECK(sums.ns == 33);
  limits_seen = asked = 0;
  participants::limit_changed();
  participants::ask_if_wanted();
  CHECK(limits_seen == 2);
  CHECK(asked == 1);
}

TEST_CASE("participants: one of them ends the round, whoever takes part", "[participants]") {
  const On here;
  const hooks::Pass pass;
  CHECK_FALSE(participants::begin_round(pass, 0, true));
  for (const auto& [first, second] : {std::pair{true, false}, {false, true}, {true, true}}) {
    first_takes_part = first;
    second_takes_part = second;
    may_end = 0;
    CHECK(participants::begin_round(pass, 0, true));
    CHECK(may_end == 1);
    may_end = 0;
    CHECK(participants::begin_round(pass, 0, false));
    CHECK(may_end == 0);
  }
}

TEST_CASE("participants: rows never pass the end of the table", "[participants]") {
  const On here;
  HookRow rows[3];
  memset(rows, 'x', sizeof rows);
  CHECK(participants::rows(rows, 3) == 2);
  CHECK(std::string(rows[1].name) == "a runtime");
  CHECK(rows[2].name[0] == 'x');
  memset(rows, 'x', sizeof rows);
  CHECK(participants::rows(rows, 1) == 1);
  CHECK(rows[1].name[0] == 'x');
}

TEST_CASE("participants: a number has one name, or a question mark", "[participants]") {
  const On here;
  CHECK(std::string(participants::name_of(7)) == "seven");
  CHECK(std::string(participants::name_of(8)) == "eight");
  CHECK(std::string(participants::name_of(-1)) == "?");
}

TEST_CASE("participants: one more than there is room for takes no part", "[participants]") {
  const On here;
  while (participants::add(kNothing)) {
  }
  CHECK_FALSE(participants::add(kFirst));
  limits_seen = 0;
  participants::limit_changed();
  CHECK(limits_seen == 2);
}
