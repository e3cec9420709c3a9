/* See event_words.h. */
#include "observe/event_words.h"

#include "settings/units.h"
#include "system/text.h"

namespace memlimit {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;

TextWriter& put_size(TextWriter& out, int64_t bytes) noexcept {
  char size[32];
  format_size(bytes, size, sizeof size);
  return out.put(size);
}

/* Whole milliseconds, as seconds. */
TextWriter& put_time(TextWriter& out, int64_t ns) noexcept {
  return out.put_seconds(ns / kNsPerMs * kNsPerMs).put(" s");
}

void put_left_out(TextWriter& out, const EventNames& names) noexcept {
  char text[256];
  if (names.left_out == nullptr || names.left_out(text, sizeof text) == 0) return;
  out.put(". Not asked to reclaim: ").put(text);
}

void put_first_site(TextWriter& out, const EventNames& names) noexcept {
  if (names.first_site == nullptr) return;
  char text[320];
  TextWriter site(text, sizeof text);
  const int64_t live_bytes = names.first_site(site);
  if (live_bytes <= 0) return;
  put_size(out.put(". Largest site in the heap profile: "), live_bytes);
  out.put(" at ").put_escaped(site.view(), sizeof text);
}

/* What this process holds of the container's figure; negative: the figure is its own. */
int64_t part_of_container(const EventNames& names) noexcept {
  return names.part_of_container != nullptr ? names.part_of_container() : -1;
}

void put_remaining(TextWriter& out, int64_t needed, int64_t part) noexcept {
  if (part < 0) {
    put_size(out, needed).put(" remain after reclaim");
  } else {
    put_size(out.put("The container's processes hold "), needed);
    put_size(out.put(" after reclaim (this one "), part).put(')');
  }
}

void put_remained(TextWriter& out, int64_t needed, int64_t part) noexcept {
  if (part < 0) {
    put_size(out.put("After reclaim there were "), needed);
  } else {
    put_size(out.put("After reclaim the container's processes held "), needed);
    put_size(out.put(" (this one "), part).put(')');
  }
}

void say_limiter_on(TextWriter& out, const Event& event, const EventNames& names) noexcept {
  const int64_t needed = event.args[0], limit = event.args[1];
  const int64_t reclaim_ns = event.args[2], cpu_ns = event.args[3];
  out.put("the limit cannot be held: ");
  if (reclaim_ns == 0) {
    put_remaining(out.put("not enough can be given back. "), needed, part_of_container(names));
    put_size(out.put(", the limit is "), limit);
    put_size(out.put(": it would hold from "), needed).put(" on");
  } else {
    put_time(out.put("reclaim and waiting for it took "), reclaim_ns);
    put_time(out.put(" in "), cpu_ns).put(" of CPU time, of which they may have half");
    put_size(out.put(". It pauses, and memory may grow past "), limit);
    if (needed > limit) put_remained(out.put(". "), needed, part_of_container(names));
  }
  put_first_site(out, names);
  put_left_out(out, names);
}

void say_room_low(TextWriter& out, const Event& event, const EventNames& names) noexcept {
  put_size(out.put("the container is nearly full: "), event.args[0]);
  put_size(out.put(" of "), event.args[1]);
  out.put(" are left, and nothing helps. The kernel kills a process of it when they are used up");
  put_first_site(out, names);
  put_left_out(out, names);
}

void put_hook_call(TextWriter& out, const Event& event, const EventNames& names) noexcept {
  const char* const name = names.hook != nullptr ? names.hook(event.args[0]) : nullptr;
  if (name != nullptr && name[0] != '\0') {
    out.put_escaped(name);
  } else {
    out.put("the one in slot ").put_int(event.args[0]);
  }
  put_time(out.put(" took "), event.args[2]).put(" in round ").put_int(event.args[1]);
}

void say_hook_overran(TextWriter& out, const Event& event, const EventNames& names) noexcept {
  put_hook_call(out.put("a hook runs too long: "), event, names);
  out.put(". Others wait for it meanwhile");
}

void say_hook_returned(TextWriter& out, const Event& event, const EventNames& names) noexcept {
  put_hook_call(out.put("a hook that ran too long has returned: "), event, names);
}

void say_service_failed(TextWriter& out, const Event& event) noexcept {
  out.put("the service thread could not be started (");
  out.put_errno(static_cast<int>(event.args[0])).put("); it is tried again each second");
}

}  // namespace

bool has_words(EventKind kind) noexcept {
  switch (kind) {
    case EventKind::kLimiterOn:
    case EventKind::kRoomLow:
    case EventKind::kHookOverran:
    case EventKind::kHookReturned:
    case EventKind::kServiceFailed:
    case EventKind::kSocketFailed: /* by the socket's own task, which has the reason */
      return true;
    default:
      return false;
  }
}

size_t say_event(const Event& event, const EventNames& names, char* out, size_t cap) noexcept {
  TextWriter writer(out, cap);
  switch (event.kind) {
    case EventKind::kLimiterOn:
      say_limiter_on(writer, event, names);
      break;
    case EventKind::kRoomLow:
      say_room_low(writer, event, names);
      break;
    case EventKind::kHookOverran:
      say_hook_overran(writer, event, names);
      break;
    case EventKind::kHookReturned:
      say_hook_returned(writer, event, names);
      break;
    case EventKind::kServiceFailed:
      say_service_failed(writer, event);
      break;
    default:
      break;
  }
  return writer.length();
}

}  // namespace memlimit
