/* When memory is out operator new calls the new_handler and tries again as long as the handler returns: one that
 * gives back a reserve lets the very same request succeed, for every form of new. */
#include <sys/mman.h>
#include <sys/resource.h>

#include <new>

#include "check.h"

namespace {

constexpr size_t kRequestBytes = size_t{512} << 20;
constexpr size_t kReserveBytes = size_t{2} << 30;
constexpr int kCallsUntilRelease = 3;

void* reserve = MAP_FAILED;
int handler_calls = 0;

void take_reserve() {
  reserve =
      mmap(nullptr, kReserveBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(reserve != MAP_FAILED);
  handler_calls = 0;
}

void give_reserve_back() {
  if (++handler_calls == kCallsUntilRelease) CHECK_EQ(munmap(reserve, kReserveBytes), 0);
}

/* Address space now in use by the process, bytes. */
size_t address_space_bytes() {
  FILE* file = fopen("/proc/self/statm", "re");
  if (file == nullptr) SKIP("no /proc/self/statm");
  unsigned long pages = 0;
  CHECK_EQ(fscanf(file, "%lu", &pages), 1);
  fclose(file);
  return pages * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

template <typename Request>
void check_succeeds_at_last(Request request) {
  rlimit unlimited{};
  CHECK_EQ(getrlimit(RLIMIT_AS, &unlimited), 0);
  take_reserve();
  rlimit tight = unlimited;
  tight.rlim_cur = address_space_bytes() + (size_t{64} << 20);
  CHECK_EQ(setrlimit(RLIMIT_AS, &tight), 0);
  void* block = opaque(request());
  CHECK_EQ(setrlimit(RLIMIT_AS, &unlimited), 0);
  CHECK(block != nullptr);
  CHECK_EQ(handler_calls, kCallsUntilRelease);
  memset(block, 1, 1 << 20);
}

}  // namespace

int main() {
  std::set_new_handler(give_reserve_back);
  constexpr std::align_val_t kWide{4096};
  const auto free_plain = [](void* block) { ::operator delete(opaque(block)); };
  const auto free_wide = [](void* block) { ::operator delete(opaque(block), kWide); };
  void* block = nullptr;
  check_succeeds_at_last([&] { return block = ::operator new(opaque_size(kRequestBytes)); });
  free_plain(block);
  check_succeeds_at_last([&] { return block = ::operator new[](opaque_size(kRequestBytes)); });
  free_plain(block);
  check_succeeds_at_last(
      [&] { return block = ::operator new(opaque_size(kRequestBytes), std::nothrow); });
  free_plain(block);
  check_succeeds_at_last(
      [&] { return block = ::operator new[](opaque_size(kRequestBytes), std::nothrow); });
  free_plain(block);
  check_succeeds_at_last([&] { return block = ::operator new(opaque_size(kRequestBytes), kWide); });
  free_wide(block);
  check_succeeds_at_last(
      [&] { return block = ::operator new(opaque_size(kRequestBytes), kWide, std::nothrow); });
  free_wide(block);
  return 0;
}
