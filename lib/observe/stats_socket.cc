/* The statistics socket's server; see stats_socket.h.
 *
 * A client goes through these states:
 *   reading    its request is not all there yet
 *   answering  the kernel did not take the whole answer; the rest waits in the pool
 *   streaming  it subscribed to `events`
 *   lingering  answered, but still writing: read and thrown away, so that it gets to see the answer
 * (a socket closed with unread input makes the other end's read fail with ECONNRESET) Most clients
 * are served within admit() and never enter the epoll set.
 *
 * Before a client's descriptor is closed, it is taken out of the epoll set and shut down by hand: a
 * child forked meanwhile may hold a copy, which would keep both the registration and the connection
 * alive.
 *
 * The program may have closed every descriptor and opened files of its own under our numbers. So none is
 * used before it was compared with the file that was opened: a socket has an inode to itself, and the
 * epoll set is known by the listener in it.
 */
#include "observe/stats_socket.h"

#include <cerrno>
#include <cstring>
#include <new>

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "observe/stats_text.h"
#include "system/os.h"
#include "system/procfs.h"
#include "system/text.h"

namespace memlimit {
namespace {

constexpr size_t kPageBytes = 4096;
constexpr int64_t kRetryAcceptNs = 100'000'000; /* after EMFILE: the program may close something */
constexpr int64_t kCrowdNs = 1'000'000;         /* clients closer together than this are a crowd */
constexpr size_t kScratchBytes = size_t{16} << 10;
constexpr size_t kTrimAboveSlot = 4;
constexpr size_t kDroppedLineBytes = 32; /* room for dropped=18446744073709551615\n */
constexpr uint64_t kListenerKey = UINT64_MAX;

enum class State : uint8_t { kFree, kReading, kAnswering, kStreaming, kLingering };

/** Whether the number still stands for that file. */
bool is_file(int fd, const os::FileId& id) noexcept {
  os::FileId now;
  return fd >= 0 && os::file_id(fd, &now) && now == id;
}

ssize_t send_some(int fd, const char* text, size_t length) noexcept {
  ssize_t sent;
  do {
    sent = send(fd, text, length, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  return sent;
}

ssize_t receive_some(int fd, char* buffer, size_t cap) noexcept {
  ssize_t got;
  do {
    got = recv(fd, buffer, cap, MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  return got;
}

/** os::move_fd_high(), for a descriptor a request: the listener knows already where "high" is. */
int move_beside(int neighbour, int fd) noexcept {
  const int moved = fcntl(fd, F_DUPFD_CLOEXEC, neighbour);
  if (moved < 0) return fd;
  close(fd);
  return moved;
}

bool would_block(int error) noexcept { return error == EAGAIN || error == EWOULDBLOCK; }

void hang_up(int fd) noexcept {
  shutdown(fd, SHUT_RDWR);
  close(fd);
}

/** "uid 1000"; the overflow id alone would puzzle who reads that it is the program's as well. */
void put_peer(TextWriter& out, const Peer& peer, const procfs::Ids& ids) noexcept {
  out.put("uid ").put_uint(peer.uid);
  if (peer.uid == ids.overflow && !ids.all_mapped) {
    out.put(" (as is anybody from outside of its user namespace)");
  }
}

/** Says one line to somebody who gets nothing else, if that is possible without waiting. */
void turn_away(int fd, std::string_view line) noexcept {
  send_some(fd, line.data(), line.size());
  char scratch[kMaxRequestBytes];
  receive_some(fd, scratch, sizeof scratch);
  hang_up(fd);
}

}  // namespace

struct StatsSocket::Client {
  std::atomic<int> fd{-1};
  os::FileId id{}; /* what fd was when it was accepted */
  State state = State::kFree;
  bool may_set = false;     /* the same user, or root */
  bool input_ended = false; /* it shut its writing side */
  bool overlong = false;    /* it writes more than a request has, so it may be stuck in a write */
  bool prompt = false;      /* one good request, and nothing was left to read behind it */
  bool watched = false;     /* it is in the epoll set ... */
  uint32_t watched_for = 0; /* ... with these events */
  uint32_t slot = 0;
  uint32_t generation = 0; /* tells this client from the slot's former ones in a batch of events */
  Peer peer{};
  int64_t started_ns = 0;
  int64_t progress_ns = 0;
  size_t request_length = 0;
  size_t pending_at = 0, pending_end = 0; /* what waits to be sent, in the slot's answer */
  size_t answer_touched = 0;              /* highest byte of the answer ever written */
  uint64_t dropped = 0;                   /* events lost since it was last told */

  int64_t deadline_ns() const noexcept {
    if (state == State::kStreaming) return kNever;
    const int64_t idle = progress_ns + kProgressNs, total = started_ns + kTotalNs;
    return idle < total ? idle : total;
  }

  bool is_intact() const noexcept { return is_file(fd.load(), id); }

  /** EBADF when the program has taken the number; then the client is to be dropped. */
  ssize_t send(const char* text, size_t length) const noexcept {
    if (is_intact()) return send_some(fd.load(), text, length);
    errno = EBADF;
    return -1;
  }
  ssize_t receive(char* buffer, size_t cap) const noexcept {
    if (is_intact()) return receive_some(fd.load(), buffer, cap);
    errno = EBADF;
    return -1;
  }
};

/** One mapping; a page costs nothing before it is written. */
struct StatsSocket::Pool {
  static constexpr size_t kAnswerBytes = kMaxTextBytes + kPageBytes;
  static constexpr size_t kRequestStride = kMaxRequestBytes + 64;
  static_assert(kMaxHttpHeadBytes <= kPageBytes && kEventQueueBytes <= kAnswerBytes);

  Client clients[kMaxClients];
  alignas(kPageBytes) char requests[kMaxClients][kRequestStride];
  alignas(kPageBytes) char render[kAnswerBytes]; /* also scratch for input nobody wants */
  alignas(kPageBytes) char answers[kMaxClients][kAnswerBytes];
};

StatsSocket::Pool* StatsSocket::map_pool() noexcept {
  Pool* pool = pool_.load(std::memory_order_relaxed);
  if (pool != nullptr) return pool;
  // By number: memlimit interposes mmap(), and this is not the program's memory.
  const long mapped = syscall(SYS_mmap, nullptr, sizeof(Pool), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == -1) return nullptr;
  auto* memory = reinterpret_cast<void*>(mapped);
  // Or the first byte could cost 2 MiB where transparent huge pages are always on.
  syscall(SYS_madvise, memory, sizeof(Pool), MADV_NOHUGEPAGE);
  pool = new (memory) Pool;
  for (uint32_t slot = 0; slot < kMaxClients; ++slot) pool->clients[slot].slot = slot;
  pool_.store(pool, std::memory_order_release);
  return pool;
}

void StatsSocket::trim_pool() noexcept {
  Pool* pool = pool_.load(std::memory_order_relaxed);
  syscall(SYS_madvise, pool->requests, sizeof pool->requests, MADV_DONTNEED);
  syscall(SYS_madvise, pool->render, sizeof pool->render, MADV_DONTNEED);
  high_slot_ = 0;
}

void StatsSocket::unmap_pool() noexcept {
  Pool* pool = pool_.exchange(nullptr, std::memory_order_relaxed);
  if (pool != nullptr) syscall(SYS_munmap, pool, sizeof(Pool));
}

int StatsSocket::open(const SocketPlace& place, const SocketContent& content, char* error,
                      size_t cap) noexcept {
  os::ErrnoGuard guard;
  const int result = bind_stats_socket(place, &bound_, error, cap);
  if (result != 0) return result;
  if (!os::file_id(bound_.fd, &listener_id_)) listener_id_ = {};
  listen_fd_.store(bound_.fd);
  content_ = content;
  user_ids_ = procfs::user_ids();
  group_ids_ = procfs::group_ids();
  mode_ = place.mode;
  send_buffer_bytes_ = place.send_buffer_bytes;
  const int epoll_fd = os::move_fd_high(epoll_create1(EPOLL_CLOEXEC));
  epoll_event interest{EPOLLIN, {.u64 = kListenerKey}};
  if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, bound_.fd, &interest) != 0) {
    const int failed = errno;
    TextWriter(error, cap)
        .put("the statistics socket cannot be watched (error ")
        .put_int(failed)
        .put(')');
    if (epoll_fd >= 0) ::close(epoll_fd);
    close();
    return -failed;
  }
  listening_ = true;
  accept_again_ns_ = 0;
  requests_ = refused_ = 0;
  epoll_fd_.store(epoll_fd);
  return 0;
}

void StatsSocket::close() noexcept {
  os::ErrnoGuard guard;
  if (Pool* pool = pool_.load(std::memory_order_relaxed)) {
    for (Client& client : pool->clients) {
      if (client.state != State::kFree) drop(client);
    }
  }
  unlink_stats_socket(bound_);
  bound_ = BoundSocket{};
  close_listener(hang_up);
  listening_ = lost_ = orphans_ = false;
  unmap_pool();
}

/** The listener and the epoll set; the set first, which is known by the listener. */
void StatsSocket::close_listener(void (*close_socket)(int)) noexcept {
  const bool own_set = owns_epoll_set();
  const int epoll_fd = epoll_fd_.exchange(-1);
  if (own_set) os::close_file(epoll_fd);
  const int listen_fd = listen_fd_.exchange(-1);
  if (is_file(listen_fd, listener_id_)) close_socket(listen_fd);
}

/** Epoll sets share one inode with eventfds and others; but no other has the listener in it. */
bool StatsSocket::owns_epoll_set() const noexcept {
  const int epoll_fd = epoll_fd_.load(), listen_fd = listen_fd_.load();
  if (epoll_fd < 0 || !is_file(listen_fd, listener_id_)) return false;
  // Not EPOLL_CTL_MOD: the set may be the parent's, who changes what it waits for meanwhile.
  epoll_event nothing{0, {.u64 = kListenerKey}};
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &nothing) != 0) return errno == EEXIST;
  epoll_ctl(epoll_fd, EPOLL_CTL_DEL, listen_fd, nullptr);  // a set of the program's
  return false;
}

bool StatsSocket::is_intact() const noexcept {
  os::ErrnoGuard guard;
  return !lost_ && owns_epoll_set();
}

void StatsSocket::abandon() noexcept {
  os::ErrnoGuard guard;
  close();
  reset();
}

void StatsSocket::forget_after_fork() noexcept {
  os::ErrnoGuard guard;
  // Only closed: shutdown() and epoll_ctl() would reach through to what the parent goes on using.
  if (Pool* pool = pool_.load(std::memory_order_relaxed)) {
    for (Client& client : pool->clients) {
      const int fd = client.fd.exchange(-1);
      if (is_file(fd, client.id)) os::close_file(fd);
    }
  }
  close_listener([](int fd) { os::close_file(fd); });
  reset();
}

/** Everything but descriptors and path, as it was before open(). */
void StatsSocket::reset() noexcept {
  unmap_pool();
  bound_ = BoundSocket{};
  content_ = SocketContent{};
  listening_ = lost_ = orphans_ = false;
  accept_again_ns_ = 0;
  clients_ = watched_ = event_streams_ = high_slot_ = 0;
  requests_ = refused_ = 0;
}

/** Serves the clients that have something; returns whether somebody may be at the door. */
bool StatsSocket::dispatch_events(int64_t now_ns) noexcept {
  if (watched_ == 0) return listening_;
  epoll_event events[kMaxClients + 1];
  const int count = epoll_wait(epoll_fd_.load(), events, kMaxClients + 1, 0);
  Pool* pool = pool_.load(std::memory_order_relaxed);
  bool knock = false;
  for (int i = 0; i < count; ++i) {
    const uint64_t key = events[i].data.u64;
    if (key == kListenerKey) {
      knock = true;
      continue;
    }
    Client& client = pool->clients[key % kMaxClients];
    if (client.state == State::kFree || client.generation != key / kMaxClients) {
      if (orphans_) lost_ = true;  // else it would wake us for ever
      continue;
    }
    dispatch(client, events[i].events, now_ns);
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
  const bool knock = dispatch_events(now_ns);
  if (clients_ > 0) {
    for (Client& client : pool_.load(std::memory_order_relaxed)->clients) {
      if (client.state != State::kFree && client.deadline_ns() <= now_ns) expire(client);
    }
  }
  if (knock || (!listening_ && accept_again_ns_ <= now_ns)) accept_clients(now_ns);
  if (clients_ == 0 && high_slot_ >= kTrimAboveSlot) trim_pool();
}

int64_t StatsSocket::next_deadline_ns() const noexcept {
  if (!is_open()) return kNever;
  int64_t next = listening_ ? kNever : accept_again_ns_;
  if (clients_ == 0) return next;
  const Pool* pool = pool_.load(std::memory_order_relaxed);
  for (const Client& client : pool->clients) {
    if (client.state == State::kFree) continue;
    const int64_t deadline = client.deadline_ns();
    if (deadline < next) next = deadline;
  }
  return next;
}

void StatsSocket::listen_for(bool wanted) noexcept {
  if (listening_ == wanted) return;
  // Level-triggered: while nobody can be admitted, a waiting client would wake the thread all the
  // time.
  epoll_event interest{wanted ? static_cast<uint32_t>(EPOLLIN) : 0U, {.u64 = kListenerKey}};
  epoll_ctl(epoll_fd_.load(), EPOLL_CTL_MOD, listen_fd_.load(), &interest);
  listening_ = wanted;
}

/** A slot is free, or was taken from the client that has had its for longest while others wait. That it
 * still makes progress is no excuse: a byte now and then is what keeps slots on purpose. */
bool StatsSocket::make_room(int64_t now_ns) noexcept {
  if (clients_ < kMaxClients) return true;
  Client* oldest = nullptr;
  for (Client& client : pool_.load(std::memory_order_relaxed)->clients) {
    if (client.state == State::kStreaming) continue;
    if (oldest == nullptr || client.started_ns < oldest->started_ns) oldest = &client;
  }
  // Never null: at most half of the slots stream.
  accept_again_ns_ = oldest->started_ns + kCrowdedNs;
  if (accept_again_ns_ > now_ns) return false;
  expire(*oldest);
  return true;
}

void StatsSocket::accept_clients(int64_t now_ns) noexcept {
  // A client that comes alone costs one call; who comes with a crowd is let in with it.
  const size_t turns = now_ns - accepted_ns_ < kCrowdNs ? 2 * kMaxClients : 1;
  for (size_t turn = 0; turn < turns; ++turn) {
    pollfd knock{listen_fd_.load(), POLLIN, 0};
    if (clients_ == kMaxClients && poll(&knock, 1, 0) == 1 && !make_room(now_ns)) {
      listen_for(false);
      return;
    }
    if (clients_ == kMaxClients) break;
    const int fd = accept4(listen_fd_.load(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      accepted_ns_ = now_ns;
      admit(fd, now_ns);
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (would_block(errno)) break;
    // No descriptor or memory left: the clients wait in the backlog.
    listen_for(false);
    accept_again_ns_ = now_ns + kRetryAcceptNs;
    return;
  }
  listen_for(true);
}

/** Root and the program's own user. Who is not mapped into the program's user namespace is called by the
 * overflow id there, which may be the program's own: then it cannot be told from such a stranger. */
bool StatsSocket::is_owner(const Peer& peer) const noexcept {
  return peer.uid == 0 || procfs::is_same_id(peer.uid, geteuid(), user_ids_);
}

/** The owner may always read; others if the mode says so. For a socket with a file the kernel has
 * compared its mode with the client's groups; an abstract one has no file. */
bool StatsSocket::may_read(const Peer& peer) const noexcept {
  if (is_owner(peer)) return true;
  if (!bound_.abstract) return (mode_ & 0066) != 0;
  const bool in_group = procfs::is_same_id(peer.gid, getegid(), group_ids_);
  return (mode_ & 0006) != 0 || ((mode_ & 0060) != 0 && in_group);
}

void StatsSocket::admit(int fd, int64_t now_ns) noexcept {
  os::FileId id;
  if (!os::file_id(fd, &id)) return;  // the program has closed it already
  ucred credentials{};
  socklen_t size = sizeof credentials;
  Peer peer;
  const bool known = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0;
  peer.pid = credentials.pid;
  peer.uid = credentials.uid;
  peer.gid = credentials.gid;
  if (!known || !may_read(peer)) {
    ++refused_;
    if (content_.refused != nullptr) content_.refused(content_.context, peer);
    char line[256];
    TextWriter text(line, sizeof line);
    text.put("memlimit: not permitted: you are ");
    put_peer(text, peer, user_ids_);
    text.put(", and this process talks to uid ").put_uint(geteuid()).put(" and root only\n");
    turn_away(fd, text.view());
    return;
  }
  if (send_buffer_bytes_ > 0) {
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_buffer_bytes_, sizeof send_buffer_bytes_);
  }
  Pool* pool = map_pool();
  if (pool == nullptr) {
    ++refused_;
    turn_away(fd, "memlimit: no memory to answer\n");
    return;
  }
  Client* client = pool->clients;
  while (client->state != State::kFree) ++client;
  if (client->slot > high_slot_) high_slot_ = client->slot;
  client->state = State::kReading;
  client->may_set = is_owner(peer);
  client->input_ended = client->overlong = client->prompt = client->watched = false;
  client->watched_for = 0;
  client->peer = peer;
  client->started_ns = client->progress_ns = now_ns;
  client->request_length = client->pending_at = client->pending_end = 0;
  client->answer_touched = 0;
  client->dropped = 0;
  client->id = id;
  client->fd.store(fd);
  ++clients_;
  read_request(*client, now_ns);
}

void StatsSocket::dispatch(Client& client, uint32_t events, int64_t now_ns) noexcept {
  switch (client.state) {
    case State::kReading:
      read_request(client, now_ns);
      break;
    case State::kAnswering:
      flush(client, now_ns);
      break;
    case State::kStreaming:
      if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
        drop(client);
        break;
      }
      if ((events & EPOLLIN) != 0) read_from_stream(client, now_ns);
      if (client.state == State::kStreaming && (events & EPOLLOUT) != 0) flush(client, now_ns);
      break;
    case State::kLingering:
      linger(client, now_ns);
      break;
    case State::kFree:
      break;
  }
}

void StatsSocket::watch(Client& client, uint32_t events) noexcept {
  if (client.watched && client.watched_for == events) return;
  if (!client.is_intact()) {
    drop(client);
    return;
  }
  // Most are answered by now and never come here: only who stays is worth two calls to move.
  if (!client.watched) client.fd.store(move_beside(listen_fd_.load(), client.fd.load()));
  epoll_event interest{events, {.u64 = uint64_t{client.generation} * kMaxClients + client.slot}};
  const int operation = client.watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
  if (epoll_ctl(epoll_fd_.load(), operation, client.fd.load(), &interest) != 0) {
    drop(client);  // no memory for it in the kernel; nothing would ever wake us for this client
    return;
  }
  if (!client.watched) ++watched_;
  client.watched = true;
  client.watched_for = events;
}

void StatsSocket::drop(Client& client) noexcept {
  const int fd = client.fd.load();
  const bool intact = client.is_intact();
  if (client.watched) {
    --watched_;
    if (intact) {
      epoll_ctl(epoll_fd_.load(), EPOLL_CTL_DEL, fd, nullptr);
    } else {
      orphans_ = true;
    }
  }
  if (client.state == State::kStreaming) --event_streams_;
  if (client.answer_touched > 0) {
    char* answer = pool_.load(std::memory_order_relaxed)->answers[client.slot];
    syscall(SYS_madvise, answer, Pool::kAnswerBytes, MADV_DONTNEED);
  }
  client.state = State::kFree;
  ++client.generation;
  client.fd.store(-1);
  if (intact) hang_up(fd);
  --clients_;
  if (!listening_ && clients_ == kMaxClients - 1) accept_again_ns_ = 0;
}

void StatsSocket::read_request(Client& client, int64_t now_ns) noexcept {
  char* request = pool_.load(std::memory_order_relaxed)->requests[client.slot];
  while (true) {
    // One byte more than allowed tells "exactly full" from "too long".
    const size_t room = kMaxRequestBytes + 1 - client.request_length;
    const ssize_t got = client.receive(request + client.request_length, room);
    if (got < 0) {
      if (would_block(errno)) {
        watch(client, EPOLLIN);
      } else {
        drop(client);
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

void StatsSocket::answer(Client& client, const Request& request, int64_t now_ns) noexcept {
  if (request.outcome == Request::Outcome::kError) {
    ++refused_;
    answer_error(client, request, request.error, now_ns);
    return;
  }
  ++requests_;
  if (request.outcome == Request::Outcome::kFile) {
    answer_file(client, request, now_ns);
    return;
  }
  char line[512];
  TextWriter text(line, sizeof line);
  if (!client.may_set) {
    ++refused_;
    text.put("memlimit: not permitted: only uid ").put_uint(geteuid());
    text.put(" and root may change the limit; you are ");
    put_peer(text, client.peer, user_ids_);
    answer_error(client, request, text.view(), now_ns);
    return;
  }
  char reason[400] = {};
  if (!content_.set_limit(content_.context, request.value, client.peer, reason, sizeof reason)) {
    text.put("memlimit: limit=\"").put_escaped(request.value).put("\" ").put(reason);
    answer_error(client, request, text.view(), now_ns);
    return;
  }
  Request limit;
  limit.outcome = Request::Outcome::kFile;
  limit.file = StatsFile::kLimit;
  answer_file(client, limit, now_ns);
}

void StatsSocket::answer_file(Client& client, const Request& request, int64_t now_ns) noexcept {
  if (request.file == StatsFile::kEvents && !request.head) {
    subscribe(client, request, now_ns);
    return;
  }
  // The body is rendered behind room for a head, whose length depends on the body's.
  char* body = pool_.load(std::memory_order_relaxed)->render + kMaxHttpHeadBytes;
  size_t length = 0;
  if (request.file != StatsFile::kEvents) {
    length = content_.render(content_.context, request.file, body, kMaxTextBytes);
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
  send_answer(client, body - head_length, head_length + length, now_ns);
}

void StatsSocket::answer_error(Client& client, const Request& request, std::string_view line,
                               int64_t now_ns) noexcept {
  char buffer[kMaxHttpHeadBytes + 512];
  TextWriter out(buffer, sizeof buffer);
  if (request.http) {
    const auto length = static_cast<int64_t>(line.size() + 1);
    put_http_head(out, request.http_status, StatsFile::kStatus, length);
  }
  if (!request.head) out.put(line).put('\n');
  send_answer(client, buffer, out.length(), now_ns);
}

void StatsSocket::send_answer(Client& client, const char* text, size_t length,
                              int64_t now_ns) noexcept {
  while (length > 0) {
    const ssize_t sent = client.send(text, length);
    if (sent < 0 && would_block(errno)) {
      std::memcpy(pool_.load(std::memory_order_relaxed)->answers[client.slot], text, length);
      client.pending_at = 0;
      client.pending_end = client.answer_touched = length;
      client.state = State::kAnswering;
      client.prompt = false;  // there is time to write more meanwhile
      watch(client, EPOLLOUT);
      return;
    }
    if (sent < 0) {
      drop(client);
      return;
    }
    text += sent;
    length -= static_cast<size_t>(sent);
  }
  finish(client, now_ns);
}

void StatsSocket::subscribe(Client& client, const Request& request, int64_t now_ns) noexcept {
  if (event_streams_ == kMaxEventStreams && !drop_stalled_stream(now_ns)) {
    ++refused_;
    Request busy = request;
    busy.http_status = 503;
    answer_error(client, busy, "memlimit: 32 clients read events already; try again later", now_ns);
    return;
  }
  client.state = State::kStreaming;
  ++event_streams_;
  Pool* pool = pool_.load(std::memory_order_relaxed);
  char* queue = pool->answers[client.slot];
  if (request.http) {
    TextWriter head(queue, kEventQueueBytes);
    put_http_head(head, 200, StatsFile::kEvents, -1);
    client.pending_end = head.length();
  }
  client.pending_end += content_.render(content_.context, StatsFile::kEvents,
                                        queue + client.pending_end, kMaxEventBytes);
  client.answer_touched = kEventQueueBytes;
  flush(client, now_ns);
}

/** Takes the place of the subscriber who has lost events, and read nothing, for longest: or 32 clients that
 * never read would keep everybody else from ever reading. */
bool StatsSocket::drop_stalled_stream(int64_t now_ns) noexcept {
  Client* stillest = nullptr;
  for (Client& client : pool_.load(std::memory_order_relaxed)->clients) {
    if (client.state != State::kStreaming || client.dropped == 0) continue;
    if (stillest == nullptr || client.progress_ns < stillest->progress_ns) stillest = &client;
  }
  if (stillest == nullptr || stillest->progress_ns + kProgressNs > now_ns) return false;
  expire(*stillest);
  return true;
}

/** Appends a line to the queue of a subscriber, or counts it as dropped. */
void StatsSocket::queue_event(Client& client, std::string_view line) noexcept {
  char* queue = pool_.load(std::memory_order_relaxed)->answers[client.slot];
  const size_t pending = client.pending_end - client.pending_at;
  if (pending + kDroppedLineBytes + line.size() + 1 > kEventQueueBytes) {
    // From here on it is stalled; while it kept up, nobody took the time.
    if (client.dropped++ == 0) client.progress_ns = handled_ns_;
    return;
  }
  if (client.pending_at > 0) std::memmove(queue, queue + client.pending_at, pending);
  client.pending_at = 0;
  TextWriter out(queue + pending, kEventQueueBytes - pending);
  if (client.dropped > 0) {
    out.put("dropped=").put_uint(client.dropped).put('\n');
    client.dropped = 0;
  }
  out.put(line).put('\n');
  client.pending_end = pending + out.length();
}

void StatsSocket::publish_event(std::string_view line) noexcept {
  if (event_streams_ == 0) return;
  os::ErrnoGuard guard;
  if (!is_intact()) {
    lost_ = true;
    return;
  }
  if (line.ends_with('\n')) line.remove_suffix(1);
  line = line.substr(0, kMaxEventBytes);
  for (Client& client : pool_.load(std::memory_order_relaxed)->clients) {
    if (client.state != State::kStreaming) continue;
    queue_event(client, line);
    flush(client, client.progress_ns);
  }
}

/** Sends what is pending. A stream goes on, anything else is finished with it. */
void StatsSocket::flush(Client& client, int64_t now_ns) noexcept {
  char* answer = pool_.load(std::memory_order_relaxed)->answers[client.slot];
  while (client.pending_at < client.pending_end) {
    const ssize_t sent =
        client.send(answer + client.pending_at, client.pending_end - client.pending_at);
    if (sent < 0 && would_block(errno)) {
      const bool reads = client.state == State::kStreaming && !client.input_ended;
      watch(client, EPOLLOUT | (reads ? static_cast<uint32_t>(EPOLLIN) : 0U));
      return;
    }
    if (sent < 0) {
      drop(client);
      return;
    }
    client.pending_at += static_cast<size_t>(sent);
    client.progress_ns = now_ns;
    if (client.pending_at == client.pending_end && client.dropped > 0) {
      TextWriter out(answer, kEventQueueBytes);
      out.put("dropped=").put_uint(client.dropped).put('\n');
      client.dropped = 0;
      client.pending_at = 0;
      client.pending_end = out.length();
    }
  }
  client.pending_at = client.pending_end = 0;
  if (client.state != State::kStreaming) {
    finish(client, now_ns);
    return;
  }
  watch(client, client.input_ended ? 0U : static_cast<uint32_t>(EPOLLIN));
}

/** The answer is out. Whoever is still writing is listened to for a while; who had written no more than a
 *  request when that was read is done. */
void StatsSocket::finish(Client& client, int64_t now_ns) noexcept {
  if (client.prompt) {
    drop(client);
    return;
  }
  if (client.is_intact()) shutdown(client.fd.load(), SHUT_WR);
  client.state = State::kLingering;
  linger(client, now_ns);
}

/** Reads and forgets what a client writes after its request: a bounded amount, then others get
 * theirs. */
StatsSocket::Input StatsSocket::drain(Client& client, int64_t now_ns) noexcept {
  constexpr int kTurns = 8;
  if (client.input_ended) return Input::kEnded;
  char* scratch = pool_.load(std::memory_order_relaxed)->render;
  for (int turn = 0; turn < kTurns; ++turn) {
    const ssize_t got = client.receive(scratch, kScratchBytes);
    if (got < 0 && would_block(errno)) return Input::kQuiet;
    if (got <= 0) {
      client.input_ended = true;
      return Input::kEnded;
    }
    client.progress_ns = now_ns;
    client.overlong = true;
  }
  return Input::kMore;
}

void StatsSocket::linger(Client& client, int64_t now_ns) noexcept {
  const Input input = drain(client, now_ns);
  if (input == Input::kEnded || (input == Input::kQuiet && !client.overlong)) {
    drop(client);
  } else {
    watch(client, EPOLLIN);
  }
}

/** A subscriber may shut its writing side (a shell's pipe does) and still read on. */
void StatsSocket::read_from_stream(Client& client, int64_t now_ns) noexcept {
  if (drain(client, now_ns) != Input::kEnded) return;
  const bool writes = client.pending_at < client.pending_end;
  watch(client, writes ? static_cast<uint32_t>(EPOLLOUT) : 0U);
}

/** Its time is up. */
void StatsSocket::expire(Client& client) noexcept {
  if (client.state == State::kReading) {
    constexpr std::string_view kLine =
        "memlimit: no whole request in time; send one line naming a file, as in: status\n";
    const char* request = pool_.load(std::memory_order_relaxed)->requests[client.slot];
    char buffer[kMaxHttpHeadBytes + kLine.size() + 1];
    TextWriter out(buffer, sizeof buffer);
    if (looks_like_http({request, client.request_length})) {
      put_http_head(out, 408, StatsFile::kStatus, kLine.size());
    }
    out.put(kLine);
    client.send(buffer, out.length());
  }
  if (client.state != State::kLingering) ++refused_;
  drop(client);
}

}  // namespace memlimit
