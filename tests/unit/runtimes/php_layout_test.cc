/* Which offsets a PHP has, and what its globals must look like before anything is written there. */
#include "runtimes/php_layout.h"

#include <cstring>
#include <vector>

#include <catch2/catch.hpp>

namespace php = memlimit::runtimes::php;

namespace {

/* The two global structures as one layout has them, at the beginning of a request. */
struct Globals {
  explicit Globals(const php::Layout& its_layout) : layout(its_layout) {
    put(executor, layout.executor_functions, &functions);
    put(executor, layout.executor_classes, &classes);
    put(compiler, layout.compiler_functions, &functions);
    put(compiler, layout.compiler_classes, &classes);
    executor[layout.active] = 1;
  }

  static void put(std::vector<char>& where, uint16_t offset, const void* pointer) {
    memcpy(where.data() + offset, &pointer, sizeof pointer);
  }

  bool fit() const { return php::fits(layout, executor.data(), compiler.data()); }

  php::Layout layout;
  char functions = 0, classes = 0;
  std::vector<char> executor = std::vector<char>(2048);
  std::vector<char> compiler = std::vector<char>(1024);
};

const php::Layout& layout_of(const char* version) {
  const php::Layout* const layout = php::layout_of(version);
  REQUIRE(layout != nullptr);
  return *layout;
}

}  // namespace

TEST_CASE("php_layout: 8.2 and 8.4 each have their own, whatever follows the version",
          "[adapters][php]") {
  const php::Layout& of_82 = layout_of("Zend Engine v4.2.36, Copyright (c) Zend Technologies\n");
  CHECK(of_82.vm_interrupt == 546);
  CHECK(of_82.exception == 864);
  CHECK(of_82.active == 992);
  const php::Layout& of_84 = layout_of(
      "Zend Engine v4.4.0, Copyright (c) Zend Technologies\n    with Zend OPcache v8.4.0, "
      "Copyright (c), by Zend Technologies\n");
  CHECK(of_84.vm_interrupt == 550);
  CHECK(of_84.exception == 936);
  CHECK(of_84.active == 1064);
}

TEST_CASE("php_layout: a version that is not known has none", "[adapters][php]") {
  for (const char* const version :
       {"", "Zend Engine v4.", "Zend Engine v4.3.1, Copyright", "Zend Engine v4.5.0, Copyright",
        "Zend Engine v3.4.0, Copyright", "Zend Engine v5.2.0, Copyright",
        "Zend Engine v4.22.0, Copyright", "Zend Engine v4.4.0RC1, Copyright",
        "Zend Engine v4.4.0-dev, Copyright", "Zend Engine v4.2, Copyright",
        "Zend Engine v4..1, Copyright", "Zend Engine v4.-2.1, Copyright", "Zend Engine v4.2.36",
        "Zend Engine v4.99999999999999999999.1, Copyright", "zend engine v4.2.36, Copyright",
        "HHVM 4.2.36, Copyright"}) {
    INFO(version);
    CHECK(php::layout_of(version) == nullptr);
  }
}

TEST_CASE("php_layout: opcache compiles functions, traces or nothing", "[adapters][php]") {
  for (const char* const jit : {"function", "1205", "1235", "1255x", "12", "none of these"}) {
    INFO(jit);
    CHECK(php::compiles_functions("64M", jit));
    CHECK_FALSE(php::compiles_functions("0", jit));
    CHECK_FALSE(php::compiles_functions(nullptr, jit));
  }
  for (const char* const jit :
       {"", "0", "off", "Disable", "no", "1", "On", "yes", "tracing", "1254", "1255"}) {
    INFO(jit);
    CHECK_FALSE(php::compiles_functions("64M", jit));
  }
  CHECK_FALSE(php::compiles_functions("64M", nullptr));
}

TEST_CASE("php_layout: globals fit when a request has begun, and no others do", "[adapters][php]") {
  for (const char* const version :
       {"Zend Engine v4.2.1, Copyright", "Zend Engine v4.4.1, Copyright"}) {
    INFO(version);
    const Globals began(layout_of(version));
    CHECK(began.fit());

    Globals none(began.layout);
    Globals::put(none.executor, none.layout.executor_functions, nullptr);
    Globals::put(none.compiler, none.layout.compiler_functions, nullptr);
    CHECK_FALSE(none.fit());

    Globals other(began.layout);
    Globals::put(other.compiler, other.layout.compiler_classes, &other);
    CHECK_FALSE(other.fit());

    Globals same(began.layout);
    Globals::put(same.executor, same.layout.executor_classes, &same.functions);
    Globals::put(same.compiler, same.layout.compiler_classes, &same.functions);
    CHECK_FALSE(same.fit());

    Globals pointer(began.layout);
    pointer.executor[pointer.layout.vm_interrupt] = 0x40;
    CHECK_FALSE(pointer.fit());

    Globals number(began.layout);
    number.executor[number.layout.active] = 2;
    CHECK_FALSE(number.fit());
  }
}
