#include "observe/stats_socket.h"

#include <cerrno>

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "observe/socket_io.h"
#include "system/attributes.h"
#include "system/os.h"
#include "system/text.h"

namespace memlimit {
namespace {

constexpr int64_t kRetryAcceptNs = 100'000'000; /* after EMFILE: the program may close something */
constexpr int64_t kCrowdNs = 1'000'000;         /* clients closer together than this are a crowd */

using State = SocketClient::State;

/** Says one line to somebody who gets nothing else, if that is possible without waiting. */
void turn_away(int fd, std::string_view line) noexcept {
  socket_io::send_some(fd, line.data(), line.size());
  char scratch[kMaxRequestBytes];
  socket_io::receive_some(fd, scratch, sizeof scratch);
  socket_io::hang_up(fd);
}

}  // namespace

int StatsSocket::open(const SocketPlace& place, const SocketContent& content, char* error,
                      size_t cap) noexcept {
  os::ErrnoGuard guard;
  const int bound = bind_stats_socket(place, &bound_, error, cap);
  if (bound != 0) return bound;
  content_ = content;
  access_.set(place.mode, bound_.abstract);
  send_buffer_bytes_ = place.send_buffer_bytes;
  const int result = door_.open(bound_.fd);
  if (result != 0) {
    TextWriter(error, cap)
        .put("the statistics socket cannot be watched (error ")
        .put_int(-result)
        .put(')');
    close();
    return result;
  }
  counts_ = {};
  return 0;
}

void StatsSocket::close() noexcept {
  os::ErrnoGuard guard;
  slots_.drop_all();
  unlink_stats_socket(bound_);
  bound_ = BoundSocket{};
  door_.close();
  slots_.unmap();
  lost_ = false;
}

bool StatsSocket::is_intact() const noexcept {
  os::ErrnoGuard guard;
  return !lost_ && door_.is_ours();
}

void StatsSocket::abandon() noexcept {
  os::ErrnoGuard guard;
  close();
  reset();
}

MEMLIMIT_CHILD_CODE void StatsSocket::forget_after_fork() noexcept {
  slots_.close_copies();
  door_.close_copies();
  slots_.unmap();
  reset();
}

/** Everything but descriptors and path, as it was before open(). */
MEMLIMIT_CHILD_CODE void StatsSocket::reset() noexcept {
  slots_.reset();
  bound_ = BoundSocket{};
  content_ = SocketContent{};
  lost_ = false;
  counts_ = {};
}

/** Serves the clients that have something; returns whether somebody may be at the door. */
bool StatsSocket::handle_clients(int64_t now_ns) noexcept {
  if (slots_.watched() == 0) return door_.is_listening();
  epoll_event events[kMaxClients + 1];
  const int count = epoll_wait(door_.epoll_fd(), events, kMaxClients + 1, 0);
  bool knock = false;
  for (int i = 0; i < count; ++i) {
    if (events[i].data.u64 == SocketDoor::kListenerKey) {
      knock = true;
    } else if (SocketClient* const client = slots_.find(events[i].data.u64)) {
      talk_.handle(*client, events[i].events, now_ns);
    } else if (slots_.has_orphans()) {
      lost_ = true;  // else it would wake us for ever
    }
  }
  return knock;
}

void StatsSocket::handle(int64_t now_ns) noexcept {
  if (!is_open()) return;
  os::ErrnoGuard guard;
  if (!is_intact()) {
    lost_ = true;
    return;
  }
  handled_ns_ = now_ns;
  const bool knock = handle_clients(now_ns);
  for (SocketClient& client : slots_.in_use()) {
    if (client.state != State::kFree && client.deadline_ns() <= now_ns) talk_.expire(client);
  }
  if (knock || (!door_.is_listening() && door_.again_ns() <= now_ns)) accept_clients(now_ns);
  if (slots_.count() == 0) slots_.trim();
}

int64_t StatsSocket::next_deadline_ns() const noexcept {
  if (!is_open()) return kNever;
  int64_t next = door_.is_listening() ? kNever : door_.again_ns();
  for (const SocketClient& client : slots_.in_use()) {
    if (client.state == State::kFree) continue;
    const int64_t deadline = client.deadline_ns();
    if (deadline < next) next = deadline;
  }
  return next;
}

/** A slot is free, or was taken from the client that has had its for longest while others wait. That it
 * still makes progress is no excuse: a byte now and then is what keeps slots on purpose. */
bool StatsSocket::make_room(int64_t now_ns) noexcept {
  if (!slots_.full()) return true;
  SocketClient* oldest = nullptr;
  for (SocketClient& client : slots_.in_use()) {
    if (client.state == State::kStreaming) continue;
    if (oldest == nullptr || client.started_ns < oldest->started_ns) oldest = &client;
  }
  // At most half of the slots stream, so there is one.
  if (oldest == nullptr) return false;
  const int64_t due_ns = oldest->started_ns + kCrowdedNs;
  if (due_ns > now_ns) {
    door_.stop_listening(due_ns);
    return false;
  }
  talk_.expire(*oldest);
  return true;
}

void StatsSocket::accept_clients(int64_t now_ns) noexcept {
  // A client that comes alone costs one call; who comes with a crowd is let in with it.
  const size_t turns = now_ns - accepted_ns_ < kCrowdNs ? 2 * kMaxClients : 1;
  for (size_t turn = 0; turn < turns; ++turn) {
    pollfd knock{door_.listen_fd(), POLLIN, 0};
    if (slots_.full() && poll(&knock, 1, 0) == 1 && !make_room(now_ns)) return;
    if (slots_.full()) break;
    const int fd = accept4(door_.listen_fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      accepted_ns_ = now_ns;
      admit(fd, now_ns);
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (socket_io::would_block(errno)) break;
    // No descriptor or memory left: the clients wait in the backlog.
    door_.stop_listening(now_ns + kRetryAcceptNs);
    return;
  }
  door_.listen();
}

void StatsSocket::admit(int fd, int64_t now_ns) noexcept {
  os::FileId id;
  if (!os::file_id(fd, &id)) return;  // the program has closed it already
  Peer peer;
  if (!read_peer(fd, &peer) || !access_.may_read(peer)) {
    ++counts_.refused;
    if (content_.refused != nullptr) content_.refused(content_.context, peer);
    char line[256];
    TextWriter text(line, sizeof line);
    text.put("memlimit: not permitted: you are ");
    access_.put_peer(text, peer);
    text.put(", and this process talks to uid ").put_uint(geteuid()).put(" and root only\n");
    turn_away(fd, text.view());
    return;
  }
  if (send_buffer_bytes_ > 0) {
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_buffer_bytes_, sizeof send_buffer_bytes_);
  }
  SocketClient* const client = slots_.take(fd, id, peer, now_ns);
  if (client == nullptr) {
    ++counts_.refused;
    turn_away(fd, "memlimit: no memory to answer\n");
    return;
  }
  client->may_set = access_.is_owner(peer);
  talk_.handle(*client, 0, now_ns);
}

void StatsSocket::publish_event(std::string_view line) noexcept {
  if (!has_subscribers()) return;
  os::ErrnoGuard guard;
  if (!is_intact()) {
    lost_ = true;
    return;
  }
  if (line.ends_with('\n')) line.remove_suffix(1);
  streams_.publish(line, handled_ns_);
}

}  // namespace memlimit
