/* A program that replaces only operator new(size_t) and operator delete(void*), as C++98 programs do, gets every
 * other unaligned form routed to them, as the standard says of the default ones: array, nothrow and sized forms,
 * also from inside libstdc++. One that went to malloc or free directly would free a pointer that is not its own. */
#include <cstdlib>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "check.h"

namespace {

constexpr uint64_t kMark = 0x6d656d6c696d6974;
struct Header {
  uint64_t mark;
  uint64_t size;
};
int64_t blocks_made = 0;
int64_t blocks_freed = 0;

}  // namespace

void* operator new(size_t size) {
  auto* header = static_cast<Header*>(malloc(sizeof(Header) + size));
  if (header == nullptr) throw std::bad_alloc();
  header->mark = kMark;
  header->size = size;
  ++blocks_made;
  return header + 1;
}

void operator delete(void* block) noexcept {
  if (block == nullptr) return;
  Header* header = static_cast<Header*>(block) - 1;
  CHECK(header->mark == kMark);
  header->mark = 0;
  ++blocks_freed;
  free(header);
}

namespace {

template <typename Use>
void check_routed(int64_t blocks, Use use) {
  const int64_t made = blocks_made, freed = blocks_freed;
  use();
  CHECK_EQ(blocks_made - made, blocks);
  CHECK_EQ(blocks_freed - freed, blocks);
}

struct WithDestructor {
  ~WithDestructor() { opaque(this); }
  int value = 3;
};

}  // namespace

int main() {
  check_routed(1, [] { delete static_cast<int*>(opaque(new int(3))); });
  check_routed(1, [] { delete[] static_cast<int*>(opaque(new int[30])); });
  check_routed(1, [] { delete static_cast<WithDestructor*>(opaque(new WithDestructor)); });
  check_routed(1, [] { delete[] static_cast<WithDestructor*>(opaque(new WithDestructor[5])); });
  check_routed(1, [] { ::operator delete (opaque(::operator new(100)), size_t{100}); });
  check_routed(1, [] { ::operator delete[](opaque(::operator new[](100)), size_t{100}); });
  check_routed(1,
               [] { ::operator delete(opaque(::operator new(100, std::nothrow)), std::nothrow); });
  check_routed(
      1, [] { ::operator delete[](opaque(::operator new[](100, std::nothrow)), std::nothrow); });
  check_routed(1, [] { ::operator delete[](opaque(::operator new[](100))); });
  check_routed(1, [] {
    std::string text(1000, 'x'); /* allocated inside libstdc++ */
    opaque(text.data());
  });
  check_routed(1, [] { opaque(std::make_unique<std::vector<int>>().get()); });
  return 0;
}
