/* Start-up and exit order.
 *
 * malloc works before this constructor and after this destructor: counting needs neither. The
 * constructor reads the settings, arranges for thread exits and forks to be noticed, and hands over to lib/start.cc, which
 * wires the parts and sets the limit. The destructor removes the socket.
 */
#include <cstdlib>
#include <cstring>

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "address_range.h"
#include "atfork.h"
#include "backing.h"
#include "check_settings.h"
#include "dlopen.h"
#include "engine/allocator.h"
#include "engine/service.h"
#include "heap/heap.h"
#include "heap_ties.h"
#include "mappings.h"
#include "observe/log.h"
#include "settings/environment.h"
#include "start.h"
#include "system/attributes.h"
#include "system/os.h"
#include "waits.h"

using namespace memlimit;

namespace {

constinit Config config{};

/* Whether an object holds mi_malloc: it is the allocator. Not the address that this library sees: that is one in a program
 * that takes it, too, and is not position-independent. */
int find_allocator(dl_phdr_info* info, size_t, void* mimalloc_function) {
  const auto target = reinterpret_cast<uintptr_t>(mimalloc_function);
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = info->dlpi_phdr[i];
    const uintptr_t begin = info->dlpi_addr + segment.p_vaddr;
    const AddressRange code{begin, begin + segment.p_memsz};
    if (segment.p_type != PT_LOAD || target < code.begin || target >= code.end) continue;
    mappings::set_allocator_code(code);
    return 1;
  }
  return 0;
}

const char* find_variable(char** envp, const char* name) noexcept {
  const size_t length = strlen(name);
  for (; envp != nullptr && *envp != nullptr; ++envp) {
    if (strncmp(*envp, name, length) == 0 && (*envp)[length] == '=') return *envp + length + 1;
  }
  return nullptr;
}

/* glibc passes the program's arguments to constructors; the environment is taken from there, since
 * another library's constructor may already have changed `environ`. musl passes none. */
__attribute__((constructor)) void start([[maybe_unused]] int, [[maybe_unused]] char**,
                                        [[maybe_unused]] char** envp) {
#if !defined(__GLIBC__)
  envp = environ;
#endif
  os::ErrnoGuard errno_guard;
  heap_ties::mind_address_space();
  waits::find_functions();
  // Without mimalloc whoever maps is the program: the heap asks the kernel itself.
  if (dl_iterate_phdr(find_allocator, dlsym(RTLD_NEXT, "mi_malloc")) == 0)
    mappings::set_allocator_code({UINTPTR_MAX, UINTPTR_MAX});
  backing::set_options();
  process_log().note_stderr();
  const bool secure = getauxval(AT_SECURE) != 0;
  ConfigErrors errors;
  config = parse_config(envp, secure, &errors);
  report(errors);
  if (config.strict && errors.error_count > 0) _exit(kBadSettingStatus);
  // Before anything is done that the settings ask for: they may be those of another user's process.
  if (config.check) _exit(can_be_met(config) ? 0 : kBadSettingStatus);

  heap_ties::notice_thread_exits();
  atfork::register_ours();
  const char* const xdg_runtime_dir = secure ? nullptr : find_variable(envp, "XDG_RUNTIME_DIR");
  const int failed_plugins = memlimit::start(
      config, {heap_ties::kAllocatorOps, {&memlimit_loader_calls, &memlimit_loader_listener}},
      xdg_runtime_dir);
  if (failed_plugins > 0 && config.strict) _exit(kBadSettingStatus);
}

__attribute__((destructor)) void stop() {
  service::stop();
  // Last: the end that follows is the program's, and nothing of ours is left behind.
  heap::check_own_cache();
}

}  // namespace
