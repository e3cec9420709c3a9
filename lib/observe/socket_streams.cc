#include "observe/socket_streams.h"

#include <cstring>

#include <sys/epoll.h>

#include "observe/request.h"
#include "system/text.h"

namespace memlimit {
namespace {

using State = SocketClient::State;
using Sent = SocketClient::Sent;

constexpr size_t kQueueBytes = SocketBounds::kEventQueueBytes;
constexpr size_t kDroppedLineBytes = 32; /* room for dropped=18446744073709551615\n */

/** Tells the subscriber how many events it has lost. */
void put_dropped(TextWriter& out, SocketClient& client) noexcept {
  out.put("dropped=").put_uint(client.dropped).put('\n');
  client.dropped = 0;
}

}  // namespace

bool SocketStreams::join(SocketClient& client, bool http, const SocketContent& content,
                         int64_t now_ns) noexcept {
  if (slots_->streaming() == SocketBounds::kMaxEventStreams && !drop_stalled(now_ns)) return false;
  slots_->start_streaming(client);
  char* const queue = slots_->answer_of(client);
  if (http) {
    TextWriter head(queue, kQueueBytes);
    put_http_head(head, 200, StatsFile::kEvents, -1);
    client.pending_end = head.length();
  }
  client.pending_end += content.render(content.context, StatsFile::kEvents,
                                       queue + client.pending_end, SocketBounds::kMaxEventBytes);
  client.answer_touched = kQueueBytes;
  flush(client, now_ns);
  return true;
}

/** Takes the place of the subscriber who has lost events, and read nothing, for longest: or clients that never
 *  read would keep everybody else from ever reading. */
bool SocketStreams::drop_stalled(int64_t now_ns) noexcept {
  SocketClient* stillest = nullptr;
  for (SocketClient& client : slots_->all()) {
    if (client.state != State::kStreaming || client.dropped == 0) continue;
    if (stillest == nullptr || client.progress_ns < stillest->progress_ns) stillest = &client;
  }
  if (stillest == nullptr || stillest->progress_ns + SocketBounds::kProgressNs > now_ns) {
    return false;
  }
  ++counts_->refused;
  slots_->drop(*stillest);
  return true;
}

void SocketStreams::publish(std::string_view line, int64_t now_ns) noexcept {
  line = line.substr(0, SocketBounds::kMaxEventBytes);
  for (SocketClient& client : slots_->all()) {
    if (client.state != State::kStreaming) continue;
    queue(client, line, now_ns);
    flush(client, client.progress_ns);
  }
}

/** Appends a line to the queue of a subscriber, or counts it as dropped. */
void SocketStreams::queue(SocketClient& client, std::string_view line, int64_t now_ns) noexcept {
  char* const queue = slots_->answer_of(client);
  const size_t pending = client.pending_end - client.pending_at;
  if (pending + kDroppedLineBytes + line.size() + 1 > kQueueBytes) {
    // From here on it is stalled; while it kept up, nobody took the time.
    if (client.dropped++ == 0) client.progress_ns = now_ns;
    return;
  }
  if (client.pending_at > 0) std::memmove(queue, queue + client.pending_at, pending);
  client.pending_at = 0;
  TextWriter out(queue + pending, kQueueBytes - pending);
  if (client.dropped > 0) put_dropped(out, client);
  out.put(line).put('\n');
  client.pending_end = pending + out.length();
}

void SocketStreams::flush(SocketClient& client, int64_t now_ns) noexcept {
  char* const queue = slots_->answer_of(client);
  Sent sent = client.send_pending(queue, now_ns);
  if (sent == Sent::kAll && client.dropped > 0) {
    TextWriter out(queue, kQueueBytes);
    put_dropped(out, client);
    client.pending_end = out.length();
    sent = client.send_pending(queue, now_ns);
  }
  const uint32_t reads = client.input_ended ? 0U : static_cast<uint32_t>(EPOLLIN);
  switch (sent) {
    case Sent::kAll:
      slots_->watch(client, reads);
      break;
    case Sent::kPart:
      slots_->watch(client, EPOLLOUT | reads);
      break;
    case Sent::kBroken:
      slots_->drop(client);
      break;
  }
}

/** A subscriber may shut its writing side (a shell's pipe does) and still read on. */
void SocketStreams::read(SocketClient& client, int64_t now_ns) noexcept {
  if (slots_->drain(client, now_ns) != SocketSlots::Input::kEnded) return;
  const bool writes = client.pending_at < client.pending_end;
  slots_->watch(client, writes ? static_cast<uint32_t>(EPOLLOUT) : 0U);
}

void SocketStreams::handle(SocketClient& client, uint32_t events, int64_t now_ns) noexcept {
  if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
    slots_->drop(client);
    return;
  }
  if ((events & EPOLLIN) != 0) read(client, now_ns);
  if (client.state == State::kStreaming && (events & EPOLLOUT) != 0) flush(client, now_ns);
}

}  // namespace memlimit
