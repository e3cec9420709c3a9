#include "observe/socket_talk.h"

#include <cerrno>
#include <cstring>

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "observe/socket_io.h"
#include "observe/stats_text.h"
#include "system/text.h"

namespace memlimit {

using socket_io::would_block;
using State = SocketClient::State;

void SocketTalk::handle(SocketClient& client, uint32_t events, int64_t now_ns) noexcept {
  switch (client.state) {
    case State::kReading:
      read(client, now_ns);
      break;
    case State::kAnswering:
      send_rest(client, now_ns);
      break;
    case State::kStreaming:
      streams_->handle(client, events, now_ns);
      break;
    case State::kLingering:
      linger(client, now_ns);
      break;
    case State::kFree:
      break;
  }
}

void SocketTalk::read(SocketClient& client, int64_t now_ns) noexcept {
  char* request = slots_->request_of(client);
  while (true) {
    // One byte more than allowed tells "exactly full" from "too long".
    const size_t room = kMaxRequestBytes + 1 - client.request_length;
    const ssize_t got = client.receive(request + client.request_length, room);
    if (got < 0) {
      if (would_block(errno)) {
        slots_->watch(client, EPOLLIN);
      } else {
        slots_->drop(client);
      }
      return;
    }
    client.input_ended = got == 0;
    client.request_length += static_cast<size_t>(got);
    client.overlong = client.request_length > kMaxRequestBytes;
    client.progress_ns = now_ns;
    const Request parsed = parse_request({request, client.request_length}, client.input_ended);
    if (parsed.outcome == Request::Outcome::kIncomplete) continue;
    client.prompt = parsed.outcome != Request::Outcome::kError && static_cast<size_t>(got) < room;
    answer(client, parsed, now_ns);
    return;
  }
}

void SocketTalk::answer(SocketClient& client, const Request& request, int64_t now_ns) noexcept {
  if (request.outcome == Request::Outcome::kError) {
    ++counts_->refused;
    answer_error(client, request, request.error, now_ns);
    return;
  }
  ++counts_->requests;
  if (request.outcome == Request::Outcome::kFile) {
    answer_file(client, request, now_ns);
    return;
  }
  change(client, request, now_ns);
}

/* What changes the limit, or the heap profile, and answers with what is in force then. */
void SocketTalk::change(SocketClient& client, const Request& request, int64_t now_ns) noexcept {
  const bool is_limit = request.outcome == Request::Outcome::kSetLimit;
  const std::string_view name = is_limit ? "limit" : "profile";
  char line[512];
  TextWriter text(line, sizeof line);
  if (!client.may_set) {
    ++counts_->refused;
    text.put("memlimit: not permitted: only uid ").put_uint(geteuid());
    text.put(" and root may change the ").put(name).put("; you are ");
    access_->put_peer(text, client.peer);
    answer_error(client, request, text.view(), now_ns);
    return;
  }
  char answer[400] = {};
  if (!set(client, request, answer, sizeof answer)) {
    text.put("memlimit: ").put(name).put("=\"").put_escaped(request.value).put("\" ").put(answer);
    answer_error(client, request, text.view(), now_ns);
    return;
  }
  if (!is_limit) {
    send(client, answer, std::strlen(answer), now_ns);
    return;
  }
  Request limit;
  limit.outcome = Request::Outcome::kFile;
  limit.file = StatsFile::kLimit;
  answer_file(client, limit, now_ns);
}

bool SocketTalk::set(const SocketClient& client, const Request& request, char* answer,
                     size_t cap) const noexcept {
  if (request.outcome == Request::Outcome::kSetLimit)
    return content_->set_limit(content_->context, request.value, client.peer, answer, cap);
  if (content_->set_profile != nullptr)
    return content_->set_profile(content_->context, request.value, answer, cap);
  TextWriter(answer, cap).put("cannot be changed here");
  return false;
}

/* Where code lies in a process is nobody's business who may not trace it: it undoes the randomness of addresses. */
bool SocketTalk::may_read(const SocketClient& client, StatsFile file) noexcept {
  return file != StatsFile::kProfile || client.may_set;
}

void SocketTalk::answer_file(SocketClient& client, const Request& request,
                             int64_t now_ns) noexcept {
  if (!may_read(client, request.file)) {
    ++counts_->refused;
    Request refused = request;
    refused.http_status = 403;
    char line[256];
    TextWriter text(line, sizeof line);
    text.put("memlimit: not permitted: only uid ").put_uint(geteuid());
    text.put(" and root may see addresses of this process; you are ");
    access_->put_peer(text, client.peer);
    answer_error(client, refused, text.view(), now_ns);
    return;
  }
  if (request.file == StatsFile::kEvents && !request.head) {
    if (!streams_->join(client, request.http, *content_, now_ns)) {
      ++counts_->refused;
      Request busy = request;
      busy.http_status = 503;
      answer_error(client, busy, "memlimit: 32 clients read events already; try again later",
                   now_ns);
    }
    return;
  }
  // The body is rendered behind room for a head, whose length depends on the body's.
  char* body = slots_->workspace() + kMaxHttpHeadBytes;
  size_t length = 0;
  if (request.file != StatsFile::kEvents) {
    length = content_->render(content_->context, request.file, body, kMaxTextBytes);
  }
  size_t head_length = 0;
  if (request.http) {
    char buffer[kMaxHttpHeadBytes + 1];
    TextWriter head(buffer, sizeof buffer);
    const int64_t stated = request.file == StatsFile::kEvents ? -1 : static_cast<int64_t>(length);
    put_http_head(head, 200, request.file, stated);
    head_length = head.length();
    std::memcpy(body - head_length, buffer, head_length);
    if (request.head) length = 0;
  }
  send(client, body - head_length, head_length + length, now_ns);
}

void SocketTalk::answer_error(SocketClient& client, const Request& request, std::string_view line,
                              int64_t now_ns) noexcept {
  char buffer[kMaxHttpHeadBytes + 512];
  TextWriter out(buffer, sizeof buffer);
  if (request.http) {
    const auto length = static_cast<int64_t>(line.size() + 1);
    put_http_head(out, request.http_status, StatsFile::kStatus, length);
  }
  if (!request.head) out.put(line).put('\n');
  send(client, buffer, out.length(), now_ns);
}

void SocketTalk::send(SocketClient& client, const char* text, size_t length,
                      int64_t now_ns) noexcept {
  while (length > 0) {
    const ssize_t sent = client.send(text, length);
    if (sent < 0 && would_block(errno)) {
      std::memcpy(slots_->answer_of(client), text, length);
      client.pending_at = 0;
      client.pending_end = client.answer_touched = length;
      client.state = State::kAnswering;
      client.prompt = false;  // there is time to write more meanwhile
      slots_->watch(client, EPOLLOUT);
      return;
    }
    if (sent < 0) {
      slots_->drop(client);
      return;
    }
    text += sent;
    length -= static_cast<size_t>(sent);
  }
  finish(client, now_ns);
}

void SocketTalk::send_rest(SocketClient& client, int64_t now_ns) noexcept {
  switch (client.send_pending(slots_->answer_of(client), now_ns)) {
    case SocketClient::Sent::kAll:
      finish(client, now_ns);
      break;
    case SocketClient::Sent::kPart:
      slots_->watch(client, EPOLLOUT);
      break;
    case SocketClient::Sent::kBroken:
      slots_->drop(client);
      break;
  }
}

/** The answer is out. Whoever is still writing is listened to for a while; who had written no more than a
 *  request when that was read is done. */
void SocketTalk::finish(SocketClient& client, int64_t now_ns) noexcept {
  if (client.prompt) {
    slots_->drop(client);
    return;
  }
  if (client.is_intact()) shutdown(client.fd.load(), SHUT_WR);
  client.state = State::kLingering;
  linger(client, now_ns);
}

void SocketTalk::linger(SocketClient& client, int64_t now_ns) noexcept {
  const SocketSlots::Input input = slots_->drain(client, now_ns);
  if (input == SocketSlots::Input::kEnded ||
      (input == SocketSlots::Input::kQuiet && !client.overlong)) {
    slots_->drop(client);
  } else {
    slots_->watch(client, EPOLLIN);
  }
}

void SocketTalk::expire(SocketClient& client) noexcept {
  if (client.state == State::kReading) {
    constexpr std::string_view kLine =
        "memlimit: no whole request in time; send one line naming a file, as in: status\n";
    const char* request = slots_->request_of(client);
    char buffer[kMaxHttpHeadBytes + kLine.size() + 1];
    TextWriter out(buffer, sizeof buffer);
    if (looks_like_http({request, client.request_length})) {
      put_http_head(out, 408, StatsFile::kStatus, kLine.size());
    }
    out.put(kLine);
    client.send(buffer, out.length());
  }
  if (client.state != State::kLingering) ++counts_->refused;
  slots_->drop(client);
}

}  // namespace memlimit
