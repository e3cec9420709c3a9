/* With no new_handler a request that cannot be granted throws std::bad_alloc, catchable by the program as its own
 * C++ runtime's; the nothrow forms answer null. malloc's errno is not asked for, but nothing may crash. */
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.h"

namespace {

template <typename Request>
void check_bad_alloc(Request request) {
  bool caught = false;
  try {
    opaque(request());
  } catch (const std::exception& error) {
    caught = dynamic_cast<const std::bad_alloc*>(&error) != nullptr;
    CHECK(error.what() != nullptr && error.what()[0] != '\0');
  }
  CHECK(caught);
}

}  // namespace

int main() {
  constexpr std::align_val_t kWide{64};
  for (size_t size : {static_cast<size_t>(PTRDIFF_MAX), static_cast<size_t>(PTRDIFF_MAX) + 1,
                      SIZE_MAX - 4096, SIZE_MAX}) {
    size = opaque_size(size);
    check_bad_alloc([&] { return ::operator new(size); });
    check_bad_alloc([&] { return ::operator new[](size); });
    CHECK(opaque(::operator new(size, std::nothrow)) == nullptr);
    CHECK(opaque(::operator new[](size, std::nothrow)) == nullptr);
    /* libstdc++ 12's own aligned forms round such a size up past SIZE_MAX, to a block of none. */
    if (!memlimit_is_loaded() && size > SIZE_MAX - 64) continue;
    check_bad_alloc([&] { return ::operator new(size, kWide); });
    check_bad_alloc([&] { return ::operator new[](size, kWide); });
    CHECK(opaque(::operator new(size, kWide, std::nothrow)) == nullptr);
    CHECK(opaque(::operator new[](size, kWide, std::nothrow)) == nullptr);
  }
  /* From inside libstdc++ too. */
  check_bad_alloc([] {
    std::vector<char> large;
    large.reserve(opaque_size(large.max_size()));
    return opaque(large.data());
  });
  return 0;
}
