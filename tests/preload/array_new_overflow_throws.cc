/* new T[n] with n * sizeof(T) beyond SIZE_MAX throws std::bad_array_new_length and gives no small block; a
 * negative length too, and std::nothrow makes it null. Clang asks for SIZE_MAX bytes instead, which throws
 * its base, std::bad_alloc. */
#include <new>

#include "check.h"

namespace {

struct Large {
  char bytes[4096];
};

template <typename Make>
void check_refused(Make make) {
  bool caught = false;
  try {
    opaque(make());
  } catch (const std::bad_alloc&) {
    caught = true;
  }
  CHECK(caught);
}

}  // namespace

int main() {
  const size_t count = opaque_size(SIZE_MAX / sizeof(Large) + 2);
  check_refused([&] { return new Large[count]; });
  const auto negative = static_cast<std::ptrdiff_t>(opaque_size(static_cast<size_t>(-5)));
  check_refused([&] { return new int[negative]; });
  try {
    CHECK(opaque(new (std::nothrow) Large[count]) == nullptr);
  } catch (const std::bad_array_new_length&) {
    /* Older compilers throw here as well: that is between them and their runtime. */
  }
  return 0;
}
