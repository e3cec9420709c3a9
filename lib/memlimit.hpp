/* memlimit.hpp - memlimit.h for C++17 and later: hooks from lambdas, charges that take themselves off.
 *
 * Header only, on nothing but the standard library. A program that includes it runs with libmemlimit.so
 * and without: without it every function does nothing and says so (loaded(), hook::error()). Words,
 * units and contracts are those of memlimit.h; what is told here is what differs. As there, a program
 * that is compiled neither -fPIC nor -fPIE must link with -lmemlimit.
 *
 * Nothing here throws, except what copying or moving the caller's own function throws. An exception that
 * leaves a hook ends the call as "cannot now"; it is caught in code that the program's own compiler made,
 * for its own runtime. Under -fno-exceptions nothing can be caught, and hooks must not throw.
 *
 *     class Cache {
 *       std::mutex lock_;
 *       ...
 *       memlimit::hook hook_{"cache", [this](const memlimit::request& request) -> std::int64_t {
 *         std::lock_guard guard(lock_);
 *         return evict_locked(request.wanted_bytes);
 *       }};  // the last member: made when the others are there, gone before they are
 *     };
 */
#ifndef MEMLIMIT_HPP
#define MEMLIMIT_HPP

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <limits>
#include <new>
#include <type_traits>
#include <utility>

#include "memlimit.h"

#if defined(__cpp_exceptions)
#define MEMLIMIT_HPP_CATCHES true
#if defined(__GLIBCXX__)
#include <cxxabi.h>
#endif
#else
#define MEMLIMIT_HPP_CATCHES false
#endif

namespace memlimit {

/** As enum memlimit_level. A later library may know more levels, above `over`. */
enum class level : int {
  low = MEMLIMIT_LOW,
  moderate = MEMLIMIT_MODERATE,
  critical = MEMLIMIT_CRITICAL,
  over = MEMLIMIT_OVER
};

/** Where a hook runs, as enum memlimit_context. `inline_` is inside malloc: read the warning at
 *  memlimit_hook_add() first. */
enum class context : int {
  async = MEMLIMIT_ASYNC,
  poll = MEMLIMIT_POLL,
  inline_ = MEMLIMIT_INLINE
};

/** A hook's answer "I can do nothing at this moment", MEMLIMIT_CANNOT_NOW. Any negative answer means it. */
inline constexpr std::int64_t cannot_now = -1;

/** What a hook is asked: struct memlimit_request with C++ types. */
struct request {
  std::int64_t wanted_bytes = 0;
  std::int64_t usage_bytes = 0;
  std::int64_t limit_bytes = 0; /* 0: no limit (an explicit reclaim) */
  memlimit::level level = memlimit::level::low;
  std::chrono::steady_clock::time_point
      deadline{}; /* the standard libraries of Linux: CLOCK_MONOTONIC */
  std::uint64_t round = 0;
};

/** Whether libmemlimit.so is in this process. Callable anywhere; never changes. */
inline bool loaded() noexcept { return memlimit_is_loaded() != 0; }

namespace detail {

/* Sizes come as size_t as often as not: saturates instead of wrapping. */
template <class Integer>
constexpr std::int64_t to_bytes(Integer value) noexcept {
  static_assert(std::is_integral_v<Integer>, "a number of bytes is an integer");
  if constexpr (std::is_unsigned_v<Integer> && sizeof(Integer) >= sizeof(std::int64_t)) {
    constexpr auto kMost = static_cast<Integer>(std::numeric_limits<std::int64_t>::max());
    return static_cast<std::int64_t>(value < kMost ? value : kMost);
  } else {
    return static_cast<std::int64_t>(value);
  }
}

inline request request_of(const memlimit_request& raw) noexcept {
  using Clock = std::chrono::steady_clock;
  const std::chrono::nanoseconds since_boot(to_bytes(raw.deadline_ns));
  request out;
  out.wanted_bytes = raw.wanted_bytes;
  out.usage_bytes = raw.usage_bytes;
  out.limit_bytes = raw.limit_bytes;
  out.level = static_cast<level>(raw.level);
  out.deadline = Clock::time_point(std::chrono::duration_cast<Clock::duration>(since_boot));
  out.round = raw.round;
  return out;
}

/* The caller's function, at an address of its own: the handle moves, what is registered does not.
 *
 * Held by the handle and by each call under way. The handle alone would not do: a hook that destroys its
 * own handle goes on running in a function that must still be there. Nor would waiting, which that hook
 * cannot. In the child of a fork a call that another thread was in never ends: its hold stays, and the
 * half-run function is left alone. */
class hook_state {
 public:
  hook_state(const hook_state&) = delete;
  hook_state& operator=(const hook_state&) = delete;

