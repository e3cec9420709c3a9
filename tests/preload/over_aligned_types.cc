/* new and delete of over-aligned types, singly, in arrays with cookies, in containers and shared pointers: aligned
 * as declared, and all of it given back. */
#include <memory>
#include <vector>

#include "check.h"

namespace {

int live = 0;

template <size_t kAlignment>
struct alignas(kAlignment) Aligned {
  Aligned() { ++live; }
  Aligned(const Aligned&) { ++live; }
  ~Aligned() { --live; }
  char bytes[kAlignment + 1] = {};
};

template <size_t kAlignment>
void check_type() {
  using Type = Aligned<kAlignment>;
  const auto check_place = [](const void* place) {
    CHECK_EQ(reinterpret_cast<uintptr_t>(place) % kAlignment, 0);
  };
  for (int i = 0; i < 50; ++i) {
    auto* one = static_cast<Type*>(opaque(new Type));
    check_place(one);
    auto* many = static_cast<Type*>(opaque(new Type[static_cast<size_t>(i) + 1]));
    check_place(many);
    delete one;
    delete[] many;
    std::vector<Type> grown;
    for (int k = 0; k < 10; ++k) {
      grown.emplace_back();
      check_place(grown.data());
    }
    auto shared = std::make_shared<Type>();
    check_place(shared.get());
  }
  CHECK_EQ(live, 0);
}

}  // namespace

int main() {
  settle();
  const int64_t before = memlimit_is_loaded() ? stats_now().heap_alloc : 0;
  check_type<32>();
  check_type<64>();
  check_type<256>();
  check_type<4096>();
  check_type<65536>();
  if (memlimit_is_loaded()) CHECK_EQ(stats_now().heap_alloc, before);
  return 0;
}
