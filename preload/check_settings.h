/* Whether the settings are good, told before any program runs: MEMLIMIT_STRICT=check, and the library as a program.
 *
 * Threads: the only one of a process that has not begun.
 */
#pragma once

#include "settings/environment.h"

namespace memlimit {

/** The process's status when they are not: EX_CONFIG of sysexits.h. */
inline constexpr int kBadSettingStatus = 78;

/** What is wrong with them, a line each on standard error. */
void report(const ConfigErrors& errors) noexcept;

/** Whether what they name can be had: plugins, and the socket. Says what cannot, on standard error. */
bool can_be_met(const Config& config) noexcept;

}  // namespace memlimit
