/* The model of a program under memlimit; see pacer_model.h.
 *
 * Answers for: one loop over ticks of simulated time. In each tick every running thread allocates,
 * threads whose counters passed their quantum publish and look, and the service thread gets on with
 * its round.
 */
#include "pacer_model.h"

#include <algorithm>
#include <cmath>

namespace memlimit::sim {
namespace {

constexpr int64_t kTickNs = 10'000;
constexpr double kTickUs = 10.0;
constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kSecond = 1'000'000'000;

struct Thread {
  int64_t unpublished_allocated = 0;
  int64_t unpublished_usage = 0;  // net change not yet in the published number
  int64_t quantum = 2048;
  double carry = 0;  // fractions of a block
  int64_t waits_until_ns = 0;
  int64_t assisted_slice = -1;
};

class Model {
 public:
  Model(const Scenario& scenario, uint64_t seed, int64_t keep_samples)
      : s_(scenario), random_(seed), threads_(static_cast<size_t>(scenario.threads)) {
    hooks_.resize(s_.hooks.size());
    if (keep_samples > 0) sample_every_ = std::max(kTickNs, s_.duration_ns / keep_samples);
    histogram_.resize(4001);
  }

  Figures run() {
    for (now_ = 0; now_ < s_.duration_ns; now_ += kTickNs) tick();
    finish();
    return std::move(f_);
  }

 private:
  void tick() {
    limit_ = s_.limit ? s_.limit(now_) : s_.limit_bytes;
    if (limit_ != seen_limit_) {
      seen_limit_ = limit_;
      look();
    }
    int active = service_busy() ? 1 : 0;
    for (size_t t = 0; t < threads_.size(); ++t) active += speed_of(t) > 0 ? 1 : 0;
    const double core_share = active > s_.cores ? static_cast<double>(s_.cores) / active : 1.0;
    if (s_.every_tick) {
      const int64_t before = memory_.usage();
      const int64_t allocated = s_.every_tick(memory_, random_, now_);
      if (allocated > 0 || memory_.usage() != before) {
        count(threads_[0], allocated, memory_.usage() - before);
      }
    }
    for (size_t t = 0; t < threads_.size(); ++t) step(threads_[t], speed_of(t) * core_share);
    serve(core_share);
    follow_footprint();
    note();
  }

  double speed_of(size_t t) const {
    if (threads_[t].waits_until_ns > now_ && round_open_) return 0;
    return s_.speed ? s_.speed(now_, static_cast<int>(t)) : 1.0;
  }

  void step(Thread& thread, double share) {
    if (share <= 0) return;
    program_cpu_ns_ += static_cast<int64_t>(kTickNs * std::min(share, 1.0));
    thread.carry += s_.bytes_per_us * kTickUs * share;
    while (thread.carry >= static_cast<double>(s_.block_bytes)) {
      const int64_t bytes = random_.range(s_.block_bytes / 2, s_.block_bytes * 3 / 2);
      thread.carry -= static_cast<double>(bytes);
      const int64_t before = memory_.usage();
      s_.allocate(memory_, random_, now_, bytes);
      count(thread, bytes, memory_.usage() - before);
    }
  }

  void count(Thread& thread, int64_t allocated, int64_t usage_change) {
    f_.allocated_bytes += allocated;
    grow_footprint();
    thread.unpublished_allocated += allocated;
    thread.unpublished_usage += usage_change;
    f_.peak_bytes = std::max(f_.peak_bytes, memory_.usage());
    const int64_t freed = thread.unpublished_allocated - thread.unpublished_usage;
    if (thread.unpublished_allocated < thread.quantum && freed < thread.quantum) return;
    published_allocated_ += thread.unpublished_allocated;
    published_usage_ += thread.unpublished_usage;
    thread.unpublished_allocated = thread.unpublished_usage = 0;
    thread.quantum = quantum_for(limit_, paced(), s_.threads);
    if (published_allocated_ - looked_at_ < thread.quantum) return;
    look();
    if (level_ >= Level::kCritical && s_.assist_ns > 0 && round_open_ &&
        thread.assisted_slice != slices_) {
      thread.assisted_slice = slices_;
      thread.waits_until_ns = now_ + s_.assist_ns;
    }
  }

