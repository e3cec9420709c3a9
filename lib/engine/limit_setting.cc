/* See limit_setting.h. */
#include "engine/limit_setting.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <utility>

#include "engine/limit.h"
#include "engine/paced.h"
#include "observe/log.h"
#include "settings/container_share.h"
#include "settings/units.h"
#include "system/attributes.h"
#include "system/lock.h"
#include "system/os.h"
#include "system/text.h"

namespace memlimit::limit_setting {
namespace {

constinit MEMLIMIT_FORK_DATA Lock setting_lock{LockRank::kLimit};
constinit MemoryGroup group;
constinit MEMLIMIT_FORK_DATA bool group_is_found = false; /* or being looked for */
constinit LimitSetting in_force MEMLIMIT_GUARDED_BY(setting_lock){};
constinit LimitSource asked_by MEMLIMIT_GUARDED_BY(setting_lock) = LimitSource::kEnvironment;
/* What in_force came to when it was last put in force. */
constinit int64_t resolved_bytes MEMLIMIT_GUARDED_BY(setting_lock) = 0;
constinit MEMLIMIT_FORK_DATA std::atomic<bool> following{false}; /* the group is in use */
constinit MEMLIMIT_FORK_DATA std::atomic<bool> news{false};      /* for take_news() */
/* Whether the news are of apply(): somebody has just asked for what cannot be had. */
constinit bool setting_is_news MEMLIMIT_GUARDED_BY(setting_lock) = false;
constinit GroupProblem told_problem MEMLIMIT_GUARDED_BY(setting_lock) = GroupProblem::kNone;
constinit bool told_too_little MEMLIMIT_GUARDED_BY(setting_lock) = false;

constexpr size_t kSourceCap = 96;
constexpr size_t kShownPath = 512; /* of a path in the log; a longer one is left out */
constexpr size_t kLineCap = 1280;  /* of a line with two of them */

const char* name_of(LimitSource source) noexcept {
  return source == LimitSource::kSocket ? "socket" : "MEMLIMIT";
}

/* "MEMLIMIT (80% of 2GiB)": where the figure comes from, for the statistics. */
void name_container_limit(char (&text)[kSourceCap]) noexcept MEMLIMIT_REQUIRES(setting_lock) {
  char size[32];
  format_size(group.container_bytes(), size, sizeof size);
  snprintf(text, sizeof text, "%s (%d%% of %s)", name_of(asked_by), in_force.percent, size);
}

void set_from_container(LimitSource source) noexcept MEMLIMIT_REQUIRES(setting_lock) {
  char text[kSourceCap];
  name_container_limit(text);
  resolved_bytes = container_limit(group.container_bytes(), in_force.percent);
  limit::set(resolved_bytes, source, text);
}

/* What the program has set itself stays; should it put back what it found, the container counts again, with
 * what became of it meanwhile. */
void follow_container() noexcept MEMLIMIT_REQUIRES(setting_lock) {
  const int64_t bytes = container_limit(group.container_bytes(), in_force.percent);
  if (bytes == resolved_bytes) return;
  char text[kSourceCap];
  name_container_limit(text);
  if (limit::replace(resolved_bytes, bytes, LimitSource::kContainer, text)) {
    resolved_bytes = bytes;
  }
}

bool from_container(const LimitSetting& setting) noexcept {
  return setting.kind == LimitKind::kPercent || setting.kind == LimitKind::kAuto;
}

/* No memory controller is how a machine without containers looks. */
bool is_trouble(GroupProblem problem) noexcept {
  return problem != GroupProblem::kNone && problem != GroupProblem::kNoController;
}

bool is_too_little() noexcept MEMLIMIT_REQUIRES(setting_lock) {
  return from_container(in_force) && resolved_bytes > 0 && resolved_bytes < kLeastUsefulBytes;
}

/* "MEMLIMIT=80%", as it was asked for. */
TextWriter& put_setting(TextWriter& out) noexcept MEMLIMIT_REQUIRES(setting_lock) {
  out.put(asked_by == LimitSource::kSocket ? "limit=" : "MEMLIMIT=");
  if (in_force.kind == LimitKind::kAuto) return out.put("auto");
  return out.put_int(in_force.percent).put('%');
}

TextWriter& put_size(TextWriter& out, int64_t bytes) noexcept {
  char size[32];
  format_size(bytes, size, sizeof size);
  return out.put(size);
}

void put_problem(TextWriter& out) noexcept MEMLIMIT_REQUIRES(setting_lock) {
  out.put(problem_text(group.problem()));
  char path[kShownPath];
  if (group.problem_path(path, sizeof path) > 0) out.put(" (").put(path).put(')');
}

/* Where the container's memory was read, and what was in the way. */
void put_container(TextWriter& out) noexcept MEMLIMIT_REQUIRES(setting_lock) {
  char path[kShownPath];
  if (group.limit_path(path, sizeof path) == 0) snprintf(path, sizeof path, "no file");
  put_size(out.put("the container's memory is "), group.container_bytes()).put(", by ").put(path);
  if (group.problem() != GroupProblem::kNone) put_problem(out.put("; "));
}

/* A share that was taken of something else than was meant, or of so little that it is no use. False: there is nothing to
 * say. */
bool put_concern(TextWriter& out) noexcept MEMLIMIT_REQUIRES(setting_lock) {
  if (is_trouble(group.problem())) {
    const bool of_machine = group.limit_file() == LimitFile::kPhysical;
    if (!from_container(in_force) || (!of_machine && group.container_bytes() > 0)) {
      put_container(out);
    } else if (of_machine) {
      put_size(put_setting(out).put(" is of the machine's memory ("), group.container_bytes());
      put_problem(out.put("), for the container's cannot be told: "));
      put_size(out.put(". The limit is "), resolved_bytes);
      out.put(": write a size (512MiB), or show the program /sys/fs/cgroup");
    } else {
      put_problem(put_setting(out).put(" is of nothing: "));
      out.put(". Running without a limit: write a size (512MiB)");
    }
    return true;
  }
  if (!is_too_little()) return false;
  put_size(put_setting(out).put(" of "), group.container_bytes());
  put_size(out.put(" is "), resolved_bytes).put(", too little for a program to work in: ");
  out.put("write a larger share, or a size (512MiB)");
  return true;
}

}  // namespace

void apply(const LimitSetting& setting, LimitSource source) noexcept {
  LockGuard guard(setting_lock);
  in_force = setting;
  asked_by = source;
  const bool shared = from_container(setting);
  paced::set_hint(paced::Hint::kContainerLimit, shared);
  const bool uses_group = setting.kind != LimitKind::kOff && paced::mode() == AccountMode::kCgroup;
  if (shared || uses_group) {
    group_is_found = true;
    group.find();
    paced::set_group(&group);
    told_problem = group.problem();
    setting_is_news = true;
    news.store(true, std::memory_order_release);
  }
  following.store(shared || uses_group, std::memory_order_relaxed);
  if (shared) {
    set_from_container(source);
  } else {
    limit::set(setting.kind == LimitKind::kBytes ? setting.bytes : 0, source, name_of(source));
  }
}

void apply_at_start(const Config& config) noexcept {
  apply(config.limit, LimitSource::kEnvironment);
  if (!follows_container() || config.log.level < LogLevel::kWarn) return;
  char line[kLineCap];
  TextWriter text(line, sizeof line);
  {
    LockGuard guard(setting_lock);
    if (!put_concern(text)) return;
    setting_is_news = false;
    told_too_little = is_too_little();
  }
  write_fatal(line);
}

bool follows_container() noexcept { return following.load(std::memory_order_relaxed); }

void refresh() noexcept {
  LockGuard guard(setting_lock);
  if (!follows_container()) return;
  const bool resized = group.refresh();
  if (resized || group.problem() != told_problem) {
    told_problem = group.problem();
    news.store(true, std::memory_order_release);
  }
  if (from_container(in_force)) follow_container();
}

MemoryGroup& container() noexcept { return group; }

bool take_news(char* line, size_t cap, bool* problem) noexcept {
  if (!news.exchange(false, std::memory_order_acquire)) return false;
  LockGuard guard(setting_lock);
  TextWriter text(line, cap);
  const bool trouble = std::exchange(setting_is_news, false) && is_trouble(group.problem());
  const bool too_little = is_too_little();
  *problem = trouble || (too_little && !told_too_little);
  told_too_little = too_little;
  if (!*problem || !put_concern(text)) put_container(text);
  return true;
}

namespace {

MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept {
  setting_lock.reset_after_fork();
  if (group_is_found) group.reset_after_fork();
}

}  // namespace

constinit const fork::Part kForkPart{"limit", fork::hold<setting_lock>, fork::let_go<setting_lock>,
                                     reset_after_fork};

}  // namespace memlimit::limit_setting