  void drop() noexcept {
    // acq_rel: whoever deletes has seen all that the other holder did to the function.
    if (holds_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }

 protected:
  /* Ends a call's hold however the call ends: by an answer, an exception, a cancelled thread. */
  class in_call {
   public:
    explicit in_call(hook_state& state) noexcept : state_(state) {
      // Relaxed: the library calls only what is registered, so the handle's hold is there.
      state_.holds_.fetch_add(1, std::memory_order_relaxed);
    }
    in_call(const in_call&) = delete;
    in_call& operator=(const in_call&) = delete;
    ~in_call() { state_.drop(); }

   private:
    hook_state& state_;
  };

  hook_state() = default;
  virtual ~hook_state() = default;

 private:
  std::atomic<int> holds_{1};
};

/* kCatches is part of the type, so that a program of which some files are compiled with -fno-exceptions
 * has two of each function, and the linker cannot take the one that catches nothing for both. */
template <class Function, bool kCatches>
class hook_state_of final : public hook_state {
 public:
  template <class From>
  hook_state_of(std::in_place_t /*not a copy*/, From&& function)
      : function_(std::forward<From>(function)) {}

  static std::int64_t call(const memlimit_request* raw, void* arg) {
    auto& self = *static_cast<hook_state_of*>(arg);
    const in_call hold(self);
#if defined(__cpp_exceptions)
    try {
      return self.answer(*raw);
#if defined(__GLIBCXX__)
    } catch (abi::__forced_unwind&) {
      throw;  // pthread_exit or a cancellation: swallowing it makes glibc abort
#endif
    } catch (...) {
      return cannot_now;
    }
#else
    return self.answer(*raw);
#endif
  }

 private:
  std::int64_t answer(const memlimit_request& raw) { return to_bytes(function_(request_of(raw))); }

  Function function_;
};

template <class Function, class = void>
struct is_hook_function : std::false_type {};
template <class Function>
struct is_hook_function<Function, std::enable_if_t<std::is_invocable_v<Function&, const request&>>>
    : std::bool_constant<std::is_integral_v<std::invoke_result_t<Function&, const request&>> &&
                         !std::is_same_v<std::invoke_result_t<Function&, const request&>, bool>> {};

}  // namespace detail

/**
 * hook - a registered function that gives memory back, for as long as the object lives
 *
 * Move-only; empty when default-constructed, moved from, reset, released, or not registered. The
 * function is called as `bytes = function(const request&)` with any integer but a bool for an answer,
 * never on two threads at once. It is kept on the heap, so the handle may move while the hook is registered.
 *
 * The destructor (and reset(), and assigning to the handle) waits as memlimit_hook_remove() does: when it
 * returns, the function is not running, never will be, and has been destroyed. So never destroy a hook
 * while holding a lock that its function takes; and make it the last member of the object that its
 * function works on. A hook may destroy its own handle, which cannot wait: the function is then destroyed
 * when the call has returned, and its captures are there until it has. In the context inline_ it should
 * not: the handle is plain data, which compilers may keep in registers across malloc.
 *
 * Threads:   different handles: thread-safe; one handle: one thread at a time
 */
class hook {
 public:
  /** An empty handle. */
  hook() noexcept = default;

  /**
   * hook() - register a function
   * @name:     shown in statistics; copied, up to 31 bytes
   * @function: copied or moved from; when the registration fails it is destroyed
   * @where:    context the function runs in
   *
   * The function may be called before the constructor has returned; until then it leaves the handle alone.
   *
   * Units:     as request
   * Threads:   thread-safe; see above for the function
   * Context:   from a hook: yes; signal handler: no; between fork and exec: yes, as malloc
   * Locks:     takes `hooks` for a moment
   * Allocates: one block for the function; may start the service thread
   * Return:    registered() tells, and error() why not
   */
  template <class Function,
            class = std::enable_if_t<detail::is_hook_function<std::decay_t<Function>>::value>>
  [[nodiscard]] hook(const char* name, Function&& function, context where = context::async) {
    using State = detail::hook_state_of<std::decay_t<Function>, MEMLIMIT_HPP_CATCHES>;
    if (!memlimit::loaded()) {
      error_ = -ENOSYS;
      return;
    }
    auto* const state = new (std::nothrow) State(std::in_place, std::forward<Function>(function));
    if (state == nullptr) {
      error_ = -ENOMEM;
      return;
    }
    memlimit_hook raw{};
    raw.size = sizeof raw;
    raw.name = name;
    raw.context = static_cast<int>(where);
    raw.reclaim = State::call;
    raw.arg = state;
    error_ = memlimit_hook_add(&raw, &id_);
    if (error_ == 0) {
      state_ = state;
    } else {
      state->drop();
    }
  }

  hook(hook&& other) noexcept
      : state_(std::exchange(other.state_, nullptr)),
        id_(std::exchange(other.id_, 0)),
        error_(std::exchange(other.error_, 0)) {}

  hook& operator=(hook&& other) noexcept {
    hook taken(std::move(other));  // first: assigning a handle to itself must not unregister it
    swap(taken);
    return *this;
  }

  hook(const hook&) = delete;
  hook& operator=(const hook&) = delete;