  int64_t paced() const {
    return std::max<int64_t>(0, std::max(published_usage_, footprint_paced() ? footprint_ : 0));
  }
  bool footprint_paced() const { return s_.slow_purge_bytes_per_us > 0; }

  void grow_footprint() { footprint_ = std::max(footprint_, memory_.usage()); }

  // The allocator gives pages back at its own pace, and pinned ones never.
  void follow_footprint() {
    grow_footprint();
    if (!footprint_paced()) return;
    highest_ = std::max(highest_, memory_.usage());
    const auto kept =
        static_cast<int64_t>(static_cast<double>(highest_ - memory_.usage()) * s_.pinned);
    const int64_t floor = memory_.usage() + kept;
    const auto step = static_cast<int64_t>(s_.slow_purge_bytes_per_us * kTickUs);
    if (footprint_ > floor) footprint_ = std::max(floor, footprint_ - step);
  }

  void look() {
    looked_at_ = published_allocated_;
    ++f_.looks;
    const PacerInput in{.paced_bytes = paced(),
                        .limit_bytes = limit_,
                        .allocated_bytes = published_allocated_,
                        .quantum_bytes = quantum_for(limit_, paced(), s_.threads)};
    const Decision d = pace(s_.settings, pacer_, in);
    if (d.level_changed) {
      ++f_.level_changes;
      if (d.level > level_) {
        for (HookFigures& hook : hooks_) hook_recover(hook);
      }
    }
    level_ = d.level;
    if (!d.round_due) return;
    ++f_.decisions;
    if (limit_ > 0 && in.paced_bytes < limit_ / 100 * s_.settings.start_percent &&
        s_.settings.growth_percent == 0) {
      ++f_.below_start;
    }
    limiter_update(limiter_, now_, program_cpu_ns_ + reclaim_cpu_ns_, reclaim_cpu_ns_, s_.cores);
    if (enabled(limiter_)) {
      limiter_round_skipped(limiter_);
      round_skipped(pacer_);
      return;
    }
    // A round that the pacer gave up as lost may still be under way: this one waits for it.
    queued_wanted_ = d.wanted_bytes;
    if (!round_open_) wake();
  }

  // A thread that is woken runs within some tens of microseconds, or, on busy cores, after a time
  // slice.
  void wake() {
    round_open_ = true;
    const bool late = s_.late_every > 0 && random_.next() % s_.late_every == 0;
    starts_ns_ =
        now_ + (late ? random_.range(1'000'000, 4'000'000) : random_.range(20'000, 150'000));
    started_ = false;
  }

  bool service_busy() const { return round_open_ && started_ && blocked_until_ns_ <= now_; }

  void begin_round() {
    started_ = true;
    round_wanted_ = queued_wanted_;
    queued_wanted_ = 0;
    round_freed_ = round_measured_ = 0;
    began_paced_ = paced();
    ++f_.rounds;
    std::vector<const HookFigures*> pointers;
    for (const HookFigures& hook : hooks_) pointers.push_back(&hook);
    std::vector<uint16_t> out(hooks_.size());
    out.resize(order(static_cast<uint64_t>(f_.rounds), pointers.data(), pointers.size(), false,
                     limit_ - paced(), out.data()));
    order_ = std::move(out);
    position_ = 0;
    f_.log.push_back(
        {now_, published_allocated_, memory_.usage(), limit_ - memory_.usage(), round_wanted_, 0});
    begin_hook();
  }

