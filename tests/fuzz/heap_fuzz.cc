/* libFuzzer target for the heap: any sequence of calls against a model of what is live.
 *
 * Three bytes of input are a call: what to do, on which of 64 blocks, and how large. The model knows each live block's
 * address range, size and content; after each call the new block may overlap no other, be misaligned or have changed
 * content, and the count must be the sum of the usable sizes, to the byte. The input that begins with an odd byte lets
 * mappings fail now and then.
 */
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>

#include "heap/figures.h"
#include "heap/heap.h"
#include "heap/huge.h"
#include "heap/page_source.h"
#include "heap/purge.h"
#include "heap/size_classes.h"

namespace {

using namespace memlimit;

void check(bool held) {
  if (!held) abort();
}

int failing_in = 0; /* mappings that still succeed before one fails; 0: all succeed */

bool fails() { return failing_in > 0 && --failing_in == 0; }

void* map(size_t bytes, size_t alignment) noexcept {
  if (fails()) return nullptr;
  char* const all = static_cast<char*>(mmap(nullptr, bytes + alignment, PROT_READ | PROT_WRITE,
                                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  if (all == MAP_FAILED) return nullptr;
  const size_t before = -reinterpret_cast<uintptr_t>(all) & (alignment - 1);
  if (before != 0) munmap(all, before);
  if (before != alignment) munmap(all + before + bytes, alignment - before);
  return all + before;
}

void unmap(void* address, size_t bytes) noexcept { munmap(address, bytes); }

void* resize_in_place(void* address, size_t old_bytes, size_t new_bytes, bool) noexcept {
  if (fails() || mremap(address, old_bytes, new_bytes, 0) == MAP_FAILED) return nullptr;
  return address;
}

constexpr heap::PageSource kSource = {map, unmap, map, unmap, resize_in_place};

struct Live {
  size_t bytes = 0; /* asked for */
  unsigned char fill = 0;
};

class Model {
 public:
  ~Model() {
    for (const auto& [block, live] : by_address_) heap::release(block);
  }

  void add(unsigned slot, void* address, size_t bytes, size_t alignment, bool zero) {
    if (address == nullptr) return;
    auto* const block = static_cast<unsigned char*>(address);
    check(reinterpret_cast<uintptr_t>(block) % std::max<size_t>(alignment, 16) == 0);
    const size_t usable = heap::usable_bytes(block);
    check(usable >= bytes);
    const auto next = by_address_.lower_bound(block);
    check(next == by_address_.end() || block + usable <= next->first);
    if (next != by_address_.begin()) {
      const auto before = std::prev(next);
      check(before->first + heap::usable_bytes(before->first) <= block);
    }
    for (size_t i = 0; zero && i < bytes; i += i < 256 ? 1 : 509) check(block[i] == 0);
    const Live live{bytes, static_cast<unsigned char>(++fills_)};
    fill(block, live);
    by_address_[block] = live;
    slots_[slot] = block;
  }

  unsigned char* at(unsigned slot) const { return slots_[slot]; }

  Live take(unsigned slot) {
    const auto found = by_address_.find(slots_[slot]);
    check_content(slots_[slot], found->second);
    const Live live = found->second;
    by_address_.erase(found);
    slots_[slot] = nullptr;
    return live;
  }

  void check_content(const unsigned char* block, const Live& live) const {
    for (size_t i = 0; i < live.bytes; i += step(live)) check(block[i] == live.fill);
    if (live.bytes > 0) check(block[live.bytes - 1] == live.fill);
  }

  int64_t usable_bytes() const {
    int64_t sum = 0;
    for (const auto& [block, live] : by_address_)
      sum += static_cast<int64_t>(heap::usable_bytes(block));
    return sum;
  }

 private:
  /* A few hundred places of a block, whatever its size. */
  static size_t step(const Live& live) { return std::max<size_t>(live.bytes / 128, 1); }

  static void fill(unsigned char* block, const Live& live) {
    for (size_t i = 0; i < live.bytes; i += step(live)) block[i] = live.fill;
    if (live.bytes > 0) block[live.bytes - 1] = live.fill;
  }

  std::map<unsigned char*, Live> by_address_;
  unsigned char* slots_[64] = {};
  unsigned fills_ = 0;
};

/* Small ones finely, up to 32 MiB. */
size_t size_of(unsigned value) {
  const unsigned octave = value >> 3;
  if (octave < 4) return value;
  const size_t base = size_t{1} << std::min(octave - 1, 24U);
  return base + base / 8 * (value & 7) + (value * 7 & 31);
}

void release(Model& model, unsigned slot) {
  unsigned char* const block = model.at(slot);
  const Live live = model.take(slot);
  if (slot % 2 == 0) {
    heap::release(block);
  } else {
    heap::release_sized(block, live.bytes);
  }
}

void resize(Model& model, unsigned slot, size_t bytes) {
  unsigned char* const block = model.at(slot);
  const Live live = model.take(slot);
  void* const resized = heap::resize(block, bytes);
  if (resized == nullptr) {
    model.check_content(block, live);
    heap::release(block);
    return;
  }
  // What is behind the smaller of the two sizes is new.
  if (bytes >= live.bytes) model.check_content(static_cast<unsigned char*>(resized), live);
  model.add(slot, resized, bytes, 16, false);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  heap::set_page_source(&kSource);
  const int64_t before = heap::figures::totals().live_bytes();
  {
    Model model;
    const bool may_fail = size > 0 && (data[0] & 1) != 0;
    for (size_t i = 1; i + 2 < size; i += 3) {
      const unsigned what = data[i] >> 4;
      const unsigned slot = data[i + 1] & 63;
      const size_t bytes = size_of(data[i + 2]);
      failing_in = may_fail ? data[i] & 15 : 0;
      const bool live = model.at(slot) != nullptr;
      if (what < 8 && live) {
        release(model, slot);
      } else if (what < 5) {
        model.add(slot, heap::allocate(bytes), bytes, 16, false);
      } else if (what < 8) {
        model.add(slot, heap::allocate_zeroed(bytes), bytes, 16, true);
      } else if (what < 11) {
        const size_t alignment = size_t{1} << (data[i + 1] >> 6 << 3 | (data[i] & 7)) % 26;
        if (!live)
          model.add(slot, heap::allocate_aligned(alignment, bytes), bytes, alignment, false);
      } else if (what < 13) {
        if (live) resize(model, slot, bytes);
      } else if (what == 13) {
        heap::purge(data[i + 2]);
      } else if (what == 14) {
        heap::flush_own_cache();
      } else {
        heap::huge::drop_kept((data[i + 2] & 1) != 0);
      }
      check(heap::figures::totals().live_bytes() - before == model.usable_bytes());
    }
    failing_in = 0;
  }
  check(heap::figures::totals().live_bytes() == before);
  return 0;
}
