/* The server behind the statistics socket: one line in, one text out, close.
 *
 * Answers for: any number of slow, silent, huge, malformed or hostile clients cost a fixed amount
 * of memory and never delay anything but themselves. Knows only text; what the files contain comes
 * through SocketContent. Refuses to block, to raise SIGPIPE, and to talk to other users than the
 * settings allow. Threads: the service thread only, apart from forget_after_fork() in the child of
 * fork.
 */
#pragma once

#include <atomic>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "observe/request.h"
#include "observe/socket_path.h"
#include "system/os.h"
#include "system/procfs.h"

namespace memlimit {

/** Who is at the other end, as the kernel vouches for it. */
struct Peer {
  int pid = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
};

/** Where the texts come from. Both run on the service thread and may take their time within reason:
 *  other clients wait meanwhile. */
struct SocketContent {
  void* context;
  /** Writes the file's text, at most cap bytes; returns its length. Asked for every file; for
   * kEvents the text is what a new subscriber is sent first. */
  size_t (*render)(void* context, StatsFile file, char* buffer, size_t cap);
  /** Changes the limit to what the text says ("300MiB", "off"). On failure false, with the reason
   * in error (one line, no newline, no "memlimit:"), and the old limit stays. */
  bool (*set_limit)(void* context, std::string_view text, const Peer& peer, char* error,
                    size_t cap);
  /** Somebody who may not even read was turned away. May be null. */
  void (*refused)(void* context, const Peer& peer) = nullptr;
};

class StatsSocket {
 public:
  static constexpr size_t kMaxClients = 64;
  static constexpr size_t kMaxEventStreams = kMaxClients / 2;
  static constexpr int64_t kProgressNs = 2'000'000'000; /* without a byte moving */
  static constexpr int64_t kTotalNs = 10'000'000'000;   /* from accept to close; not for events */
  static constexpr int64_t kCrowdedNs = 50'000'000;     /* kTotalNs while others wait for a slot */
  static constexpr size_t kEventQueueBytes = size_t{32} << 10;
  static constexpr size_t kMaxEventBytes = 1024; /* a longer line is cut */
  static constexpr int64_t kNever = INT64_MAX;

  constexpr StatsSocket() noexcept = default;
  StatsSocket(const StatsSocket&) = delete;
  StatsSocket& operator=(const StatsSocket&) = delete;

  /** Binds (see bind_stats_socket) and starts to listen. Returns 0, or -errno with a line in error.
   * Must not be open. Allocates nothing; clients' memory is mapped when the first one comes. */
  int open(const SocketPlace& place, const SocketContent& content, char* error,
           size_t cap) noexcept;

  bool is_open() const noexcept { return epoll_fd_.load(std::memory_order_relaxed) >= 0; }

  /** Absolute path, or '@' and the abstract name; "" when closed. */
  const char* path() const noexcept { return bound_.path; }

  /** Readable when handle() has work; -1 when closed; a number that no file has when is_intact() has become
   *  false, so that poll() returns. To be asked for again after every other call: while nobody is connected
   *  it is the listener itself, which spares the thread a way through the epoll set. */
  int wait_fd() const noexcept {
    if (lost_) return INT_MAX;
    const bool only_listening = watched_ == 0 && listening_;
    return (only_listening ? listen_fd_ : epoll_fd_).load(std::memory_order_relaxed);
  }

  /** Whether its descriptors are still its own: the program may have closed them all, and opened others
   *  under the same numbers. When not, it is to be opened again after abandon(). Two system calls. */
  bool is_intact() const noexcept;

  /** Does all that can be done without waiting. now_ns: CLOCK_MONOTONIC. Does nothing when closed or not
   *  intact. */
  void handle(int64_t now_ns) noexcept;

  /** When handle() must be called even if wait_fd() stays silent; kNever for not at all. */
  int64_t next_deadline_ns() const noexcept;

  /** Sends a line (with or without its newline) to the subscribers of `events`. One that does not
   * keep up loses whole lines, and is told how many by a line dropped=N; when it has read nothing for
   * kProgressNs, a new subscriber who finds no place may have its. */
  void publish_event(std::string_view line) noexcept;

