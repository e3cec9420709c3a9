/* Lets the archive's library load with any glibc from 2.28 on, whichever it was built with.
 *
 * A linker binds to the newest version of each of libc's functions. What is defined here, hidden, stands in for those that are
 * newer than 2.28, in our own code and in the C++ runtime linked in. Most are what they always were, and jump to their older
 * version. A few did not exist: those are looked for in the libc of the process, and done without where it has none.
 *
 * Answers for: the names below; tests/bundle_test.py finds any other. Refuses to change what a program sees: nothing here is
 * exported. Threads: any; the constructor comes before the library's own, and thus before any thread of it.
 */
#include <dlfcn.h>
#include <link.h>
#include <sys/stat.h>

#include <gnu/libc-version.h>

#include "profile/stack_walk.h"
#include "runtimes/elf_image.h"
#include "system/lone_thread.h"

/* The oldest version of what each machine's glibc has. */
#if defined(__x86_64__)
#define MEMLIMIT_FIRST_VERSION "GLIBC_2.2.5"
#define MEMLIMIT_DLADDR1_VERSION "GLIBC_2.3.3"
#elif defined(__aarch64__)
#define MEMLIMIT_FIRST_VERSION "GLIBC_2.17"
#define MEMLIMIT_DLADDR1_VERSION "GLIBC_2.17"
#else
#error "with which version glibc began on this machine is not known"
#endif

#define MEMLIMIT_OLDER(name, version) "        MEMLIMIT_OLDER " #name ", " version "\n"

/* Unchanged since, but for the library that has them: until 2.33 (pthread_sigmask: 2.31) libpthread and libdl. Jumps, since
 * dlsym() and its like take the return address for whoever asks. */
__asm__(
#if defined(__x86_64__)
    R"(
        .macro  MEMLIMIT_OLDER name, version
        .symver memlimit_older_\name, \name\()@\version
        .globl  \name
        .hidden \name
        .type   \name, @function
\name:
        .cfi_startproc
        endbr64
        jmp     *memlimit_older_\name@GOTPCREL(%rip)
        .cfi_endproc
        .size   \name, .-\name
        .endm
)"
#else
    R"(
        .macro  MEMLIMIT_OLDER name, version
        .symver memlimit_older_\name, \name\()@\version
        .globl  \name
        .hidden \name
        .type   \name, %function
\name:
        .cfi_startproc
        hint    #34 // bti c
        adrp    x16, :got:memlimit_older_\name
        ldr     x16, [x16, :got_lo12:memlimit_older_\name]
        br      x16
        .cfi_endproc
        .size   \name, .-\name
        .endm
)"
#endif
    "        .text\n"
    // clang-format off
    MEMLIMIT_OLDER(dladdr, MEMLIMIT_FIRST_VERSION)
    MEMLIMIT_OLDER(dladdr1, MEMLIMIT_DLADDR1_VERSION)
    MEMLIMIT_OLDER(dlclose, MEMLIMIT_FIRST_VERSION)
    MEMLIMIT_OLDER(dlerror, MEMLIMIT_FIRST_VERSION)
    MEMLIMIT_OLDER(dlsym, MEMLIMIT_FIRST_VERSION)
    MEMLIMIT_OLDER(pthread_attr_setstacksize, MEMLIMIT_FIRST_VERSION)
    MEMLIMIT_OLDER(pthread_create, MEMLIMIT_FIRST_VERSION)
    MEMLIMIT_OLDER(pthread_key_create, MEMLIMIT_FIRST_VERSION)
    MEMLIMIT_OLDER(__pthread_key_create, MEMLIMIT_FIRST_VERSION)
    MEMLIMIT_OLDER(pthread_once, MEMLIMIT_FIRST_VERSION)
    MEMLIMIT_OLDER(pthread_setspecific, MEMLIMIT_FIRST_VERSION)
    MEMLIMIT_OLDER(pthread_sigmask, MEMLIMIT_FIRST_VERSION)
    "        .purgem MEMLIMIT_OLDER\n"
    "        .symver memlimit_older_stat, __xstat64@" MEMLIMIT_FIRST_VERSION "\n"
    "        .symver memlimit_older_fstat, __fxstat64@" MEMLIMIT_FIRST_VERSION "\n"
    "        .symver memlimit_older_lstat, __lxstat64@" MEMLIMIT_FIRST_VERSION "\n");
// clang-format on

/* By the name of the symbol in what follows: the headers' declarations are of the newer ones. */
#define MEMLIMIT_STANDS_FOR(name) __asm__(name) __attribute__((visibility("hidden")))