  void begin_hook() {
    const int64_t rest = still_wanted(round_wanted_, round_measured_, began_paced_, paced(),
                                      deepest_fall(began_paced_, limit_));
    limiter_update(limiter_, now_, program_cpu_ns_ + reclaim_cpu_ns_, reclaim_cpu_ns_, s_.cores);
    if (position_ >= order_.size() || rest <= 0 || enabled(limiter_)) {
      end_round();
      return;
    }
    const Hook& hook = s_.hooks[order_[position_]];
    ++f_.hook_calls;
    hook_began_ns_ = now_;
    ++slices_;
    hook_asked_ = s_.slice_ns > 0 ? slice_for(hooks_[order_[position_]], rest,
                                              margin_for(limit_) / 8, s_.slice_ns)
                                  : rest;
    const bool works = !hook.lies && (!hook.works || hook.works(now_));
    hook_left_ = works ? static_cast<int64_t>(static_cast<double>(hook_asked_) * hook.obeys) : 0;
    if (works && hook.lump_bytes > 0) {
      hook_left_ = (hook_left_ + hook.lump_bytes - 1) / hook.lump_bytes * hook.lump_bytes;
    }
    hook_freed_ = 0;
    fixed_left_us_ = hook.fixed_us;
    blocked_until_ns_ = now_ + static_cast<int64_t>(hook.blocked_us * 1000);
  }

  void end_hook() {
    const int64_t measured = hook_freed_;
    hook_ran(hooks_[order_[position_]], {.round = static_cast<uint64_t>(f_.rounds),
                                         .wanted_bytes = hook_asked_,
                                         .freed_bytes = measured,
                                         .elapsed_ns = now_ + kTickNs - hook_began_ns_,
                                         .headroom_bytes = limit_ - paced()});
    round_measured_ += measured;
    // Asked for a slice, and gave: ask again.
    if (s_.slice_ns == 0 || measured < hook_asked_ / 2) ++position_;
    begin_hook();
  }

  void end_round() {
    round_open_ = started_ = false;
    if (round_freed_ < round_wanted_ / kFruitlessDivisor || round_freed_ == 0) ++f_.fruitless;
    f_.log.back().freed_bytes = round_freed_;
    round_done(pacer_, {.wanted_bytes = round_wanted_,
                        .freed_bytes = round_measured_,
                        .paced_bytes = paced(),
                        .allocated_bytes = published_allocated_});
    limiter_round_done(limiter_, paced());
    limiter_update(limiter_, now_, program_cpu_ns_ + reclaim_cpu_ns_, reclaim_cpu_ns_, s_.cores);
    if (queued_wanted_ > 0) {
      wake();
    }
    look();
  }

  void serve(double share) {
    if (!round_open_) return;
    if (!started_) {
      if (now_ < starts_ns_) return;
      begin_round();
      if (!started_) return;  // over before it did anything
    }
    if (blocked_until_ns_ > now_) return;
    reclaim_cpu_ns_ += static_cast<int64_t>(kTickNs * share);
    double us = kTickUs * share;
    const double fixed = std::min(us, fixed_left_us_);
    fixed_left_us_ -= fixed;
    us -= fixed;
    const Hook& hook = s_.hooks[order_[position_]];
    const int64_t freed =
        std::min({hook_left_, memory_.cache, static_cast<int64_t>(us * hook.bytes_per_us)});
    memory_.cache -= freed;
    published_usage_ -= freed;  // the service thread publishes as it frees
    hook_left_ -= freed;
    hook_freed_ += freed;
    round_freed_ += freed;
    f_.evicted_bytes += freed;
    if (fixed_left_us_ <= 0 && (hook_left_ == 0 || memory_.cache == 0)) end_hook();
  }

  void note() {
    const int64_t usage = memory_.usage();
    if (limit_ > 0) {
      const double ratio = static_cast<double>(usage) / static_cast<double>(limit_);
      if (!reached_ && ratio >= 0.9) {
        reached_ = true;
        f_.lowest_after_bytes = usage;
      }
      if (reached_) {
        ++ticks_;
        f_.lowest_after_bytes = std::min(f_.lowest_after_bytes, usage);
        if (ratio >= 0.9 && ratio <= 1.0) ++in_band_;
        if (ratio > 1.0) ++over_;
        ++histogram_[static_cast<size_t>(std::min(ratio * 1000, 4000.0))];
      }
    }
    if (sample_every_ > 0 && now_ >= next_sample_) {
      next_sample_ = now_ + sample_every_;
      f_.samples.push_back(
          {now_, usage, paced(), limit_, static_cast<int>(level_), enabled(limiter_)});
    }
  }

