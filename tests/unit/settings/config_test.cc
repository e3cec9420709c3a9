/* What a Config says beyond its fields. */
#include "settings/config.h"

#include <catch2/catch.hpp>

#include "support/settings.h"

using memlimit::test::parse;
using memlimit::test::Parsed;

TEST_CASE("config: adapters are wanted by name", "[config]") {
  CHECK(adapter_wanted(parse({}).config, "v8"));
  CHECK_FALSE(adapter_wanted(parse({"MEMLIMIT_ADAPTERS=none"}).config, "v8"));
  const Parsed list = parse({"MEMLIMIT_ADAPTERS=cpython,v8"});
  CHECK(adapter_wanted(list.config, "v8"));
  CHECK(adapter_wanted(list.config, "cpython"));
  CHECK_FALSE(adapter_wanted(list.config, "v"));
  CHECK_FALSE(adapter_wanted(list.config, "sqlite"));
}
