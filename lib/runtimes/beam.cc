/* The BEAM (Erlang, Elixir; OTP 24 and later): every process of the node collects its own heap.
 *
 * A node has no call that collects: each process does so by itself, when its own heap is full, and one that waits for
 * messages keeps for ever what it had at its last one. From a thread of ours the node can only be sent a message. So it is
 * sent to `kernel_safe_sup`, a supervisor that every node has: to start a child by evaluating an expression. That makes a
 * process, registered as `memlimit`, which has one process after the other collect, and says that there is no child. The
 * supervisor keeps nothing, and logs nothing. The answer goes to an alias that nobody has.
 *
 * That runs code in somebody's node: the adapter is used only where MEMLIMIT_ADAPTERS names it.
 */
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "engine/service.h"
#include "runtimes/adapter.h"
#include "runtimes/erlang_term.h"
#include "system/attributes.h"
#include "system/os.h"

namespace memlimit::runtimes {
namespace {

/* erl_nif.h. */
struct NifEnvironment;
using NifTerm = uintptr_t;
struct NifPid {
  NifTerm term;
};

struct Functions {
  NifEnvironment* (*alloc_env)();
  void (*free_env)(NifEnvironment*);
  NifTerm (*make_atom)(NifEnvironment*, const char* name);
  NifTerm (*make_ref)(NifEnvironment*);
  NifTerm (*make_list_cell)(NifEnvironment*, NifTerm head, NifTerm tail);
  NifTerm (*make_tuple)(NifEnvironment*, const NifTerm* parts, unsigned count);
  size_t (*read_term)(NifEnvironment*, const unsigned char* bytes, size_t size, NifTerm*,
                      unsigned options);
  int (*whereis)(NifEnvironment* caller, NifTerm name, NifPid*);
  int (*send)(NifEnvironment* caller, const NifPid*, NifEnvironment* message_env, NifTerm message);
  const int* initialized;              /* before that anything crashes */
  const std::atomic<int32_t>* halting; /* negative until the node halts */
};
constinit Functions beam{};

constexpr const char* kSupervisor = "kernel_safe_sup";
constexpr const char* kCollector = "memlimit";

/* {call, 1, {remote, 1, {atom, 1, erlang}, {atom, 1, Name}}, ...: the arguments' list follows. */
constexpr ErlangTerm& call(ErlangTerm& term, const char* name) noexcept {
  term.tuple(4).atom("call").integer(1);
  term.tuple(4).atom("remote").integer(1);
  term.tuple(3).atom("atom").integer(1).atom("erlang");
  return term.tuple(3).atom("atom").integer(1).atom(name);
}

/* {start_child, #{id => memlimit, restart => temporary, start => {erl_eval, exprs, [Expressions, []]}}}, where the
 * expressions are, in the form that erl_parse gives:
 *
 *   spawn(fun() -> case catch register(memlimit, self()) of
 *                    true -> [garbage_collect(P) || P <- processes()];
 *                    _ -> ok
 *                  end end),
 *   throw(ignore)
 */
constexpr ErlangTerm make_request() noexcept {
  ErlangTerm term;
  term.tuple(2).atom("start_child");
  term.map(3).atom("id").atom(kCollector).atom("restart").atom("temporary");
  term.atom("start").tuple(3).atom("erl_eval").atom("exprs").list(2);
  term.list(2);
  call(term, "spawn").list(1);
  term.tuple(3).atom("fun").integer(1).tuple(2).atom("clauses").list(1);
  term.tuple(5).atom("clause").integer(1).nil().nil().list(1);
  term.tuple(4).atom("case").integer(1);
  term.tuple(3).atom("catch").integer(1);
  call(term, "register").list(2).tuple(3).atom("atom").integer(1).atom(kCollector);
  call(term, "self").nil();
  term.nil();  // of register's arguments
  term.list(2);
  term.tuple(5).atom("clause").integer(1).list(1);
  term.tuple(3).atom("atom").integer(1).atom("true").nil().nil().list(1);
  term.tuple(4).atom("lc").integer(1);
  call(term, "garbage_collect").list(1).tuple(3).atom("var").integer(1).atom("P").nil();
  term.list(1).tuple(4).atom("generate").integer(1).tuple(3).atom("var").integer(1).atom("P");
  call(term, "processes").nil();
  term.nil().nil();  // of the generators, and of the clause's body
  term.tuple(5).atom("clause").integer(1).list(1);
  term.tuple(3).atom("var").integer(1).atom("_").nil().nil().list(1);
  term.tuple(3).atom("atom").integer(1).atom("ok").nil();
  term.nil()
      .nil()
      .nil()
      .nil();  // of the case's clauses, the fun's body, its clauses, spawn's arguments
  call(term, "throw").list(1).tuple(3).atom("atom").integer(1).atom("ignore").nil();
  term.nil();        // of the expressions
  term.nil().nil();  // no variables; of the arguments of exprs
  return term;
}
constexpr ErlangTerm kRequest = make_request();
static_assert(kRequest.size() > 0);

bool attach(const ElfImage& image) noexcept {
  Functions found{};
  found.initialized = static_cast<const int*>(image.symbol("erts_initialized"));
  found.halting = static_cast<const std::atomic<int32_t>*>(image.symbol("erts_halt_progress"));
  // What OTP 24 brought, and with it aliases: before, the answer would be an error in the supervisor.
  const bool is_known = image.symbol("enif_init_resource_type") != nullptr;
  if (!is_known || found.initialized == nullptr || found.halting == nullptr ||
      !image.find("enif_alloc_env", &found.alloc_env) ||
      !image.find("enif_free_env", &found.free_env) ||
      !image.find("enif_make_atom", &found.make_atom) ||
      !image.find("enif_make_ref", &found.make_ref) ||
      !image.find("enif_make_list_cell", &found.make_list_cell) ||
      !image.find("enif_make_tuple_from_array", &found.make_tuple) ||
      !image.find("enif_binary_to_term", &found.read_term) ||
      !image.find("enif_whereis_pid", &found.whereis) || !image.find("enif_send", &found.send)) {
    return false;
  }
  beam = found;
  return true;
}

bool is_ready() noexcept {
  return __atomic_load_n(beam.initialized, __ATOMIC_ACQUIRE) != 0 &&
         beam.halting->load(std::memory_order_acquire) < 0;
}

/* {'$gen_call', {Supervisor, [alias | Ref]}, Request}. */
bool ask_supervisor(NifEnvironment* env) noexcept {
  NifPid supervisor;
  NifTerm request;
  if (beam.whereis(nullptr, beam.make_atom(env, kSupervisor), &supervisor) == 0) return false;
  if (beam.read_term(env, kRequest.data(), kRequest.size(), &request, 0) == 0) return false;
  const NifTerm nobody = beam.make_list_cell(env, beam.make_atom(env, "alias"), beam.make_ref(env));
  const NifTerm from[] = {supervisor.term, nobody};
  const NifTerm parts[] = {beam.make_atom(env, "$gen_call"), beam.make_tuple(env, from, 2),
                           request};
  return beam.send(nullptr, &supervisor, env, beam.make_tuple(env, parts, 3)) != 0;
}

bool is_collecting(NifEnvironment* env) noexcept {
  NifPid collector;
  return beam.whereis(nullptr, beam.make_atom(env, kCollector), &collector) != 0;
}

/* The processes collect on the node's own schedulers, one after the other, whose time nobody tells apart. Only how long the
 * collector lives is seen, by looking as often as this, and no longer than that: a thread may wait for this round. When it
 * has not begun for kBeginsNs, it was through before anybody looked, or the supervisor is busy. */
constexpr int64_t kPollNs = 1'000'000;
constexpr int64_t kBeginsNs = 20'000'000;
constexpr int64_t kLongestNs = 200'000'000;

/* The clock, and what the node has used by then. */
struct Moment {
  int64_t at_ns = 0;
  int64_t cpu_ns = 0;
};
Moment now() noexcept { return {os::monotonic_ns(), os::process_cpu_ns()}; }

/* A collector lived when it was last looked at, and is charged up to then. On the service thread. */
constinit Moment charged{};

/* Waits for the end of a collector that was asked for, or lives. True when it was seen. */
bool wait_for_end(NifEnvironment* env, bool lives) noexcept {
  static constinit std::atomic<uint32_t> nothing{0};
  const int64_t began_ns = os::monotonic_ns();
  bool was_seen = lives;
  while (!service::is_leaving() && is_ready()) {
    const int64_t waited_ns = os::monotonic_ns() - began_ns;
    if (waited_ns >= (was_seen ? kLongestNs : kBeginsNs)) break;
    os::futex_wait(nothing, 0, kPollNs);
    const bool is_there = is_collecting(env);
    if (was_seen && !is_there) break;
    was_seen = was_seen || is_there;
  }
  return was_seen;
}

/* What a collector has used since then: one scheduler at most, and not more than the node. */
int64_t used_since(const Moment& then) noexcept {
  const Moment end = now();
  return std::max<int64_t>(0, std::min(end.at_ns - then.at_ns, end.cpu_ns - then.cpu_ns));
}

/* One that collects for an earlier request is enough. */
Outcome reclaim(const Work&) {
  Outcome outcome;
  if (!is_ready()) return outcome;
  NifEnvironment* const env = beam.alloc_env();
  if (env == nullptr) return outcome;
  const bool lives = is_collecting(env);
  if (!lives || charged.at_ns == 0) charged = now();
  if (!lives) {
    outcome.ran = ask_supervisor(env);
    outcome.frees_follow = outcome.ran;
  }
  if (lives || outcome.ran) {
    if (wait_for_end(env, lives)) outcome.parallel_cpu_ns = used_since(charged);
    charged = is_ready() && is_collecting(env) ? now() : Moment{};
  }
  beam.free_env(env);
  return outcome;
}

/* A child of fork goes on to exec: the node's own starts all programs from a process of its own. */
MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept {}

}  // namespace

constinit const Adapter kBeam{.name = "beam",
                              .landmark = "erts_initialized",
                              .attach = attach,
                              .ask = nullptr,
                              .reclaim = reclaim,
                              .reset_after_fork = reset_after_fork,
                              .help = nullptr,
                              .only_when_named = true};

}  // namespace memlimit::runtimes
