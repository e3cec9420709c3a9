/* A VM's options, found by tables that describe themselves; and tables that are not what they seem. */
#include "runtimes/hotspot_options.h"

#include <cstddef>
#include <cstdint>

#include <catch2/catch.hpp>

using memlimit::runtimes::HotspotOptions;
using memlimit::runtimes::HotspotTables;

namespace {

/* As a VM might lay them out: none of the widths is that of a known build. */
struct Option {
  int something;
  const char* name;
  void* address;
  unsigned flags;
};
struct StructEntry {
  const char* type;
  const char* field;
  uint64_t offset;
  void* address;
};
struct TypeEntry {
  uint64_t size;
  const char* name;
};

struct Vm {
  bool serial = true;
  uint64_t maximum = uint64_t{1} << 30;
  uint64_t ratio = 70;
  Option options[3] = {{0, "UseSerialGC", &serial, 0x105},
                       {0, "MaxHeapSize", &maximum, 1},
                       {0, "MaxHeapFreeRatio", &ratio, 0x100}};
  Option* list = options;
  size_t count = 3;
  StructEntry structs[7] = {{"Klass", "flags", 8, &serial},
                            {"JVMFlag", "_name", offsetof(Option, name), nullptr},
                            {"JVMFlag", "_addr", offsetof(Option, address), nullptr},
                            {"JVMFlag", "_flags", offsetof(Option, flags), nullptr},
                            {"JVMFlag", "flags", 0, &list},
                            {"JVMFlag", "numFlags", 0, &count},
                            {nullptr, nullptr, 0, nullptr}};
  TypeEntry types[3] = {{16, "Klass"}, {sizeof(Option), "JVMFlag"}, {0, nullptr}};

  HotspotTables tables() const {
    return {reinterpret_cast<const char*>(structs),
            sizeof(StructEntry),
            offsetof(StructEntry, type),
            offsetof(StructEntry, field),
            offsetof(StructEntry, offset),
            offsetof(StructEntry, address),
            reinterpret_cast<const char*>(types),
            sizeof(TypeEntry),
            offsetof(TypeEntry, name),
            offsetof(TypeEntry, size)};
  }
};

}  // namespace

TEST_CASE("hotspot_options: values and origins are read where the tables say", "[adapters]") {
  Vm vm;
  HotspotOptions options;
  REQUIRE(options.open(vm.tables()));
  CHECK(options.is_on("UseSerialGC"));
  CHECK(options.size_of("MaxHeapSize") == vm.maximum);
  CHECK(options.find("MaxHeapFreeRatio") == &vm.ratio);
  // Chosen by the VM, set on the command line, and by default; the other bits say something else.
  CHECK_FALSE(options.is_users("UseSerialGC"));
  CHECK(options.is_users("MaxHeapSize"));
  CHECK_FALSE(options.is_users("MaxHeapFreeRatio"));
  vm.serial = false;
  CHECK_FALSE(options.is_on("UseSerialGC"));
}

TEST_CASE("hotspot_options: what a build does not have is off", "[adapters]") {
  Vm vm;
  HotspotOptions options;
  CHECK(options.find("UseSerialGC") == nullptr);
  REQUIRE(options.open(vm.tables()));
  CHECK(options.find("UseZGC") == nullptr);
  CHECK_FALSE(options.is_on("UseZGC"));
  CHECK(options.size_of("SoftMaxHeapSize") == 0);
  CHECK_FALSE(options.is_users("SoftMaxHeapSize"));
  vm.count = 0;
  CHECK_FALSE(options.is_on("UseSerialGC"));
  vm.list = nullptr;
  CHECK_FALSE(options.is_on("UseSerialGC"));
}

TEST_CASE("hotspot_options: tables that lack something are refused", "[adapters]") {
  for (int missing = 1; missing <= 5; ++missing) {
    INFO(missing);
    Vm vm;
    vm.structs[missing].field = "_other";
    HotspotOptions options;
    CHECK_FALSE(options.open(vm.tables()));
  }
  Vm vm;
  vm.structs[4].address = nullptr;
  HotspotOptions options;
  CHECK_FALSE(options.open(vm.tables()));
  Vm unsized_type;
  unsized_type.types[1].size = 0;
  CHECK_FALSE(options.open(unsized_type.tables()));
  Vm wide;
  wide.types[1].size = 1 << 20;
  CHECK_FALSE(options.open(wide.tables()));
  HotspotTables no_stride = Vm{}.tables();
  no_stride.struct_stride = 0;
  CHECK_FALSE(options.open(no_stride));
}
