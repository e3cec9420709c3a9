/* Runtimes that no round asks: each is told once, with its reason, and no longer when it is attached after all. */
#include "runtimes/left_out.h"

#include <string>

#include <dlfcn.h>

#include <catch2/catch.hpp>

#include "observe/event_ring.h"
#include "runtimes/adapters.h"

namespace left_out = memlimit::runtimes::left_out;
using left_out::Why;
using memlimit::Event;
using memlimit::EventKind;

namespace {

std::string told() {
  char text[256];
  memlimit::TextWriter out(text, sizeof text);
  left_out::tell(out);
  return text;
}

int count_events() {
  int count = 0;
  Event event;
  while (memlimit::process_events().pop(&event)) count += event.kind == EventKind::kAdapterLeftOut;
  return count;
}

}  // namespace

TEST_CASE("left_out: a runtime is named with its reason until it is attached", "[adapters]") {
  count_events();
  CHECK(told().empty());
  left_out::note(0, Why::kUnknownVersion);
  left_out::note(0, Why::kUnknownVersion);
  left_out::note(1, Why::kUnwanted);
  CHECK(told() == "cpython (its version is not known), ruby (MEMLIMIT_ADAPTERS leaves it out)");
  CHECK(count_events() == 2);
  left_out::note(0, Why::kNone);
  CHECK(told() == "ruby (MEMLIMIT_ADAPTERS leaves it out)");
  left_out::note(1, Why::kNone);
  CHECK(told().empty());
  CHECK(count_events() == 0);
}

TEST_CASE("left_out: events have a name for every number, adapters first", "[adapters]") {
  int64_t index = 0;
  for (const memlimit::runtimes::Adapter* const adapter : memlimit::runtimes::kAdapters) {
    CHECK(std::string(left_out::name_of(index++)) == adapter->name);
  }
  CHECK(std::string(left_out::name_of(index)) == "lua");
  CHECK(left_out::name_of(-1) == nullptr);
  CHECK(left_out::name_of(100) == nullptr);
}

TEST_CASE("left_out: an image without a runtime is none", "[adapters]") {
  memlimit::runtimes::ElfImage libc;
  REQUIRE(memlimit::runtimes::image_of(dlsym(RTLD_DEFAULT, "gnu_get_libc_version"), &libc));
  left_out::look_at(libc);
  CHECK(told().empty());
}
