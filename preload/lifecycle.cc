/* Start-up and exit order.
 *
 * malloc works before this constructor and after this destructor: counting needs neither. The
 * constructor reads the settings, arranges for thread exits and forks to be noticed, and sets the limit;
 * only that can start a service thread. The destructor removes the socket.
 */
#include <cstdlib>
#include <cstring>

#include <link.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "account.h"
#include "adapters/notices.h"
#include "adapters/registry.h"
#include "adapters/sqlite.h"
#include "attributes.h"
#include "backing.h"
#include "block_size.h"
#include "config.h"
#include "dlopen.h"
#include "fork.h"
#include "idle_pages.h"
#include "interrupted_frees.h"
#include "limit.h"
#include "log.h"
#include "mappings.h"
#include "os.h"
#include "plugins.h"
#include "reclaim.h"
#include "returned_frees.h"
#include "service.h"
#include "thread_state.h"

using namespace memlimit;

/* Where this library begins; the linker's. */
extern "C" MEMLIMIT_HIDDEN const ElfW(Ehdr) __ehdr_start;

namespace {

constexpr int kBadSettingStatus = 78; /* EX_CONFIG of sysexits.h */

constinit Config config{};
constinit pthread_key_t exit_key = 0;

/* glibc keeps the first 32 keys inside the thread, so setting ours never allocates. */
bool arm_thread_exit() noexcept { return pthread_setspecific(exit_key, &exit_key) == 0; }

void thread_exits(void*) { account::thread_exit(); }

/* The segment that holds mi_malloc: the allocator's code. */
void find_allocator(const dl_phdr_info& info) {
  const auto target = reinterpret_cast<uintptr_t>(&mi_malloc);
  for (int i = 0; i < info.dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = info.dlpi_phdr[i];
    const uintptr_t begin = info.dlpi_addr + segment.p_vaddr;
    if (segment.p_type != PT_LOAD || target < begin || target >= begin + segment.p_memsz) continue;
    mappings::set_allocator_code(reinterpret_cast<void*>(begin),
                                 reinterpret_cast<void*>(begin + segment.p_memsz));
  }
}

/* Whether an object is linked with libmimalloc. */
bool needs_allocator(const dl_phdr_info& info) {
  constexpr char kLibrary[] = "libmimalloc";
  const ElfW(Dyn)* dynamic = nullptr;
  for (int i = 0; i < info.dlpi_phnum; ++i) {
    if (info.dlpi_phdr[i].p_type != PT_DYNAMIC) continue;
    dynamic = reinterpret_cast<const ElfW(Dyn)*>(info.dlpi_addr + info.dlpi_phdr[i].p_vaddr);
  }
  if (dynamic == nullptr) return false;
  const char* names = nullptr;
  for (const ElfW(Dyn)* entry = dynamic; entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag == DT_STRTAB) names = reinterpret_cast<const char*>(entry->d_un.d_ptr);
  }
  if (names == nullptr) return false;
  for (const ElfW(Dyn)* entry = dynamic; entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag == DT_NEEDED &&
        strncmp(names + entry->d_un.d_val, kLibrary, sizeof kLibrary - 1) == 0) {
      return true;
    }
  }
  return false;
}

/* A program linked with the allocator may take blocks from it by the allocator's own names. */
int look_at_object(dl_phdr_info* info, size_t, void*) {
  find_allocator(*info);
  const bool ours = info->dlpi_addr == reinterpret_cast<uintptr_t>(&__ehdr_start);
  if (!ours && needs_allocator(*info)) {
    block_size::look_at_every_block();
    returned_frees::turn_off();
  }
  return 0;
}

void collect() noexcept {
  if (this_thread.is_service) {
    returned_frees::take_all();
  } else {
    returned_frees::take(returned_frees::kEverything);
  }
  backing::collect(true);
  idle_pages::release();
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

void repair_after_fork() noexcept {
  interrupted_frees::end_after_fork();
  returned_frees::reset_after_fork();
}

constexpr reclaim::AllocatorOps kAllocatorOps{collect, set_eagerness, mappings::madvise_calls,
                                              returned_frees::take_stale, mappings::mapped_bytes};

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

/* Who names a place for the socket, or asks for more than warnings, is waiting for them: the thread
 * comes at once instead of when memory gets interesting. */
bool wants_service_at_start() noexcept {
  return config.socket.kind == SocketKind::kPath || config.socket.kind == SocketKind::kDirectory ||
         config.report_seconds > 0 || (config.log.asked && config.log.level >= LogLevel::kInfo);
}

/* glibc passes the program's arguments to constructors; the environment is taken from there, since
 * another library's constructor may already have changed `environ`. */
__attribute__((constructor)) void start(int, char**, char** envp) {
  os::ErrnoGuard errno_guard;
  block_size::note_loaded();
  dl_iterate_phdr(look_at_object, nullptr);
  backing::keep_purge_delay_fixed();
  backing::count_numa_nodes();
  process_log().note_stderr();
  const bool secure = getauxval(AT_SECURE) != 0;
  ConfigErrors errors;
  config = parse_config(envp, secure, &errors);
  report(errors);
  if (config.strict && errors.error_count > 0) _exit(kBadSettingStatus);

  if (pthread_key_create(&exit_key, thread_exits) == 0) {
    account::set_thread_exit_arm(arm_thread_exit);
  }
  fork::register_handlers(repair_after_fork);
  service::configure(config, secure ? nullptr : find_variable(envp, "XDG_RUNTIME_DIR"));
  reclaim::configure(config, kAllocatorOps);
  adapters::configure(config, &memlimit_loader_calls);
  adapters::sqlite::configure(config);
  adapters::configure_notices(config);
  limit::apply(config.limit, LimitSource::kEnvironment);
  if (load_plugins(config) > 0 && config.strict) _exit(kBadSettingStatus);
  if (config.check) _exit(0);
  if (wants_service_at_start()) service::start();
}

__attribute__((destructor)) void stop() { service::stop(); }

}  // namespace
