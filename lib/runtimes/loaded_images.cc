/* See loaded_images.h. Images are known by their place in the loader's list, which stays as it is while
 * dl_iterate_phdr's lock is held: so all of a search happens inside one callback, with others in it. */
#include "runtimes/loaded_images.h"

#include <cstddef>
#include <cstring>

#include <link.h>

#include "runtimes/elf_image.h"

namespace memlimit::runtimes {
namespace {

/* Images that define the name besides ours, and that a caller depends on. Further ones are not looked at. */
constexpr size_t kMaxDefinitions = 8;
constexpr size_t kMaxDependencies = 256;

constexpr size_t kNone = SIZE_MAX;

/* Calls visit(image, place) for each image until it returns true. Images without symbols have a place, too. */
template <typename Visit>
void for_each_image(Visit visit) noexcept {
  struct Walk {
    Visit& visit;
    size_t place;
  } walk{visit, 0};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* arg) {
        auto& now = *static_cast<Walk*>(arg);
        ElfImage image;
        const size_t place = now.place++;
        return image.open(*info) && now.visit(image, place) ? 1 : 0;
      },
      &walk);
}

bool image_at(size_t place, ElfImage* out) noexcept {
  bool found = false;
  for_each_image([&](const ElfImage& image, size_t at) {
    if (at == place) *out = image;
    found = at == place;
    return at >= place;
  });
  return found;
}

size_t place_of_library(const char* needed) noexcept {
  size_t found = kNone;
  for_each_image([&](const ElfImage& image, size_t place) {
    if (image.answers_to(needed)) found = place;
    return found != kNone;
  });
  return found;
}

/* Calls visit(place) for each library that the image there is linked with. */
template <typename Visit>
void for_each_needed(size_t place, Visit visit) noexcept {
  ElfImage image;
  if (!image_at(place, &image)) return;
  const char* name;
  for (size_t i = 0; (name = image.needed(i)) != nullptr; ++i) {
    const size_t needed = place_of_library(name);
    if (needed != kNone) visit(needed);
  }
}

/* The last image that was loaded with the program: those come first, and what one of them needs is among
 * them. Preloaded ones come before what the program is linked with. */
size_t last_initial_place() noexcept {
  size_t last = 0;
  for (size_t place = 0; place <= last; ++place) {
    for_each_needed(place, [&](size_t needed) { last = needed > last ? needed : last; });
  }
  return last;
}

struct Definition {
  size_t place = kNone;
  void* function = nullptr;
};

class Search {
 public:
  Search(const char* name, const void* caller, const void* self) noexcept
      : name_(name), caller_(caller), self_(self) {}

  Found run() noexcept {
    for_each_image([this](const ElfImage& image, size_t place) {
      look_at(image, place);
      return false;
    });
    found_.function = choose();
    return found_;
  }

 private:
  void look_at(const ElfImage& image, size_t place) noexcept {
    if (image.contains(caller_)) {
      caller_place_ = place;
      found_.begin = image.begin();
      found_.end = image.end();
    }
    if (image.contains(self_)) {
      self_place_ = place;
      return;
    }
    void* const function = image.symbol(name_);
    if (function != nullptr && count_ < kMaxDefinitions) definitions_[count_++] = {place, function};
  }

  void* choose() const noexcept {
    // Nearly always: then it does not matter how the caller is connected with it.
    if (count_ == 1 && definitions_[0].place > self_place_) return definitions_[0].function;
    if (count_ == 0) return nullptr;
    const size_t initial = last_initial_place();
    // Of two that were loaded with the program, the one in front is who calls us, or was meant to be passed.
    const size_t first = self_place_ <= initial ? self_place_ : 0;
    for (size_t i = 0; i < count_; ++i) {
      const Definition& definition = definitions_[i];
      if (definition.place > first && definition.place <= initial) return definition.function;
    }
    if (void* const function = nearest_to_caller(first)) return function;
    for (size_t i = 0; i < count_; ++i) {
      if (definitions_[i].place >= first) return definitions_[i].function;
    }
    return nullptr;
  }

  /* Breadth first, as the loader would search. */
  void* nearest_to_caller(size_t first) const noexcept {
    if (caller_place_ == kNone) return nullptr;
    uint16_t queue[kMaxDependencies];
    size_t size = 0;
    const auto add = [&](size_t place) {
      if (size == kMaxDependencies || place > UINT16_MAX) return;
      for (size_t i = 0; i < size; ++i) {
        if (queue[i] == place) return;
      }
      queue[size++] = static_cast<uint16_t>(place);
    };
    add(caller_place_);
    for (size_t i = 0; i < size; ++i) {
      if (void* const function = defined_at(queue[i], first)) return function;
      for_each_needed(queue[i], add);
    }
    return nullptr;
  }

  void* defined_at(size_t place, size_t first) const noexcept {
    for (size_t i = 0; i < count_; ++i) {
      if (definitions_[i].place == place && place >= first) return definitions_[i].function;
    }
    return nullptr;
  }

  const char* name_;
  const void* caller_;
  const void* self_;
  size_t caller_place_ = kNone;
  size_t self_place_ = kNone;
  Definition definitions_[kMaxDefinitions];
  size_t count_ = 0;
  Found found_;
};

/* Calls work(generation) with the list locked. */
template <typename Work>
void with_list_locked(Work work) noexcept {
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* arg) {
        (*static_cast<Work*>(arg))(Generation{info->dlpi_adds, info->dlpi_subs});
        return 1;
      },
      &work);
}

}  // namespace

Generation generation() noexcept {
  Generation result;
  with_list_locked([&](const Generation& now) { result = now; });
  return result;
}

Found definition_for(const char* name, const void* caller, const void* self) noexcept {
  Found found;
  with_list_locked([&](const Generation& now) {
    found = Search(name, caller, self).run();
    found.generation = now;
  });
  return found;
}

Found definition_beside(const char* name, const void* address) noexcept {
  Found found;
  with_list_locked([&](const Generation& now) {
    ElfImage image;
    found.generation = now;
    if (!image_of(address, &image)) return;
    found.begin = image.begin();
    found.end = image.end();
    found.function = image.symbol(name);
  });
  return found;
}

bool loaded_with_program(const void* address) noexcept {
  bool result = false;
  with_list_locked([&](const Generation&) {
    size_t its_place = kNone;
    for_each_image([&](const ElfImage& image, size_t place) {
      if (image.contains(address)) its_place = place;
      return its_place != kNone;
    });
    result = its_place != kNone && its_place <= last_initial_place();
  });
  return result;
}

bool path_of(const void* address, char* out, size_t cap) noexcept {
  bool result = false;
  with_list_locked([&](const Generation&) {
    ElfImage image;
    if (!image_of(address, &image)) return;
    const size_t size = strlen(image.path()) + 1;
    result = size <= cap;
    if (result) memcpy(out, image.path(), size);
  });
  return result;
}

}  // namespace memlimit::runtimes
