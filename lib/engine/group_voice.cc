/* See group_voice.h. */
#include "engine/group_voice.h"

#include <cerrno>

#include "engine/limit_setting.h"
#include "engine/paced.h"
#include "system/attributes.h"
#include "system/os.h"

namespace memlimit::group_voice {
namespace {

/* As rarely as one process says it (log.h). */
constexpr int64_t kSpokenForNs = 600'000'000'000;

/* A kind of concern, and the file whose lock stands for it. */
struct Voice {
  const char* file;
  int fd = -1;
  os::FileId id{}; /* of what is locked: the program may close the descriptor, and use its number */
  int64_t until_ns = 0;
};
constinit MEMLIMIT_FORK_DATA Voice unheld{"/memory.stat"};
constinit MEMLIMIT_FORK_DATA Voice room_low{"/cgroup.procs"};

bool is_held(const Voice& voice) noexcept {
  os::FileId id;
  return voice.fd >= 0 && os::file_id(voice.fd, &id) && id == voice.id;
}

MEMLIMIT_CHILD_CODE void let_go(Voice& voice) noexcept {
  if (is_held(voice)) os::close_file(voice.fd);
  voice.fd = -1;
}

bool take(Voice& voice, int64_t now_ns) noexcept {
  voice.until_ns = now_ns + kSpokenForNs;
  if (is_held(voice)) return true;
  voice.fd = -1;
  const int fd = limit_setting::container().open_watched(voice.file);
  if (fd < 0) return true;
  const int error = os::try_lock_file(fd);
  if (error != 0 || !os::file_id(fd, &voice.id)) {
    os::close_file(fd);
    return error != -EWOULDBLOCK;
  }
  voice.fd = os::move_fd_high(fd);
  return true;
}

/* That reclaim takes too much of its CPU time concerns a process alone. */
Voice* voice_for(const Event& event) noexcept {
  if (event.kind == EventKind::kRoomLow) return &room_low;
  const bool out_of_reach = event.kind == EventKind::kLimiterOn && event.args[2] == 0;
  return out_of_reach && paced::counts_group() ? &unheld : nullptr;
}

MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept {
  // The parent's copies hold on to the locks.
  let_go(unheld);
  let_go(room_low);
}

}  // namespace

bool may_say(const Event& event) noexcept {
  Voice* const voice = voice_for(event);
  return voice == nullptr || take(*voice, event.time_ns);
}

int64_t own_part() noexcept { return paced::counts_group() ? paced::own_bytes() : -1; }

void rest(int64_t now_ns) noexcept {
  for (Voice* const voice : {&unheld, &room_low}) {
    if (voice->fd >= 0 && now_ns >= voice->until_ns) let_go(*voice);
  }
}

constinit const fork::Part kForkPart{.name = "group voice", .reset = reset_after_fork};

}  // namespace memlimit::group_voice
