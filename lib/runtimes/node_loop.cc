/* See node_loop.h. Node exports its own functions for add-ons, under their mangled names, and libuv's, unless that is a
 * library beside it.
 *
 * A call is never freed, but used again: so whoever wakes needs no lock, which the child of a fork would have to mend. Its
 * handle belongs to libuv from kOpen on until it has closed it.
 */
#include "runtimes/node_loop.h"

#include <atomic>
#include <new>

#include <dlfcn.h>

#include "system/attributes.h"
#include "system/os.h"

namespace memlimit::runtimes::node_loop {
namespace {

/* uv_loop_t and uv_async_t, which libuv alone looks into. */
using Loop = void;
using Handle = void;

/* libuv 1: UV_ASYNC, and the largest size of its handle that there is room for; it is 128. */
constexpr unsigned kUvMajor = 1;
constexpr int kUvAsync = 1;
constexpr size_t kHandleBytes = 256;

using Finished = void (*)(void*);

constexpr int64_t kPollNs = 100'000;

struct Node {
  Loop* (*current_loop)(Isolate*);
  void* (*add_cleanup_hook)(Isolate*, void (*)(void* arg, Finished, void* finished_arg), void* arg);
  void (*drop_hook_handle)(const void* deleter, void* hook_handle);
};
constinit Node node{};

struct Uv {
  unsigned (*version)();
  size_t (*handle_size)(int type);
  int (*async_init)(Loop*, Handle*, void (*)(Handle*));
  int (*async_send)(Handle*);
  void (*unref)(Handle*);
  void (*close)(Handle*, void (*)(Handle*));
};
constinit Uv uv{};
constinit std::atomic<bool> has_uv{false};
constinit Woken on_woken = nullptr;

enum class State : uint32_t {
  kFree,
  kOpening, /* its thread is at it */
  kOpen,
  kWaking, /* another thread is at it */
  kClosing,
  kForked, /* the parent's */
};

struct Call {
  alignas(16) unsigned char handle[kHandleBytes]; /* first: libuv gives back its address */
  std::atomic<State> state{State::kOpening};
  std::atomic<Isolate*> isolate{nullptr}; /* nullptr: it has none any more */
  Finished finished = nullptr;
  void* finished_arg = nullptr;
  Call* next = nullptr;
};
constinit std::atomic<Call*> calls{nullptr};

/* The one of this thread's isolate. */
MEMLIMIT_TLS Call* own_call = nullptr;

template <typename Function>
bool find(const ElfImage* image, const char* name, Function* out) noexcept {
  void* const symbol = image != nullptr ? image->symbol(name) : dlsym(RTLD_DEFAULT, name);
  *out = reinterpret_cast<Function>(symbol);
  return symbol != nullptr;
}

/* From the image, or where the loader finds it. */
bool find_uv(const ElfImage* image) noexcept {
  Uv found{};
  if (!find(image, "uv_version", &found.version) ||
      !find(image, "uv_handle_size", &found.handle_size) ||
      !find(image, "uv_async_init", &found.async_init) ||
      !find(image, "uv_async_send", &found.async_send) || !find(image, "uv_unref", &found.unref) ||
      !find(image, "uv_close", &found.close)) {
    return false;
  }
  const size_t bytes = found.handle_size(kUvAsync);
  if (found.version() >> 16 != kUvMajor || bytes == 0 || bytes > kHandleBytes) return false;
  uv = found;
  has_uv.store(true, std::memory_order_release);
  return true;
}

/* Looks once: where libuv is a library of its own. A thread that comes meanwhile has none yet, and tries again. */
bool has_or_finds_uv() noexcept {
  if (has_uv.load(std::memory_order_acquire)) return true;
  static constinit std::atomic<bool> looked{false};
  return !looked.exchange(true, std::memory_order_relaxed) && find_uv(nullptr);
}

bool change(Call& call, State from, State to) noexcept {
  return call.state.compare_exchange_strong(from, to, std::memory_order_acq_rel);
}

Call* take_call() noexcept {
  for (Call* call = calls.load(std::memory_order_acquire); call != nullptr; call = call->next) {
    if (change(*call, State::kFree, State::kOpening)) return call;
  }
  Call* const call = new (std::nothrow) Call;
  if (call == nullptr) return nullptr;
  call->next = calls.load(std::memory_order_relaxed);
  while (!calls.compare_exchange_weak(call->next, call, std::memory_order_release,
                                      std::memory_order_relaxed)) {
  }
  return call;
}

/* On the thread of the loop, as the two that follow. */
void woken(Handle* handle) {
  on_woken(static_cast<Call*>(handle)->isolate.load(std::memory_order_relaxed));
}

/* libuv is done with the handle. */
void closed(Handle* handle) {
  Call& call = *static_cast<Call*>(handle);
  const Finished finished = call.finished;
  void* const arg = call.finished_arg;
  change(call, State::kClosing, State::kFree);
  finished(arg);
}

/* The environment ends: it waits, running its loop, until `finished` is called. */
void close(void* arg, Finished finished, void* finished_arg) {
  Call& call = *static_cast<Call*>(arg);
  if (own_call == &call) own_call = nullptr;
  call.isolate.store(nullptr, std::memory_order_relaxed);
  call.finished = finished;
  call.finished_arg = finished_arg;
  // Who wakes is at it for a system call, if it has a processor.
  static constinit std::atomic<uint32_t> nothing{0};
  while (!change(call, State::kOpen, State::kClosing)) {
    if (call.state.load(std::memory_order_relaxed) == State::kForked) break;
    os::futex_wait(nothing, 0, kPollNs);
  }
  uv.close(call.handle, closed);
}

}  // namespace

void attach(const ElfImage& image, Woken woken) noexcept {
  Node found{};
  if (!image.find("_ZN4node19GetCurrentEventLoopEPN2v87IsolateE", &found.current_loop) ||
      !image.find("_ZN4node33AddEnvironmentCleanupHookInternalEPN2v87IsolateEPFvPvPFvS3_ES3_ES3_",
                  &found.add_cleanup_hook) ||
      !image.find("_ZNK4node15DeleteACHHandleclEPNS_9ACHHandleE", &found.drop_hook_handle)) {
    return;
  }
  on_woken = woken;
  find_uv(&image);
  node = found;
}

bool is_to_join(Isolate* isolate) noexcept {
  return node.current_loop != nullptr &&
         (own_call == nullptr || own_call->isolate.load(std::memory_order_relaxed) != isolate);
}

bool join(Isolate* isolate) noexcept {
  if (!is_to_join(isolate)) return true;
  if (!has_or_finds_uv()) return false;
  // An embedder may have several on one thread.
  for (Call* call = calls.load(std::memory_order_acquire); call != nullptr; call = call->next) {
    const State state = call->state.load(std::memory_order_acquire);
    if ((state == State::kOpen || state == State::kWaking) &&
        call->isolate.load(std::memory_order_relaxed) == isolate) {
      own_call = call;
      return true;
    }
  }
  Loop* const loop = node.current_loop(isolate);
  Call* const call = loop != nullptr ? take_call() : nullptr;
  if (call == nullptr) return false;
  if (uv.async_init(loop, call->handle, woken) != 0) {
    call->state.store(State::kFree, std::memory_order_release);
    return false;
  }
  uv.unref(call->handle);
  call->isolate.store(isolate, std::memory_order_relaxed);
  own_call = call;
  // What it returns is for who would take the hook back; Node keeps the hook without it.
  const char deleter = 0;
  node.drop_hook_handle(&deleter, node.add_cleanup_hook(isolate, close, call));
  call->state.store(State::kOpen, std::memory_order_release);
  return true;
}

void wake_all() noexcept {
  for (Call* call = calls.load(std::memory_order_acquire); call != nullptr; call = call->next) {
    if (!change(*call, State::kOpen, State::kWaking)) continue;
    uv.async_send(call->handle);
    change(*call, State::kWaking, State::kOpen);
  }
}

MEMLIMIT_COLD void abandon_all() noexcept {
  for (Call* call = calls.load(std::memory_order_relaxed); call != nullptr; call = call->next) {
    if (call->state.load(std::memory_order_relaxed) != State::kFree) {
      call->state.store(State::kForked, std::memory_order_relaxed);
    }
  }
}

}  // namespace memlimit::runtimes::node_loop