  double quantile(double q) const {
    int64_t seen = 0;
    for (size_t i = 0; i < histogram_.size(); ++i) {
      seen += histogram_[i];
      if (static_cast<double>(seen) >= q * static_cast<double>(ticks_)) {
        return static_cast<double>(i) / 1000.0;
      }
    }
    return 4.0;
  }

  void finish() {
    if (ticks_ > 0) {
      f_.in_band = static_cast<double>(in_band_) / static_cast<double>(ticks_);
      f_.over = static_cast<double>(over_) / static_cast<double>(ticks_);
      f_.median = quantile(0.5);
      f_.p99 = quantile(0.99);
    }
    if (f_.allocated_bytes > 0) {
      f_.rounds_per_limit = static_cast<double>(f_.rounds) * static_cast<double>(s_.limit_bytes) /
                            static_cast<double>(f_.allocated_bytes);
    }
    const auto cpu = static_cast<double>(program_cpu_ns_ + reclaim_cpu_ns_);
    f_.reclaim_cpu = cpu > 0 ? static_cast<double>(reclaim_cpu_ns_) / cpu : 0;
    f_.limiter_episodes = limiter_.episodes;
    f_.limiter_skipped = limiter_.skipped;
    f_.needed_bytes = limiter_.needed_bytes;
  }

  const Scenario& s_;
  Random random_;
  Memory memory_;
  std::vector<Thread> threads_;
  PacerState pacer_;
  LimiterState limiter_;
  std::vector<HookFigures> hooks_;
  Level level_ = Level::kLow;
  Figures f_;

  int64_t now_ = 0;
  int64_t limit_ = 0, seen_limit_ = -1;
  int64_t published_allocated_ = 0, published_usage_ = 0, looked_at_ = 0;
  int64_t footprint_ = 0, highest_ = 0;
  int64_t program_cpu_ns_ = 0, reclaim_cpu_ns_ = 0;

  bool round_open_ = false, started_ = false;
  int64_t starts_ns_ = 0, blocked_until_ns_ = 0;
  int64_t began_paced_ = 0, queued_wanted_ = 0, round_wanted_ = 0, round_freed_ = 0,
          round_measured_ = 0;
  std::vector<uint16_t> order_;
  size_t position_ = 0;
  int64_t slices_ = 0;
  int64_t hook_began_ns_ = 0, hook_asked_ = 0, hook_left_ = 0, hook_freed_ = 0;
  double fixed_left_us_ = 0;

