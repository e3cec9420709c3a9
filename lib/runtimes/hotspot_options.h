/* The options of a HotSpot VM (-XX), as they are in force, from the tables that libjvm exports for its debugger.
 *
 * The tables (gHotSpotVMStructs, gHotSpotVMTypes) say of themselves how wide an entry is and where its fields are, and
 * where the VM keeps its list of options; so this holds from JDK 17 to 25 and for either build. They are read in place: no
 * thread has to be attached for it, no class is loaded, and a jlinked image without management modules has them.
 *
 * Answers for: finding an option's value. Refuses to believe a table that is not as expected, and to know what an option
 * means (jvm.cc). Threads: open() once, before any other; the rest any, inside malloc too: nothing is allocated or locked.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtimes/elf_image.h"

namespace memlimit::runtimes {

/** What is exported, each a variable of libjvm's. */
struct HotspotTables {
  const char* structs = nullptr; /* the first entry; one without a type's name ends it */
  uint64_t struct_stride = 0;
  uint64_t struct_type = 0; /* offsets in an entry */
  uint64_t struct_field = 0;
  uint64_t struct_offset = 0;
  uint64_t struct_address = 0;
  const char* types = nullptr;
  uint64_t type_stride = 0;
  uint64_t type_name = 0;
  uint64_t type_size = 0;
};

/** Takes them from the image; false: it is no HotSpot, or one that exports less. */
bool read_tables(const ElfImage& image, HotspotTables* out) noexcept;

class HotspotOptions {
 public:
  constexpr HotspotOptions() noexcept = default;

  /** False: there is no list of options where it is expected. */
  bool open(const HotspotTables& tables) noexcept;

  /** Where the option's value is; nullptr: this build has no such option. */
  void* find(const char* name) const noexcept;

  /** Whether it is a switch, and on. Changes until the VM is complete. */
  bool is_on(const char* name) const noexcept;

  /** The value of a size in bytes; 0 when there is no such option. */
  uint64_t size_of(const char* name) const noexcept;

  /** Whether the user has set it, on the command line, in a file or while it ran; not the VM by itself. */
  bool is_users(const char* name) const noexcept;

 private:
  const char* entry(const char* name) const noexcept;

  const char* const* list_ = nullptr; /* the VM's pointer to its options */
  const size_t* count_ = nullptr;
  uint64_t stride_ = 0;
  uint64_t name_ = 0; /* offsets in an option */
  uint64_t value_ = 0;
  uint64_t origin_ = 0;
};

}  // namespace memlimit::runtimes
