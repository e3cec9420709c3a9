/* See check_settings.h.
 *
 * Given to the loader as the program itself (`ld.so libmemlimit.so`), the library checks the settings of its environment as
 * MEMLIMIT_STRICT=check does, and prints the limit in bytes, 0 for none. So a launcher needs no other program to ask, and
 * learns whether this loader can load this library. The loader has relocated everything and has initialised the libraries
 * below, but a program's own constructors it leaves to the program: ours have not run, and nothing here needs them.
 */
#include "check_settings.h"

#include <cstdint>

#include <sys/auxv.h>
#include <unistd.h>

#include "engine/plugins.h"
#include "engine/stats_server.h"
#include "observe/log.h"
#include "settings/container_share.h"
#include "system/attributes.h"
#include "system/cgroup.h"
#include "system/safe_write.h"
#include "system/text.h"

namespace memlimit {
namespace {

constexpr int kWriteWaitMs = 1000;

int64_t limit_bytes(const LimitSetting& limit) noexcept {
  if (limit.kind == LimitKind::kBytes) return limit.bytes;
  if (limit.kind == LimitKind::kOff) return 0;
  static constinit MemoryGroup group;
  group.find();
  return container_limit(group.container_bytes(), limit.percent);
}

}  // namespace

void report(const ConfigErrors& errors) noexcept {
  for (int i = 0; i < errors.count; ++i) write_fatal(errors.items[i].text);
}

bool can_be_met(const Config& config) noexcept {
  return check_plugins(config) == 0 && stats_server::can_open(config);
}

}  // namespace memlimit

using namespace memlimit;

extern "C" {
[[noreturn, gnu::used]] void memlimit_check(char** stack) noexcept;
}

/* `stack` as the kernel lays it out: the count of arguments, the arguments, nothing, the environment. */
void memlimit_check(char** stack) noexcept {
  char** const environment = stack + 1 + reinterpret_cast<intptr_t>(stack[0]) + 1;
  process_log().note_stderr();
  ConfigErrors errors;
  static constinit Config config{};
  config = parse_config(environment, getauxval(AT_SECURE) != 0, &errors);
  report(errors);
  if (errors.error_count > 0 || !can_be_met(config)) _exit(kBadSettingStatus);
  char line[32];
  TextWriter text(line, sizeof line);
  text.put_int(limit_bytes(config.limit)).put('\n');
  _exit(safe_write(STDOUT_FILENO, line, text.length(), kWriteWaitMs) == 0 ? 0 : kBadSettingStatus);
}

/* The entry of the library as a program. The stack pointer is all that it gets. */
#if defined __x86_64__
__asm__(
    ".text\n"
    ".globl memlimit_check_entry\n"
    ".hidden memlimit_check_entry\n"
    ".type memlimit_check_entry, @function\n"
    "memlimit_check_entry:\n"
    "  endbr64\n"
    "  xorl %ebp, %ebp\n"
    "  movq %rsp, %rdi\n"
    "  andq $-16, %rsp\n"
    "  call memlimit_check\n"
    ".size memlimit_check_entry, . - memlimit_check_entry\n");
#elif defined __aarch64__
__asm__(
    ".text\n"
    ".globl memlimit_check_entry\n"
    ".hidden memlimit_check_entry\n"
    ".type memlimit_check_entry, %function\n"
    "memlimit_check_entry:\n"
    "  hint #34\n" /* bti c */
    "  mov x29, #0\n"
    "  mov x0, sp\n"
    "  bl memlimit_check\n"
    ".size memlimit_check_entry, . - memlimit_check_entry\n");
#endif
