/* Looks at the footprint by the service thread's task: only where mapped memory could pass the limit. The figures are the
 * test process's own; a turn of the thread is a call. */
#include "engine/footprint_watch.h"

#include <cstdint>
#include <cstring>

#include <sys/mman.h>

#include <catch2/catch.hpp>

#include "engine/configure.h"
#include "engine/footprint.h"
#include "engine/limit.h"
#include "engine/limit_setting.h"
#include "engine/paced.h"
#include "engine/pressure.h"
#include "support/pretended_allocator.h"
#include "system/os.h"

namespace footprint = memlimit::footprint;
namespace footprint_watch = memlimit::footprint_watch;
namespace limit_setting = memlimit::limit_setting;
namespace paced = memlimit::paced;
using memlimit::LimitKind;
using memlimit::LimitSource;

namespace {

/* More than the sanitizers' runtimes and this process have mapped and not touched, many times over. */
constexpr int64_t kRoomBytes = int64_t{1} << 42;

void turn() {
  footprint_watch::kTask.run({memlimit::os::monotonic_ns(), memlimit::service::Turn::Ready::kNo});
}

/* A limit that is so much above what the process holds. */
class Limit {
 public:
  explicit Limit(memlimit::AccountMode account) {
    memlimit::Config config;
    config.account = account;
    memlimit::engine::configure(config, memlimit::test::pretended::kOps);
    footprint::read();
    limit_setting::apply({LimitKind::kBytes, paced::footprint_bytes() + kRoomBytes, 0},
                         LimitSource::kEnvironment);
  }
  ~Limit() {
    limit_setting::apply({}, LimitSource::kEnvironment);
    // The next turn sees that there is none, and the watch begins anew.
    while (footprint_watch::kTask.due_ns() != INT64_MAX) {
      memlimit::os::yield();
      turn();
    }
  }
  Limit(const Limit&) = delete;
  Limit& operator=(const Limit&) = delete;
};

/* Address space that could be touched; nothing of it is. */
class Mapping {
 public:
  explicit Mapping(int64_t bytes)
      : bytes_(static_cast<size_t>(bytes)),
        address_(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {}
  ~Mapping() {
    if (there()) munmap(address_, bytes_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  void touch(int64_t bytes) const { memset(address_, 1, static_cast<size_t>(bytes)); }

  bool there() const { return address_ != MAP_FAILED; }

 private:
  size_t bytes_;
  void* address_;
};

}  // namespace

TEST_CASE("footprint watch: looks begin when more is mapped than the limit leaves", "[footprint]") {
  const Limit limit(memlimit::AccountMode::kRss);
  turn();
  if (footprint_watch::kTask.due_ns() != INT64_MAX) return;  // a sanitizer's shadow is mapped
  const Mapping mapping(kRoomBytes * 2);
  if (!mapping.there()) return;  // RLIMIT_AS, or overcommit is off
  turn();
  CHECK(footprint_watch::kTask.due_ns() == INT64_MAX);  // nobody has read it yet
  footprint::read();
  turn();
  CHECK(footprint_watch::kTask.due_ns() < INT64_MAX);
}

TEST_CASE("footprint watch: what is touched moves the clock that rounds go by", "[footprint]") {
  const Limit limit(memlimit::AccountMode::kRss);
  const Mapping mapping(kRoomBytes * 2);
  if (!mapping.there()) return;
  footprint::read();
  turn();
  while (footprint_watch::kTask.due_ns() > memlimit::os::monotonic_ns()) memlimit::os::yield();
  turn();  // knows from here on what there was
  const int64_t before = memlimit::pressure::clock_bytes();
  constexpr int64_t kTouched = int64_t{64} << 20;
  mapping.touch(kTouched);
  while (footprint_watch::kTask.due_ns() > memlimit::os::monotonic_ns()) memlimit::os::yield();
  turn();
  CHECK(memlimit::pressure::clock_bytes() - before > kTouched / 2);
  CHECK(memlimit::pressure::clock_bytes() - before < kTouched * 2);
}

TEST_CASE("footprint watch: where the footprint is not paced nobody looks", "[footprint]") {
  const Limit limit(memlimit::AccountMode::kHeap);
  const Mapping mapping(kRoomBytes * 2);
  footprint::read();
  turn();
  CHECK(footprint_watch::kTask.due_ns() == INT64_MAX);
}
