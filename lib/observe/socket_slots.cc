#include "observe/socket_slots.h"

#include <cerrno>
#include <new>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "observe/request.h"
#include "observe/socket_io.h"
#include "observe/stats_text.h"
#include "system/attributes.h"
#include "system/raw_call.h"

namespace memlimit {
namespace {

constexpr size_t kPageBytes = 4096;
constexpr size_t kAnswerBytes = kMaxTextBytes + kPageBytes;
constexpr size_t kScratchBytes = size_t{16} << 10;
constexpr size_t kTrimAboveSlot = 4;
static_assert(kMaxHttpHeadBytes <= kPageBytes && SocketBounds::kEventQueueBytes <= kAnswerBytes);

/** os::move_fd_high(), for a descriptor a request: the listener knows already where "high" is. */
int move_beside(int neighbour, int fd) noexcept {
  const int moved = fcntl(fd, F_DUPFD_CLOEXEC, neighbour);
  if (moved < 0) return fd;
  close(fd);
  return moved;
}

}  // namespace

int64_t SocketClient::deadline_ns() const noexcept {
  if (state == State::kStreaming) return SocketBounds::kNever;
  const int64_t idle = progress_ns + SocketBounds::kProgressNs;
  const int64_t total = started_ns + SocketBounds::kTotalNs;
  return idle < total ? idle : total;
}

bool SocketClient::is_intact() const noexcept { return socket_io::is_file(fd.load(), id); }

ssize_t SocketClient::send(const char* text, size_t length) const noexcept {
  if (is_intact()) return socket_io::send_some(fd.load(), text, length);
  errno = EBADF;
  return -1;
}

ssize_t SocketClient::receive(char* buffer, size_t cap) const noexcept {
  if (is_intact()) return socket_io::receive_some(fd.load(), buffer, cap);
  errno = EBADF;
  return -1;
}

SocketClient::Sent SocketClient::send_pending(const char* answer, int64_t now_ns) noexcept {
  while (pending_at < pending_end) {
    const ssize_t sent = send(answer + pending_at, pending_end - pending_at);
    if (sent < 0) return socket_io::would_block(errno) ? Sent::kPart : Sent::kBroken;
    pending_at += static_cast<size_t>(sent);
    progress_ns = now_ns;
  }
  pending_at = pending_end = 0;
  return Sent::kAll;
}

/** One mapping; a page costs nothing before it is written. */
struct SocketSlots::Pool {
  static constexpr size_t kRequestStride = kMaxRequestBytes + 64;

