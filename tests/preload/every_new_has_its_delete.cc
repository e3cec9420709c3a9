/* Every form of operator new gives a block that its delete (plain, sized, aligned, nothrow) takes back, aligned as
 * asked, and nothing is left over; malloc_usable_size and free see the same heap. */
#include <malloc.h>

#include <cstdlib>
#include <new>

#include "check.h"

namespace {

constexpr std::align_val_t kWide{128};
constexpr size_t kSizes[] = {0, 1, 8, 16, 100, 1024, 5000, 70000, 3 << 20};

int64_t heap_bytes() { return memlimit_is_loaded() ? stats_now().heap_alloc : 0; }

void* checked(void* block, size_t size, size_t alignment) {
  CHECK(block != nullptr);
  CHECK_EQ(reinterpret_cast<uintptr_t>(block) % alignment, 0);
  CHECK(malloc_usable_size(block) >= size);
  memset(block, 0x42, size);
  return opaque(block);
}

}  // namespace

int main() {
  settle();
  const int64_t before = heap_bytes();
  for (size_t size : kSizes) {
    const size_t natural = size >= 16 ? 16 : size >= 8 ? 8 : 1;
    const auto plain = [&] { return checked(::operator new(size), size, natural); };
    const auto array = [&] { return checked(::operator new[](size), size, natural); };
    const auto wide = [&] { return checked(::operator new(size, kWide), size, 128); };
    const auto wide_array = [&] { return checked(::operator new[](size, kWide), size, 128); };

    ::operator delete(plain());
    ::operator delete(plain(), size);
    ::operator delete(plain(), std::nothrow);
    ::operator delete[](array());
    ::operator delete[](array(), size);
    ::operator delete[](array(), std::nothrow);
    ::operator delete(checked(::operator new(size, std::nothrow), size, natural), std::nothrow);
    ::operator delete[](checked(::operator new[](size, std::nothrow), size, natural), std::nothrow);
    ::operator delete(checked(::operator new(size, std::nothrow), size, natural));
    ::operator delete[](checked(::operator new[](size, std::nothrow), size, natural));

    ::operator delete(wide(), kWide);
    ::operator delete(wide(), size, kWide);
    ::operator delete(wide(), kWide, std::nothrow);
    ::operator delete[](wide_array(), kWide);
    ::operator delete[](wide_array(), size, kWide);
    ::operator delete[](wide_array(), kWide, std::nothrow);
    ::operator delete(checked(::operator new(size, kWide, std::nothrow), size, 128), kWide,
                      std::nothrow);
    ::operator delete[](checked(::operator new[](size, kWide, std::nothrow), size, 128), kWide,
                        std::nothrow);

    free(plain()); /* not portable, but done by programs that glibc and mimalloc both let live */
    ::operator delete(checked(malloc(size), size, natural));
  }
  ::operator delete(opaque(nullptr));
  ::operator delete[](opaque(nullptr));
  ::operator delete (opaque(nullptr), size_t{10});
  ::operator delete(opaque(nullptr), kWide);
  ::operator delete (opaque(nullptr), size_t{10}, kWide);
  if (memlimit_is_loaded()) CHECK_EQ(heap_bytes(), before);
  return 0;
}
