/* A limit taken from the container: it follows when the container is resized, and no longer when the program has
 * set another. The container is a recorded tree. */
#include "engine/limit_setting.h"

#include <string>

#include <catch2/catch.hpp>

#include "engine/limit.h"
#include "engine/paced.h"
#include "engine/pressure.h"
#include "support/container.h"
#include "support/recorded_tree.h"

using Catch::Matchers::Contains;
namespace limit = memlimit::limit;
namespace limit_setting = memlimit::limit_setting;
namespace pressure = memlimit::pressure;
using memlimit::LimitKind;
using memlimit::LimitSetting;
using memlimit::LimitSource;

namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

/* Of 1 GiB at first, and a limit of 50 % of it. */
class Container : public memlimit::test::Container {
 public:
  Container() : memlimit::test::Container(50) { resize(1024 * kMiB); }
};

int64_t set(int64_t bytes) { return limit::set(bytes, LimitSource::kApi, "memlimit_set"); }

}  // namespace

TEST_CASE("limit: a share of the container follows its size", "[limit]") {
  Container container;
  CHECK(pressure::limit_bytes() == 512 * kMiB);
  container.resize(2048 * kMiB);
  CHECK(pressure::limit_bytes() == 1024 * kMiB);
}

TEST_CASE("limit: what the program has set outlasts a resize of the container", "[limit]") {
  for (const int64_t own : {int64_t{0}, 100 * kMiB}) {
    Container container;
    const int64_t before = set(own);
    CHECK(before == 512 * kMiB);
    container.resize(2048 * kMiB);
    CHECK(pressure::limit_bytes() == own);
    limit_setting::refresh();
    CHECK(pressure::limit_bytes() == own);
    // Put back as it was found, it is the container's again.
    set(before);
    limit_setting::refresh();
    CHECK(pressure::limit_bytes() == 1024 * kMiB);
    container.resize(512 * kMiB);
    CHECK(pressure::limit_bytes() == 256 * kMiB);
  }
}

TEST_CASE("limit: a share of a small container is that share", "[limit]") {
  Container container;
  container.resize(48 * kMiB);
  CHECK(pressure::limit_bytes() == 24 * kMiB);
}

TEST_CASE("limit: a share too small to work in is told once", "[limit]") {
  Container container;
  container.resize(48 * kMiB);
  char line[1280];
  bool problem = true;
  REQUIRE(limit_setting::take_news(line, sizeof line, &problem));
  CHECK_FALSE(problem);
  container.resize(2 * kMiB);
  REQUIRE(limit_setting::take_news(line, sizeof line, &problem));
  CHECK(problem);
  CHECK_THAT(line, Contains("MEMLIMIT=50% of 2 MiB is 1 MiB, too little for a program to work in"));
  container.resize(3 * kMiB);
  REQUIRE(limit_setting::take_news(line, sizeof line, &problem));
  CHECK_FALSE(problem);
}

TEST_CASE("limit: a share of the machine, where the container's memory cannot be told, is told",
          "[limit]") {
  memlimit::test::TreeDir directory;
  directory.lay_out(
      memlimit::test::read_tree(std::string(MEMLIMIT_TEST_DATA "/cgroup/not-mounted.tree")));
  limit_setting::apply({LimitKind::kPercent, 0, 80}, LimitSource::kSocket);
  limit_setting::container().find(directory.path().c_str());
  limit_setting::refresh();
  char line[1280];
  bool problem = false;
  REQUIRE(limit_setting::take_news(line, sizeof line, &problem));
  CHECK(problem);
  CHECK_THAT(line, Contains("limit=80% is of the machine's memory (7.75 GiB)"));
  CHECK_THAT(line, Contains("not mounted here"));
  CHECK_THAT(line, Contains("write a size (512MiB)"));
  limit_setting::apply(LimitSetting{}, LimitSource::kEnvironment);
  memlimit::paced::set_group(nullptr);
}
