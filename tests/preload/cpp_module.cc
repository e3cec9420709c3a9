/* A C++ module for a program in C: its C++ runtime comes and goes with it, in no global scope. Used by
 * plugin_catches_its_own_bad_alloc.c. */
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "check.h"

namespace {

int handler_calls = 0;

template <typename Request>
bool throws_bad_alloc(Request request) {
  try {
    opaque(request());
  } catch (const std::bad_alloc&) {
    return true;
  }
  return false;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) void cpp_module_run_out_of_memory();

void cpp_module_run_out_of_memory() {
  const size_t size = opaque_size(PTRDIFF_MAX);
  constexpr std::align_val_t kWide{64};
  CHECK(throws_bad_alloc([&] { return ::operator new(size); }));
  CHECK(throws_bad_alloc([&] { return ::operator new[](size); }));
  CHECK(throws_bad_alloc([&] { return ::operator new(size, kWide); }));
  CHECK(throws_bad_alloc([&] { return ::operator new[](size, kWide); }));
  CHECK(opaque(::operator new(size, std::nothrow)) == nullptr);
  CHECK(opaque(::operator new[](size, kWide, std::nothrow)) == nullptr);
  CHECK(throws_bad_alloc([&] {
    std::string text("x");
    text.reserve(opaque_size(text.max_size()));
    return opaque(text.data());
  }));

  const std::new_handler old_handler = std::set_new_handler([] {
    ++handler_calls;
    throw std::bad_alloc();
  });
  handler_calls = 0;
  CHECK(throws_bad_alloc([&] { return ::operator new(size); }));
  CHECK_EQ(handler_calls, 1);
  CHECK(opaque(::operator new(size, std::nothrow)) == nullptr);
  CHECK_EQ(handler_calls, 2);
  CHECK_EQ(std::uncaught_exceptions(), 0);
  std::set_new_handler(old_handler);

  std::vector<std::string> texts(100, std::string(1000, 'y'));
  CHECK(texts.back().size() == 1000);
}