  bool reached_ = false;
  int64_t ticks_ = 0, in_band_ = 0, over_ = 0;
  std::vector<int64_t> histogram_;
  int64_t sample_every_ = 0, next_sample_ = 0;
};

// --- Programs ---

auto fill_cache() {
  return [](Memory& m, Random&, int64_t, int64_t bytes) { m.cache += bytes; };
}

// Fills a cache up to `cache` bytes and from there on only allocates and frees at once.
auto churn_above(int64_t cache) {
  return [cache](Memory& m, Random&, int64_t, int64_t bytes) {
    if (m.cache < cache) m.cache += bytes;
  };
}

Scenario named(const char* name, const char* says) {
  Scenario s;
  s.name = name;
  s.says = says;
  s.allocate = fill_cache();
  return s;
}

}  // namespace

uint64_t Random::next() {
  uint64_t z = (state_ += 0x9e3779b97f4a7c15U);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

double Random::unit() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

int64_t Random::range(int64_t from, int64_t upto) {
  return from + static_cast<int64_t>(next() % static_cast<uint64_t>(upto - from + 1));
}

Figures run(const Scenario& scenario, uint64_t seed, int64_t keep_samples) {
  return Model(scenario, seed, keep_samples).run();
}

Scenario lru_fill(int threads, int64_t limit_bytes) {
  Scenario s = named("lru", "an LRU cache filled for ever");
  s.threads = threads;
  s.limit_bytes = limit_bytes;
  s.name.append("-").append(std::to_string(threads)).append("t");
  return s;
}

std::vector<Scenario> scenarios() {
  std::vector<Scenario> all;
  for (const int threads : {1, 2, 4}) all.push_back(lru_fill(threads, 256 * kMiB));

  Scenario s = named("churn", "a cache of 85 % of the limit, then only short-lived blocks");
  s.allocate = churn_above(256 * kMiB / 100 * 85);
  all.push_back(s);

  s = named("growth", "live data grows to 70 % of the limit, a cache takes the rest");
  s.allocate = [](Memory& m, Random& r, int64_t, int64_t bytes) {
    (m.held < 256 * kMiB / 100 * 70 && r.next() % 2 == 0 ? m.held : m.cache) += bytes;
  };
  all.push_back(s);

  s = named("leak", "everything leaks, no hook helps");
  s.hooks = {Hook{.name = "useless", .fixed_us = 50, .obeys = 0}};
  s.allocate = [](Memory& m, Random&, int64_t, int64_t bytes) { m.held += bytes; };
  s.duration_ns = 3 * kSecond;
  all.push_back(s);

  s = named("slow-leak", "a cache, and 2 % of all allocation leaks");
  s.allocate = [](Memory& m, Random& r, int64_t, int64_t bytes) {
    (r.next() % 50 == 0 ? m.held : m.cache) += bytes;
  };
  all.push_back(s);

  s = named("sawtooth", "a cache of 50 %, and work that takes 45 % more and gives it back");
  s.allocate = [](Memory& m, Random&, int64_t now, int64_t bytes) {
    if (m.cache < 128 * kMiB && m.held == 0) {
      m.cache += bytes;
      return;
    }
    const bool rising = now / (kSecond / 4) % 2 == 0;
    if (rising && m.held < 256 * kMiB / 100 * 45) m.held += bytes;
    if (!rising) m.held = std::max<int64_t>(0, m.held - bytes);
  };
  all.push_back(s);

  s = named("oversized", "a filled cache; every 2 s a block of twice the limit, for 300 ms");
  s.every_tick = [](Memory& m, Random&, int64_t now) -> int64_t {
    const int64_t phase = now % (2 * kSecond);
    if (phase == kSecond) {
      m.held += 512 * kMiB;
      return 512 * kMiB;
    }
    if (phase == kSecond + 300'000'000) m.held -= 512 * kMiB;
    return 0;
  };
  all.push_back(s);

  s = named("bursty", "4 threads that sleep most of the time, then allocate twice as fast");
  s.threads = 4;
  s.cores = 4;
  s.speed = [](int64_t now, int thread) {
    const auto slot = static_cast<uint64_t>(now / 20'000'000) * 4 + static_cast<uint64_t>(thread);
    Random r(slot * 77 + 5);
    r.next();
    return r.next() % 4 == 0 ? 2.0 : 0.0;
  };
  all.push_back(s);

  s.name += "-assist";
  s.says += "; from level critical on they wait up to 5 ms a round";
  s.assist_ns = 5'000'000;
  all.push_back(s);

  s = named("slow-hook", "the hook waits 20 ms, then frees");
  s.hooks = {Hook{.name = "slow", .blocked_us = 20000}};
  all.push_back(s);

  s = named("slow-hook-assist", "the same, threads at level critical wait up to 10 ms");
  s.hooks = {Hook{.name = "slow", .blocked_us = 20000}};
  s.assist_ns = 10'000'000;
  all.push_back(s);

  s = named("weak-hook", "the hook frees slower than the program allocates");
  s.hooks = {Hook{.name = "weak", .bytes_per_us = 300}};
  all.push_back(s);

  s.name += "-assist";
  s.says += "; threads at level critical wait up to 5 ms a round";
  s.assist_ns = 5'000'000;
  all.push_back(s);

  s.name = "weak-hook-slices";
  s.says += ", and hooks are asked in slices of 5 ms";
  s.slice_ns = 5'000'000;
  all.push_back(s);

  s = lru_fill(4, 256 * kMiB);
  s.name += "-assist";
  s.assist_ns = 5'000'000;
  all.push_back(s);

  s = named("all-or-nothing", "the hook can only drop the whole cache");
  s.hooks = {Hook{.name = "all", .obeys = 1e6}};
  all.push_back(s);

  s = named("lumps", "the hook drops segments of 24 MiB");
  s.hooks = {Hook{.name = "segment", .lump_bytes = 24 * kMiB}};
  all.push_back(s);

  s = named("useless-first", "five hooks, only one of which frees anything");
  s.hooks.clear();
  for (int i = 0; i < 4; ++i) s.hooks.push_back({.name = "useless", .fixed_us = 200, .obeys = 0});
  s.hooks.push_back({.name = "evict"});
  all.push_back(s);

  s = named("lying", "a hook claims all and frees nothing; another works");
  s.hooks = {Hook{.name = "liar", .lies = true}, Hook{.name = "evict"}};
  all.push_back(s);

  s = named("oscillating", "the hook works every other second only");
  s.hooks = {Hook{.name = "moody", .works = [](int64_t now) { return now / kSecond % 2 == 0; }}};
  s.bytes_per_us = 100;
  all.push_back(s);

  s = named("dumping", "the hook frees ten times what it is asked for");
  s.hooks = {Hook{.name = "dump", .obeys = 10}};
  all.push_back(s);

  s = named("grudging", "the hook frees a third of what it is asked for");
  s.hooks = {Hook{.name = "third", .obeys = 0.34}};
  all.push_back(s);

  s = named("limit-change", "256 MiB, then 128, then 512, then off, then 256");
  s.bytes_per_us = 100;
  s.limit = [](int64_t now) -> int64_t {
    const int64_t steps[] = {256 * kMiB, 128 * kMiB, 512 * kMiB, 0, 256 * kMiB};
    return steps[std::min<int64_t>(now / (2 * kSecond), 4)];
  };
  all.push_back(s);

  s = named("footprint", "paced by a footprint that falls slowly and keeps a fifth");
  s.slow_purge_bytes_per_us = 800;
  s.pinned = 0.2;
  all.push_back(s);
  return all;
}

Scenario random_scenario(uint64_t seed) {
  Random r(seed);
  Scenario s = named("random", "made up from a seed");
  s.limit_bytes = (int64_t{1} << r.range(22, 33)) + r.range(0, kMiB);
  s.settings.start_percent = static_cast<int>(r.range(10, 90));
  s.threads = static_cast<int>(r.range(1, 8));
  s.cores = s.threads + 1;
  s.block_bytes = std::clamp<int64_t>(s.limit_bytes / 200'000, 256, 65536);
  const auto limit = static_cast<double>(s.limit_bytes);
  const double rate = limit * (0.5 + 2.5 * r.unit()) / 1e6;  // bytes a microsecond, all threads
  s.bytes_per_us = rate / s.threads;
  s.duration_ns = 4 * kSecond;

  s.hooks = {
      Hook{.name = "good", .bytes_per_us = rate * (2 + 8 * r.unit()), .obeys = 0.4 + 2 * r.unit()}};
  for (int64_t more = r.range(0, 4); more > 0; --more) {
    Hook hook{.name = "other", .bytes_per_us = rate * (0.5 + 8 * r.unit()), .obeys = r.unit()};
    hook.fixed_us = 200 * r.unit();
    if (r.next() % 3 == 0) hook.obeys = 0;
    if (r.next() % 4 == 0) hook.lies = true;
    if (r.next() % 4 == 0) hook.blocked_us = 3000 * r.unit();
    if (r.next() % 4 == 0) hook.lump_bytes = r.range(1, s.limit_bytes / 50);
    if (r.next() % 4 == 0) hook.works = [](int64_t now) { return now / 300'000'000 % 2 == 0; };
    s.hooks.push_back(hook);
  }

  const auto live = static_cast<int64_t>(limit * 0.4 * r.unit());
  const auto swing = static_cast<int64_t>(limit * 0.2 * r.unit());
  const int64_t period = r.range(20'000'000, 2 * kSecond);
  const auto kept =
      static_cast<uint64_t>(r.range(0, 100));  // percent of blocks that go to the cache
  s.allocate = [=](Memory& m, Random& random, int64_t now, int64_t bytes) {
    if (m.held < live) {
      m.held += bytes;
    } else if (random.next() % 100 < kept) {
      m.cache += bytes;
    } else if (now % period < period / 2) {
      if (m.held < live + swing) m.held += bytes;
    } else {
      m.held = std::max(live, m.held - bytes);
    }
  };
  return s;
}

}  // namespace memlimit::sim
