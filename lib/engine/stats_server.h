/* The process's statistics socket: opened, kept and answered by the service thread.
 *
 * Answers for: where the socket is, what its files say (it asks figures.h and the renderers), and what a client may
 * change: the limit, through limit.h. Refuses to speak the protocol (observe/stats_socket.h).
 * Threads: configure() at start; kTask and publish_event() on the service thread.
 */
#pragma once

#include <string_view>

#include "engine/fork.h"
#include "engine/service.h"
#include "settings/config.h"

namespace memlimit::stats_server {

/** Once, at start. The Config must live for ever. `xdg_runtime_dir` (may be null) is copied. */
void configure(const Config& config, const char* xdg_runtime_dir) noexcept;

/** Where a bad setting keeps the program from starting: whether the socket that was asked for by name can be made, as far as
 *  that can be seen. If not, one line on standard error says why. Makes nothing. */
bool can_open(const Config& config) noexcept;

/** Whether anybody reads the file `events`; without, publish_event() costs nothing. */
bool has_subscribers() noexcept;

/** Sends a line of format_event() to whoever reads `events`. */
void publish_event(std::string_view line) noexcept;

extern const service::Task kTask;
extern const fork::Part kForkPart;

}  // namespace memlimit::stats_server