  ~hook() { reset(); }

  /** Unregisters, waiting as the destructor does, and leaves the handle empty. */
  void reset() noexcept {
    error_ = 0;
    // The handle is empty before the wait: the function's own captures may come back to it when destroyed.
    detail::hook_state* const state = std::exchange(state_, nullptr);
    const memlimit_hook_id id = std::exchange(id_, 0);
    if (state == nullptr) return;
    memlimit_hook_remove(id);
    state->drop();
  }

  /** Gives up the handle: the hook stays registered and its function is never destroyed, not even after a
   *  memlimit_hook_remove() of the id that this returns (0 when empty). For hooks as old as the process. */
  memlimit_hook_id release() noexcept {
    error_ = 0;
    state_ = nullptr;
    return std::exchange(id_, 0);
  }

  void swap(hook& other) noexcept {
    std::swap(state_, other.state_);
    std::swap(id_, other.id_);
    std::swap(error_, other.error_);
  }
  friend void swap(hook& a, hook& b) noexcept { a.swap(b); }

  bool registered() const noexcept { return state_ != nullptr; }
  explicit operator bool() const noexcept { return registered(); }

  /** Why the registration failed: 0 when it did not or the handle is empty for another reason; -ENOSYS
   *  when the library is not loaded; -ENOMEM; or what memlimit_hook_add() answered. */
  int error() const noexcept { return error_; }

  /** Names the hook to the C API; 0 when not registered. */
  memlimit_hook_id id() const noexcept { return id_; }

  /** As memlimit::loaded(). */
  static bool loaded() noexcept { return memlimit::loaded(); }

 private:
  detail::hook_state* state_ = nullptr;
  memlimit_hook_id id_ = 0;
  int error_ = 0;
};

/**
 * charge - bytes counted as usage, for as long as the object lives
 *
 * For memory that malloc does not see, as memlimit_charge(). Movable; taking the charge over to another
 * thread is fine. Nothing to charge: default-constructed, moved from, or of 0 bytes or less. Without the
 * library it keeps its number, which nobody reads.
 *
 * Threads:   different objects: thread-safe; one object: one thread at a time
 * Allocates: no (a round may become due, as in malloc)
 */
class charge {
 public:
  charge() noexcept = default;

  /** Any integer type; negative: 0. */
  template <class Integer, class = std::enable_if_t<std::is_integral_v<Integer>>>
  [[nodiscard]] explicit charge(Integer bytes) noexcept {
    resize(bytes);
  }

  charge(charge&& other) noexcept : bytes_(std::exchange(other.bytes_, 0)) {}
  charge& operator=(charge&& other) noexcept {
    charge taken(std::move(other));
    std::swap(bytes_, taken.bytes_);
    return *this;
  }
  charge(const charge&) = delete;
  charge& operator=(const charge&) = delete;

  ~charge() { reset(); }

  /** Charges the difference, or takes it off, so that this many bytes stay charged. */
  template <class Integer>
  void resize(Integer bytes) noexcept {
    const std::int64_t asked = detail::to_bytes(bytes);
    const std::int64_t change = (asked > 0 ? asked : 0) - bytes_;
    bytes_ += change;
    if (change != 0 && loaded()) memlimit_charge(change);
  }

  /** Takes everything off. */
  void reset() noexcept { resize(0); }

  /** Leaves the bytes charged and forgets them; returns how many. For memory that is handed on. */
  std::int64_t release() noexcept { return std::exchange(bytes_, 0); }

  std::int64_t bytes() const noexcept { return bytes_; }

 private:
  std::int64_t bytes_ = 0;
};

/** As memlimit_get(); 0 without the library. */
inline std::int64_t limit() noexcept { return loaded() ? memlimit_get() : 0; }

/** As memlimit_set(); without the library nothing happens and 0 is returned. */
inline std::int64_t set_limit(std::int64_t bytes) noexcept {
  return loaded() ? memlimit_set(bytes) : 0;
}

/** As memlimit_reclaim(); without the library 0 at once. 0 or less: all that can be had. */
inline std::int64_t reclaim(std::int64_t bytes = 0) noexcept {
  return loaded() ? memlimit_reclaim(bytes) : 0;
}

/** As memlimit_poll_fd(); -ENOSYS without the library. */
inline int poll_fd() noexcept { return loaded() ? memlimit_poll_fd() : -ENOSYS; }

/** As memlimit_poll(); 0 without the library. */
inline int poll() noexcept { return loaded() ? memlimit_poll() : 0; }

/** As memlimit_read_stats(). Figures that the library does not know (all of them without it) are 0, and
 *  `size` tells how far it filled the structure. */
inline memlimit_stats stats() noexcept {
  memlimit_stats out{};
  if (loaded()) memlimit_read_stats(&out, sizeof out);
  return out;
}

}  // namespace memlimit

#undef MEMLIMIT_HPP_CATCHES

#endif /* MEMLIMIT_HPP */