  SocketClient clients[SocketBounds::kMaxClients];
  alignas(kPageBytes) char requests[SocketBounds::kMaxClients][kRequestStride];
  alignas(kPageBytes) char workspace[kAnswerBytes];
  alignas(kPageBytes) char answers[SocketBounds::kMaxClients][kAnswerBytes];
};

SocketSlots::Pool* SocketSlots::map() noexcept {
  if (Pool* const mapped = pool()) return mapped;
  // By number: memlimit interposes mmap(), and this is not the program's memory.
  const long mapped = syscall(SYS_mmap, nullptr, sizeof(Pool), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == -1) return nullptr;
  auto* memory = reinterpret_cast<void*>(mapped);
  // Or the first byte could cost 2 MiB where transparent huge pages are always on.
  syscall(SYS_madvise, memory, sizeof(Pool), MADV_NOHUGEPAGE);
  Pool* const made = new (memory) Pool;
  for (uint32_t slot = 0; slot < SocketBounds::kMaxClients; ++slot) made->clients[slot].slot = slot;
  pool_.store(made, std::memory_order_release);
  return made;
}

void SocketSlots::trim() noexcept {
  if (high_slot_ < kTrimAboveSlot) return;
  os::drop_pages(pool()->requests, sizeof pool()->requests);
  os::drop_pages(pool()->workspace, sizeof pool()->workspace);
  high_slot_ = 0;
}

MEMLIMIT_CHILD_CODE void SocketSlots::unmap() noexcept {
  Pool* const mapped = pool_.exchange(nullptr, std::memory_order_relaxed);
  if (mapped != nullptr) os::raw_call(SYS_munmap, os::address(mapped), sizeof(Pool));
  high_slot_ = 0;
  orphans_ = false;
}

MEMLIMIT_CHILD_CODE void SocketSlots::reset() noexcept {
  count_ = watched_ = streaming_ = high_slot_ = 0;
  orphans_ = false;
}

MEMLIMIT_CHILD_CODE std::span<SocketClient> SocketSlots::all() const noexcept {
  Pool* const mapped = pool();
  if (mapped == nullptr) return {};
  return mapped->clients;
}

SocketClient* SocketSlots::find(uint64_t key) const noexcept {
  SocketClient& client = pool()->clients[key % SocketBounds::kMaxClients];
  const bool gone = client.state == SocketClient::State::kFree ||
                    client.generation != key / SocketBounds::kMaxClients;
  return gone ? nullptr : &client;
}

char* SocketSlots::request_of(const SocketClient& client) const noexcept {
  return pool()->requests[client.slot];
}

char* SocketSlots::answer_of(const SocketClient& client) const noexcept {
  return pool()->answers[client.slot];
}

char* SocketSlots::workspace() const noexcept { return pool()->workspace; }

SocketClient* SocketSlots::take(int fd, const os::FileId& id, const Peer& peer,
                                int64_t now_ns) noexcept {
  Pool* const mapped = map();
  if (mapped == nullptr) return nullptr;
  SocketClient* client = mapped->clients;
  while (client->state != SocketClient::State::kFree) ++client;
  if (client->slot > high_slot_) high_slot_ = client->slot;
  client->state = SocketClient::State::kReading;
  client->may_set = false;
  client->input_ended = client->overlong = client->prompt = client->watched = false;
  client->watched_for = 0;
  client->peer = peer;
  client->started_ns = client->progress_ns = now_ns;
  client->request_length = client->pending_at = client->pending_end = 0;
  client->answer_touched = 0;
  client->dropped = 0;
  client->id = id;
  client->fd.store(fd);
  ++count_;
  return client;
}

void SocketSlots::start_streaming(SocketClient& client) noexcept {
  client.state = SocketClient::State::kStreaming;
  ++streaming_;
}

void SocketSlots::watch(SocketClient& client, uint32_t events) noexcept {
  if (client.watched && client.watched_for == events) return;
  if (!client.is_intact()) {
    drop(client);
    return;
  }
  // Most are answered by now and never come here: only who stays is worth two calls to move.
  if (!client.watched) client.fd.store(move_beside(door_->listen_fd(), client.fd.load()));
  const uint64_t key = uint64_t{client.generation} * SocketBounds::kMaxClients + client.slot;
  if (!door_->watch(client.fd.load(), events, key, client.watched)) {
    drop(client);  // nothing would ever wake us for this client
    return;
  }
  if (!client.watched) ++watched_;
  client.watched = true;
  client.watched_for = events;
}

void SocketSlots::drop(SocketClient& client) noexcept {
  const int fd = client.fd.load();
  const bool intact = client.is_intact();
  if (client.watched) {
    --watched_;
    if (intact) {
      door_->unwatch(fd);
    } else {
      orphans_ = true;
    }
  }
  if (client.state == SocketClient::State::kStreaming) --streaming_;
  if (client.answer_touched > 0) {
    os::drop_pages(answer_of(client), kAnswerBytes);
  }
  client.state = SocketClient::State::kFree;
  ++client.generation;
  client.fd.store(-1);
  if (intact) socket_io::hang_up(fd);
  --count_;
  if (!door_->is_listening() && count_ == SocketBounds::kMaxClients - 1) door_->look_at_once();
}

void SocketSlots::drop_all() noexcept {
  for (SocketClient& client : all()) {
    if (client.state != SocketClient::State::kFree) drop(client);
  }
}

MEMLIMIT_CHILD_CODE void SocketSlots::close_copies() noexcept {
  for (SocketClient& client : all()) {
    const int fd = client.fd.exchange(-1);
    if (socket_io::is_file(fd, client.id)) os::close_file(fd);
  }
}

SocketSlots::Input SocketSlots::drain(SocketClient& client, int64_t now_ns) noexcept {
  constexpr int kTurns = 8;
  if (client.input_ended) return Input::kEnded;
  for (int turn = 0; turn < kTurns; ++turn) {
    const ssize_t got = client.receive(workspace(), kScratchBytes);
    if (got < 0 && socket_io::would_block(errno)) return Input::kQuiet;
    if (got <= 0) {
      client.input_ended = true;
      return Input::kEnded;
    }
    client.progress_ns = now_ns;
    client.overlong = true;
  }
  return Input::kMore;
}

}  // namespace memlimit
