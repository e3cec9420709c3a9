/* What a new_handler throws reaches the caller of operator new; the nothrow forms call the handler too, and turn a
 * std::bad_alloc of its into a null pointer. */
#include <exception>
#include <new>

#include "check.h"

namespace {

struct OutOfCoffee : std::bad_alloc {};
int handler_calls = 0;

void throw_from_handler() {
  ++handler_calls;
  throw OutOfCoffee();
}

template <typename Request>
void check_throws(Request request) {
  handler_calls = 0;
  bool caught = false;
  try {
    opaque(request());
  } catch (const OutOfCoffee&) {
    caught = true;
  }
  CHECK(caught);
  CHECK_EQ(handler_calls, 1);
}

template <typename Request>
void check_null(Request request) {
  handler_calls = 0;
  CHECK(opaque(request()) == nullptr);
  CHECK_EQ(handler_calls, 1);
}

}  // namespace

int main() {
  std::set_new_handler(throw_from_handler);
  constexpr std::align_val_t kWide{64};
  const size_t size = opaque_size(PTRDIFF_MAX);
  check_throws([&] { return ::operator new(size); });
  check_throws([&] { return ::operator new[](size); });
  check_throws([&] { return ::operator new(size, kWide); });
  check_throws([&] { return ::operator new[](size, kWide); });
  check_null([&] { return ::operator new(size, std::nothrow); });
  check_null([&] { return ::operator new[](size, std::nothrow); });
  check_null([&] { return ::operator new(size, kWide, std::nothrow); });
  check_null([&] { return ::operator new[](size, kWide, std::nothrow); });

  /* A handler may also take itself away: then bad_alloc follows. */
  std::set_new_handler([] { std::set_new_handler(nullptr); });
  bool caught = false;
  try {
    opaque(::operator new(size));
  } catch (const std::bad_alloc&) {
    caught = true;
  }
  CHECK(caught);
  CHECK_EQ(std::uncaught_exceptions(), 0);
  return 0;
}