  /** Whether anybody reads `events`; without, publish_event() costs nothing. */
  bool has_subscribers() const noexcept { return event_streams_ > 0; }

  /** Hangs up on everybody and removes the path if it is still ours. What the program has opened under our
   *  numbers is left alone, here and in what follows. */
  void close() noexcept;

  /** Removes the path if it is still ours, and nothing else. For the thread that ends the process, when the
   * service thread does not answer. */
  void remove_path() const noexcept { unlink_stats_socket(bound_); }

  /** As close(), and forgets what it counted: for when it is not intact. */
  void abandon() noexcept;

  /** In the child of fork: lets go of the parent's descriptors and leaves its path alone. */
  void forget_after_fork() noexcept;

  /** Since open(): requests answered, clients turned away. */
  int64_t requests() const noexcept { return requests_; }
  int64_t refused() const noexcept { return refused_; }

 private:
  struct Client;
  struct Pool;

  Pool* map_pool() noexcept;
  void trim_pool() noexcept;
  void unmap_pool() noexcept;
  void reset() noexcept;
  bool owns_epoll_set() const noexcept;
  void close_listener(void (*close_socket)(int)) noexcept;
  bool dispatch_events(int64_t now_ns) noexcept;
  void accept_clients(int64_t now_ns) noexcept;
  void listen_for(bool wanted) noexcept;
  bool make_room(int64_t now_ns) noexcept;
  void admit(int fd, int64_t now_ns) noexcept;
  bool is_owner(const Peer& peer) const noexcept;
  bool may_read(const Peer& peer) const noexcept;
  void dispatch(Client& client, uint32_t events, int64_t now_ns) noexcept;
  void read_request(Client& client, int64_t now_ns) noexcept;
  void answer(Client& client, const Request& request, int64_t now_ns) noexcept;
  void answer_file(Client& client, const Request& request, int64_t now_ns) noexcept;
  void answer_error(Client& client, const Request& request, std::string_view line,
                    int64_t now_ns) noexcept;
  void send_answer(Client& client, const char* text, size_t length, int64_t now_ns) noexcept;
  void subscribe(Client& client, const Request& request, int64_t now_ns) noexcept;
  bool drop_stalled_stream(int64_t now_ns) noexcept;
  void queue_event(Client& client, std::string_view line) noexcept;
  void flush(Client& client, int64_t now_ns) noexcept;
  void finish(Client& client, int64_t now_ns) noexcept;
  enum class Input : uint8_t { kEnded, kQuiet, kMore };
  Input drain(Client& client, int64_t now_ns) noexcept;
  void linger(Client& client, int64_t now_ns) noexcept;
  void read_from_stream(Client& client, int64_t now_ns) noexcept;
  void expire(Client& client) noexcept;
  void watch(Client& client, uint32_t events) noexcept;
  void drop(Client& client) noexcept;

  /* Descriptors are written before close(2) and after creation, so that the child of a fork at any
   * moment never closes a number that by then is the program's. */
  std::atomic<int> epoll_fd_{-1};
  std::atomic<int> listen_fd_{-1};
  BoundSocket bound_{};
  os::FileId listener_id_{};
  SocketContent content_{};
  procfs::Ids user_ids_{}, group_ids_{}; /* as they were at open() */
  unsigned mode_ = 0600;
  int send_buffer_bytes_ = 0;
  bool listening_ = false;      /* the listener is in the epoll set with EPOLLIN */
  bool lost_ = false;           /* found not to be intact */
  bool orphans_ = false;        /* clients whose numbers were taken may still be in the epoll set */
  int64_t handled_ns_ = 0;      /* when handle() was last called */
  int64_t accepted_ns_ = 0;     /* when a client was last let in */
  int64_t accept_again_ns_ = 0; /* not before, after EMFILE and its kin */
  std::atomic<Pool*> pool_{nullptr};
  size_t clients_ = 0;
  size_t watched_ = 0; /* clients in the epoll set */
  size_t event_streams_ = 0;
  size_t high_slot_ = 0; /* slots touched since the pool was last trimmed */
  int64_t requests_ = 0;
  int64_t refused_ = 0;
};

}  // namespace memlimit
