/* The clients of the statistics socket: a fixed number of slots, their memory, and their place in the epoll set.
 *
 * Answers for: any number of clients cost one mapping, of which untouched pages cost nothing; no descriptor is used
 * that has become the program's, and none is closed that a child's copy could keep alive. Refuses to know what is
 * said (socket_talk.h, socket_streams.h).
 * Threads: the service thread, apart from close_copies() in the child of fork.
 */
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "observe/socket_access.h"
#include "observe/socket_bounds.h"
#include "observe/socket_door.h"
#include "system/os.h"

namespace memlimit {

/**
 * A client goes through these states:
 *   reading    its request is not all there yet
 *   answering  the kernel did not take the whole answer; the rest waits in the slot
 *   streaming  it subscribed to `events`
 *   lingering  answered, but still writing: read and thrown away, so that it gets to see the answer
 * (a socket closed with unread input makes the other end's read fail with ECONNRESET). Most clients are served as
 * they come in and never enter the epoll set.
 */
struct SocketClient {
  enum class State : uint8_t { kFree, kReading, kAnswering, kStreaming, kLingering };
  enum class Sent : uint8_t { kAll, kPart, kBroken };

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

  int64_t deadline_ns() const noexcept;
  bool is_intact() const noexcept;

  /** EBADF when the program has taken the number; then the client is to be dropped. */
  ssize_t send(const char* text, size_t length) const noexcept;
  ssize_t receive(char* buffer, size_t cap) const noexcept;

  /** Sends what is pending in the slot's answer. */
  Sent send_pending(const char* answer, int64_t now_ns) noexcept;
};

class SocketSlots {
 public:
  constexpr explicit SocketSlots(SocketDoor* door) noexcept : door_(door) {}
  SocketSlots(const SocketSlots&) = delete;
  SocketSlots& operator=(const SocketSlots&) = delete;

  /** A slot for one who has come in; null when there is no memory. There must be a free one. */
  SocketClient* take(int fd, const os::FileId& id, const Peer& peer, int64_t now_ns) noexcept;

  /** Hangs up, and frees the slot. */
  void drop(SocketClient& client) noexcept;
  void drop_all() noexcept;

  /** Has the epoll set tell of these events; drops a client for whom that cannot be done. */
  void watch(SocketClient& client, uint32_t events) noexcept;

  /** Reads and forgets what a client writes after its request: a bounded amount, then others get theirs. */
  enum class Input : uint8_t { kEnded, kQuiet, kMore };
  Input drain(SocketClient& client, int64_t now_ns) noexcept;

  void start_streaming(SocketClient& client) noexcept;

  /** Every slot, free ones, too; none before the first client. */
  std::span<SocketClient> all() const noexcept;

  /** The same while there is a client; else none, so that to look at them costs nothing. */
  std::span<SocketClient> in_use() const noexcept {
    return count_ > 0 ? all() : std::span<SocketClient>();
  }

  /** The client that an event of the epoll set is about; null when it has gone meanwhile. */
  SocketClient* find(uint64_t key) const noexcept;

  size_t count() const noexcept { return count_; }
  size_t watched() const noexcept { return watched_; }
  size_t streaming() const noexcept { return streaming_; }
  bool full() const noexcept { return count_ == SocketBounds::kMaxClients; }

  /** Clients whose numbers were taken may still be in the epoll set, and wake it for ever. */
  bool has_orphans() const noexcept { return orphans_; }

  /** Memory of a slot: its request, of kMaxRequestBytes + 1, and its answer or queue, of kAnswerBytes. */
  char* request_of(const SocketClient& client) const noexcept;
  char* answer_of(const SocketClient& client) const noexcept;

  /** Where an answer is made, of kAnswerBytes; also scratch for input nobody wants. */
  char* workspace() const noexcept;

  /** Gives memory back that a crowd has left touched. */
  void trim() noexcept;

  /** Gives all memory back. The descriptors must be closed. */
  void unmap() noexcept;

  /** In the child of fork: lets go of the parent's descriptors. */
  void close_copies() noexcept;

  /** As it was before the first client, after unmap(). */
  void reset() noexcept;

 private:
  struct Pool;

  Pool* map() noexcept;
  Pool* pool() const noexcept { return pool_.load(std::memory_order_relaxed); }

  SocketDoor* door_;
  std::atomic<Pool*> pool_{nullptr};
  size_t count_ = 0;
  size_t watched_ = 0; /* clients in the epoll set */
  size_t streaming_ = 0;
  size_t high_slot_ = 0; /* slots touched since the pool was last trimmed */
  bool orphans_ = false;
};

}  // namespace memlimit