extern "C" {

/* Until 2.32 these were functions of the headers around others, which say whose structure is meant. */
int memlimit_older_stat(int version, const char* path, struct stat* out) noexcept;
int memlimit_older_fstat(int version, int fd, struct stat* out) noexcept;
int memlimit_older_lstat(int version, const char* path, struct stat* out) noexcept;

int stat_of_glibc_2_33(const char* path, struct stat* out) noexcept MEMLIMIT_STANDS_FOR("stat64");
int fstat_of_glibc_2_33(int fd, struct stat* out) noexcept MEMLIMIT_STANDS_FOR("fstat64");
int lstat_of_glibc_2_33(const char* path, struct stat* out) noexcept MEMLIMIT_STANDS_FOR("lstat64");

/* Of 2.32: false is always right, and costs the C++ runtime an atomic operation. Our own code asks libc's (below). */
extern char single_threaded_of_glibc_2_32 MEMLIMIT_STANDS_FOR("__libc_single_threaded");
char single_threaded_of_glibc_2_32 = 0;

const char* strerrordesc_of_glibc_2_32(int error) noexcept MEMLIMIT_STANDS_FOR("strerrordesc_np");

/* Of 2.35, for the unwinder linked in. */
int find_object_of_glibc_2_35(void* address, dl_find_object* out) noexcept
    MEMLIMIT_STANDS_FOR("_dl_find_object");

}  // extern "C"

namespace memlimit {
namespace {

#if defined(__x86_64__)
constexpr int kStatVersion = 1;
#else
constexpr int kStatVersion = 0;
#endif

/* What this process's libc has; null: it is older. */
struct Newer {
  bool known;
  int (*find_object)(void*, dl_find_object*) noexcept;
  const char* (*strerrordesc)(int) noexcept;
  /* Until 2.31, where strerrordesc_np() is not. */
  const char* const* error_texts;
  const int* error_count;
};
constinit Newer newer{};

int find_by_list(dl_phdr_info* info, size_t, void* arg) {
  auto& out = *static_cast<dl_find_object*>(arg);
  const auto target = reinterpret_cast<uintptr_t>(out.dlfo_map_start);
  uintptr_t begin = 0, end = 0, unwind_header = 0;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = info->dlpi_phdr[i];
    const uintptr_t at = info->dlpi_addr + segment.p_vaddr;
    if (segment.p_type == PT_LOAD && target >= at && target - at < segment.p_memsz) {
      begin = at;
      end = at + segment.p_memsz;
    }
    if (segment.p_type == PT_GNU_EH_FRAME) unwind_header = at;
  }
  if (end == 0) return 0;
  out.dlfo_map_start = reinterpret_cast<void*>(begin);
  out.dlfo_map_end = reinterpret_cast<void*>(end);
  out.dlfo_eh_frame = reinterpret_cast<void*>(unwind_header);
  return unwind_header != 0 ? 1 : -1;
}

/* Before the library's own constructor. Nothing is loaded but what the program starts with. */
__attribute__((constructor(101))) void look_at_libc() noexcept {
  newer.known = true;
  runtimes::ElfImage libc;
  if (!runtimes::image_of(reinterpret_cast<const void*>(&gnu_get_libc_version), &libc)) return;
  libc.find("_dl_find_object", &newer.find_object);
  if (!libc.find("strerrordesc_np", &newer.strerrordesc)) {
    newer.error_texts = static_cast<const char* const*>(libc.symbol("sys_errlist"));
    newer.error_count = static_cast<const int*>(libc.symbol("sys_nerr"));
  }
  // A program that reads it may have a copy of its own, which until 2.35 is the only one that libc writes to.
  constexpr char kLoneThread[] = "__libc_single_threaded";
  const bool tells = libc.symbol(kLoneThread) != nullptr;
  os::set_told_lone_thread(tells ? static_cast<char*>(dlsym(RTLD_DEFAULT, kLoneThread)) : nullptr);
  // Not what stands in for it, which takes a lock: stacks are taken inside malloc.
  profile::set_object_finder(newer.find_object);
}

}  // namespace
}  // namespace memlimit

using memlimit::kStatVersion;
using memlimit::newer;

int stat_of_glibc_2_33(const char* path, struct stat* out) noexcept {
  return memlimit_older_stat(kStatVersion, path, out);
}
int fstat_of_glibc_2_33(int fd, struct stat* out) noexcept {
  return memlimit_older_fstat(kStatVersion, fd, out);
}
int lstat_of_glibc_2_33(const char* path, struct stat* out) noexcept {
  return memlimit_older_lstat(kStatVersion, path, out);
}

const char* strerrordesc_of_glibc_2_32(int error) noexcept {
  // Where the library is the program (check_settings.cc) no constructor runs.
  if (!newer.known) memlimit::look_at_libc();
  if (newer.strerrordesc != nullptr) return newer.strerrordesc(error);
  if (newer.error_texts == nullptr || newer.error_count == nullptr) return nullptr;
  return error >= 0 && error < *newer.error_count ? newer.error_texts[error] : nullptr;
}

int find_object_of_glibc_2_35(void* address, dl_find_object* out) noexcept {
  if (newer.find_object != nullptr) return newer.find_object(address, out);
  *out = {};
  out->dlfo_map_start = address;
  return dl_iterate_phdr(memlimit::find_by_list, out) == 1 ? 0 : -1;
}
