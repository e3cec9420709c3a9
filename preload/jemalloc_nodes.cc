/* See jemalloc_nodes.h. */
#include "jemalloc_nodes.h"

#include <array>
#include <iterator>
#include <string_view>

#include "heap/heap.h"
#include "heap/purge.h"
#include "jemalloc_figures.h"

namespace memlimit::jemalloc {
namespace {

using namespace answers;

constexpr Answer no = constant<false>;
constexpr Answer yes = constant<true>;
constexpr Answer zero = constant<uint64_t{0}>;
constexpr Answer zero_bytes = constant<size_t{0}>;

int version(const Request& request, Mib) noexcept { return request.answer<const char*>(kVersion); }

struct Node {
  std::string_view name;
  Answer answer;
};

constexpr Node kNodes[] = {
    {"version", version},
    {"epoch", epoch},
    {"background_thread", setting<&background_thread>},
    {"max_background_threads", setting<&background_threads>},

    {"thread.arena", thread_arena},
    {"thread.allocated", own<&heap::OwnFigures::allocated_bytes>},
    {"thread.deallocated", own<&heap::OwnFigures::freed_bytes>},
    {"thread.tcache.enabled", thread_cache},
    {"thread.tcache.flush", act<heap::flush_own_cache>},
    {"thread.idle", act<heap::flush_own_cache>},
    {"tcache.create", create_cache},
    {"tcache.flush", give_up_cache},
    {"tcache.destroy", give_up_cache},

    {"config.cache_oblivious", no},
    {"config.debug", no},
    {"config.fill", no},
    {"config.lazy_lock", no},
    {"config.malloc_conf", text<"">},
    {"config.opt_safety_checks", no},
    {"config.prof", no},
    {"config.prof_libgcc", no},
    {"config.prof_libunwind", no},
    {"config.stats", yes},
    {"config.utrace", no},
    {"config.xmalloc", no},

    {"opt.abort", no},
    {"opt.abort_conf", no},
    {"opt.background_thread", no},
    {"opt.cache_oblivious", no},
    {"opt.confirm_conf", no},
    {"opt.dirty_decay_ms", constant<ssize_t{heap::decay::kDefaultDelayMs}>},
    {"opt.dss", text<"disabled">},
    {"opt.experimental_infallible_new", no},
    {"opt.hpa", no},
    {"opt.junk", text<"false">},
    {"opt.lg_extent_max_active_fit", zero_bytes},
    {"opt.max_background_threads", constant<size_t{1}>},
    {"opt.metadata_thp", text<"disabled">},
    {"opt.mutex_max_spin", constant<int64_t{0}>},
    {"opt.muzzy_decay_ms", constant<ssize_t{0}>},
    {"opt.narenas", constant<1U>},
    {"opt.oversize_threshold", zero_bytes},
    {"opt.percpu_arena", text<"disabled">},
    {"opt.prof", no},
    {"opt.prof_active", no},
    {"opt.retain", yes},
    {"opt.stats_interval", constant<int64_t{-1}>},
    {"opt.stats_interval_opts", text<"">},
    {"opt.stats_print", no},
    {"opt.stats_print_opts", text<"">},
    {"opt.tcache", yes},
    {"opt.tcache_max", constant<heap::kLargestSmallBytes>},
    {"opt.thp", text<"default">},
    {"opt.trust_madvise", yes},
    {"opt.zero", no},
    {"opt.zero_realloc", text<"free">},

    {"prof.active", stays_off},
    {"prof.gdump", stays_off},
    {"prof.thread_active_init", stays_off},
    {"thread.prof.active", stays_off},

    {"arena.#.initialized", with_arena<1, yes>},
    {"arena.#.decay", with_arena<1, act<purge>>},
    {"arena.#.purge", with_arena<1, act<purge>>},
    {"arena.#.reset", end_arena},
    {"arena.#.destroy", end_arena},
    {"arena.#.dss", with_arena<1, text<"disabled">>},
    {"arena.#.dirty_decay_ms", with_arena<1, decay<&dirty_decay_ms>>},
    {"arena.#.muzzy_decay_ms", with_arena<1, decay<&muzzy_decay_ms>>},

    {"arenas.narenas", count_arenas},
    {"arenas.dirty_decay_ms", decay<&dirty_decay_ms>},
    {"arenas.muzzy_decay_ms", decay<&muzzy_decay_ms>},
    {"arenas.quantum", constant<heap::kMinimumAlignment>},
    {"arenas.page", constant<heap::kPageBytes>},
    {"arenas.tcache_max", constant<heap::kLargestSmallBytes>},
    {"arenas.nbins", constant<heap::kSmallClasses>},
    {"arenas.nhbins", constant<heap::kSmallClasses>},
    {"arenas.bin.#.size", bin<size_t, [](const auto& info) { return info.block_bytes; }>},
    {"arenas.bin.#.nregs", bin<uint32_t, [](const auto& info) { return info.blocks; }>},
    {"arenas.bin.#.slab_size", bin<size_t, [](const auto&) { return heap::kSliceBytes; }>},
    {"arenas.bin.#.nshards", bin<uint32_t, [](const auto&) { return 1; }>},
    {"arenas.nlextents", constant<0U>},
    {"arenas.create", create_arena},
    {"arenas.lookup", find_arena},

    {"stats.allocated", allocated},
    {"stats.active", sum<active_bytes>},
    {"stats.metadata", sum<field<&HeapReport::record_bytes>>},
    {"stats.metadata_thp", zero_bytes},
    {"stats.resident", sum<resident_bytes>},
    {"stats.mapped", sum<mapped_bytes>},
    {"stats.retained", sum<field<&HeapReport::retained_bytes>>},
    {"stats.zero_reallocs", zero_bytes},
    {"stats.background_thread.num_threads", zero_bytes},
    {"stats.background_thread.num_runs", zero},
    {"stats.background_thread.run_interval", zero},

    {"stats.arenas.#.nthreads", arena<threads>},
    {"stats.arenas.#.dss", with_arena<2, text<"disabled">>},
    {"stats.arenas.#.dirty_decay_ms", with_arena<2, value_of<&dirty_decay_ms>>},
    {"stats.arenas.#.muzzy_decay_ms", with_arena<2, value_of<&muzzy_decay_ms>>},
    {"stats.arenas.#.pactive", arena<in_sums<active_bytes, heap::kPageBytes>>},
    {"stats.arenas.#.pdirty", arena<in_sums<field<&HeapReport::dirty_bytes>, heap::kPageBytes>>},
    {"stats.arenas.#.pmuzzy", with_arena<2, zero_bytes>},
    {"stats.arenas.#.mapped", arena<in_sums<mapped_bytes>>},
    {"stats.arenas.#.retained", arena<in_sums<field<&HeapReport::retained_bytes>>>},
    {"stats.arenas.#.base", arena<in_sums<field<&HeapReport::record_bytes>>>},
    {"stats.arenas.#.internal", with_arena<2, zero_bytes>},
    {"stats.arenas.#.metadata_thp", with_arena<2, zero_bytes>},
    {"stats.arenas.#.tcache_bytes", arena<in_sums<field<&HeapReport::cached_bytes>>>},
    {"stats.arenas.#.tcache_stashed_bytes", with_arena<2, zero_bytes>},
    {"stats.arenas.#.resident", arena<in_sums<resident_bytes>>},
    {"stats.arenas.#.abandoned_vm", with_arena<2, zero_bytes>},
    {"stats.arenas.#.extent_avail", with_arena<2, zero_bytes>},
    {"stats.arenas.#.dirty_npurge", arena<purges>},
    {"stats.arenas.#.dirty_nmadvise", with_arena<2, zero>},
    {"stats.arenas.#.dirty_purged", arena<purged_pages>},
    {"stats.arenas.#.muzzy_npurge", with_arena<2, zero>},
    {"stats.arenas.#.muzzy_nmadvise", with_arena<2, zero>},
    {"stats.arenas.#.muzzy_purged", with_arena<2, zero>},
    {"stats.arenas.#.small.allocated", arena<in_small<live_bytes>>},
    {"stats.arenas.#.small.nmalloc", arena<in_small<allocated_blocks>>},
    {"stats.arenas.#.small.ndalloc", arena<in_small<freed_blocks>>},
    {"stats.arenas.#.small.nrequests", arena<in_small<allocated_blocks>>},
    {"stats.arenas.#.small.nfills", with_arena<2, zero>},
    {"stats.arenas.#.small.nflushes", with_arena<2, zero>},
    {"stats.arenas.#.large.allocated", arena<large_bytes>},
    {"stats.arenas.#.large.nmalloc", with_arena<2, zero>},
    {"stats.arenas.#.large.ndalloc", with_arena<2, zero>},
    {"stats.arenas.#.large.nrequests", with_arena<2, zero>},
    {"stats.arenas.#.large.nfills", with_arena<2, zero>},
    {"stats.arenas.#.large.nflushes", with_arena<2, zero>},
    {"stats.arenas.#.bins.#.curregs", arena_bin<live_blocks>},
    {"stats.arenas.#.bins.#.curslabs", arena_bin<slabs>},
    {"stats.arenas.#.bins.#.nmalloc", arena_bin<allocated_blocks>},
    {"stats.arenas.#.bins.#.ndalloc", arena_bin<freed_blocks>},
    {"stats.arenas.#.bins.#.nrequests", arena_bin<allocated_blocks>},
    {"stats.arenas.#.bins.#.nfills", arena_bin<uncounted>},
    {"stats.arenas.#.bins.#.nflushes", arena_bin<uncounted>},
    {"stats.arenas.#.bins.#.nslabs", arena_bin<uncounted>},
    {"stats.arenas.#.bins.#.nreslabs", arena_bin<uncounted>},
};

constexpr size_t kNodeCount = std::size(kNodes);

/* Names and answers apart: only the second are pointers, which the loader writes to in every process. */
constexpr auto kNames = [] {
  std::array<Pattern, kNodeCount> names{};
  for (size_t i = 0; i < kNodeCount; ++i) names[i] = Pattern(kNodes[i].name);
  return names;
}();

constexpr auto kAnswers = [] {
  std::array<Answer, kNodeCount> answers{};
  for (size_t i = 0; i < kNodeCount; ++i) answers[i] = kNodes[i].answer;
  return answers;
}();

}  // namespace

Patterns names() noexcept { return kNames; }

Answer answer_of(size_t row) noexcept { return kAnswers[row]; }

}  // namespace memlimit::jemalloc
