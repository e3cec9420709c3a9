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
#include "block_size.h"
#include "direct_use.h"
#include "dlopen.h"
#include "engine/account.h"
#include "engine/allocator.h"
#include "engine/plugins.h"
#include "engine/service.h"
#include "engine/thread_state.h"
#include "idle_pages.h"
#include "interrupted_readers.h"
#include "mappings.h"
#include "observe/log.h"
#include "recycled_blocks.h"
#include "settings/environment.h"
#include "start.h"
#include "system/attributes.h"
#include "system/os.h"

using namespace memlimit;

namespace {

constexpr int kBadSettingStatus = 78; /* EX_CONFIG of sysexits.h */

constinit Config config{};
constinit pthread_key_t exit_key = 0;

/* glibc keeps the first 32 keys inside the thread, and allocates for the others: libraries whose constructors ran
 * before ours may have taken those. */
bool arm_thread_exit() noexcept { return pthread_setspecific(exit_key, &exit_key) == 0; }

void thread_exits(void*) { account::thread_exit(); }

/* The object that holds mi_malloc: the allocator. Not the address that this library sees: that is one in a program that
 * takes it, too, and is not position-independent. */
void find_allocator(const dl_phdr_info& info, uintptr_t target) {
  AddressRange code{};
  AddressRange data{};
  for (int i = 0; i < info.dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = info.dlpi_phdr[i];
    if (segment.p_type != PT_LOAD) continue;
    const uintptr_t begin = info.dlpi_addr + segment.p_vaddr;
    const AddressRange range{begin, begin + segment.p_memsz};
    if (target >= range.begin && target < range.end) code = range;
    if ((segment.p_flags & PF_W) != 0) data = range;
  }
  if (code.end == 0) return;
  mappings::set_allocator_code(code);
  interrupted_readers::set_allocator(code, data);
}

int look_at_object(dl_phdr_info* info, size_t size, void* mimalloc_function) {
  find_allocator(*info, reinterpret_cast<uintptr_t>(mimalloc_function));
  return direct_use::look_at_object(info, size, nullptr);
}

void collect() noexcept {
  // First: it may empty pages.
  if (this_thread.is_service) recycled_blocks::free_unused();
  backing::collect(true);
  idle_pages::release();
  recycled_blocks::heap_was_collected();
}

/* mimalloc's own delays near the limit; its defaults far from it. */
void set_eagerness(Level level) noexcept {
  if (level == Level::kOver) {
    backing::set_purge_delay(0, 0);
  } else if (level == Level::kCritical) {
    backing::set_purge_delay(1, 10);
  } else {
    backing::set_purge_delay(25, 500);
  }
}

constexpr AllocatorOps kAllocatorOps{collect,
                                     set_eagerness,
                                     mappings::madvise_calls,
                                     recycled_blocks::pass_ended,
                                     recycled_blocks::kept_bytes,
                                     recycled_blocks::free_all,
                                     mappings::mapped_bytes};

void report(const ConfigErrors& errors) noexcept {
  for (int i = 0; i < errors.count; ++i) write_fatal(errors.items[i].text);
}

const char* find_variable(char** envp, const char* name) noexcept {
  const size_t length = strlen(name);
  for (; envp != nullptr && *envp != nullptr; ++envp) {
    if (strncmp(*envp, name, length) == 0 && (*envp)[length] == '=') return *envp + length + 1;
  }
  return nullptr;
}

/* glibc passes the program's arguments to constructors; the environment is taken from there, since
 * another library's constructor may already have changed `environ`. */
__attribute__((constructor)) void start(int, char**, char** envp) {
  os::ErrnoGuard errno_guard;
  block_size::note_loaded();
  dl_iterate_phdr(look_at_object, dlsym(RTLD_NEXT, "mi_malloc"));
  backing::keep_purge_delay_fixed();
  backing::count_numa_nodes();
  process_log().note_stderr();
  const bool secure = getauxval(AT_SECURE) != 0;
  ConfigErrors errors;
  config = parse_config(envp, secure, &errors);
  report(errors);
  if (config.strict && errors.error_count > 0) _exit(kBadSettingStatus);
  // Before anything is done that the settings ask for: they may be those of another user's process.
  if (config.check) _exit(check_plugins(config) > 0 ? kBadSettingStatus : 0);

  if (pthread_key_create(&exit_key, thread_exits) == 0) {
    account::set_thread_exit_arm(arm_thread_exit);
  }
  atfork::register_ours();
  const char* const xdg_runtime_dir = secure ? nullptr : find_variable(envp, "XDG_RUNTIME_DIR");
  const int failed_plugins = memlimit::start(
      config, {kAllocatorOps, &memlimit_loader_calls, direct_use::look_at_object}, xdg_runtime_dir);
  if (failed_plugins > 0 && config.strict) _exit(kBadSettingStatus);
}

__attribute__((destructor)) void stop() { service::stop(); }

}  // namespace
