/* Runs the pacer over synthetic programs and writes what happened as CSV.
 *
 *   pacer_sim               a table of figures, one scenario a line
 *   pacer_sim --out DIR     also DIR/<scenario>.csv and DIR/<scenario>-rounds.csv, for
 * plot_pacer.py pacer_sim --cadence     the gap between rounds as usage grows from 50 % to 100 %
 *
 * Answers for: nothing but output; the model is in pacer_model.cc. One thread, simulated time.
 */
#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <string>

#include "pacer_model.h"

using memlimit::sim::Figures;
using memlimit::sim::Scenario;

namespace {

void print_head() {
  std::printf("%-17s %6s %6s %6s %6s %6s %6s | %7s %8s %8s %6s | %5s %5s %4s\n", "scenario", "peak",
              "low", "median", "p99", "band%", "over%", "rounds", "fruitl.", "per lim", "calls",
              "cpu%", "episo", "lvl");
}

void print_line(const Scenario& s, const Figures& f) {
  const auto limit = static_cast<double>(s.limit_bytes);
  std::printf("%-17s %6.3f %6.3f %6.3f %6.3f %6.2f %6.2f | %7" PRId64 " %8" PRId64
              " %8.1f %6" PRId64 " | %5.2f %5" PRId64 " %4" PRId64 "\n",
              s.name.c_str(), static_cast<double>(f.peak_bytes) / limit,
              static_cast<double>(f.lowest_after_bytes) / limit, f.median, f.p99, f.in_band * 100,
              f.over * 100, f.rounds, f.fruitless, f.rounds_per_limit, f.hook_calls,
              f.reclaim_cpu * 100, f.limiter_episodes, f.level_changes);
}

bool write_csv(const std::string& path, const Scenario& s, const Figures& f, bool rounds) {
  std::FILE* file = std::fopen(path.c_str(), "w");
  if (file == nullptr) return false;
  std::fprintf(file, "# %s\n", s.says.c_str());
  if (rounds) {
    std::fprintf(file, "ns,allocated,usage,headroom,wanted,freed\n");
    for (const auto& r : f.log) {
      std::fprintf(file,
                   "%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 "\n",
                   r.now_ns, r.allocated_bytes, r.usage_bytes, r.headroom_bytes, r.wanted_bytes,
                   r.freed_bytes);
    }
  } else {
    std::fprintf(file, "ns,usage,paced,limit,level,limiter\n");
    for (const auto& p : f.samples) {
      std::fprintf(file, "%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%d,%d\n", p.now_ns,
                   p.usage_bytes, p.paced_bytes, p.limit_bytes, p.level, p.limiter_on ? 1 : 0);
    }
  }
  return std::fclose(file) == 0;
}

// The LRU cache at other limits: what does a margin or a quantum that has a floor do to small ones?
void print_limits() {
  print_head();
  for (int64_t kib = 256; kib <= int64_t{16} << 20; kib *= 4) {
    for (const int threads : {1, 4, 64}) {
      Scenario s = memlimit::sim::lru_fill(threads, kib << 10);
      s.cores = threads;
      // Four times the limit a second: latency would hide everything else below some 64 MiB
      // otherwise.
      s.bytes_per_us = static_cast<double>(s.limit_bytes) * 4e-6 / threads;
      s.hooks[0].bytes_per_us = s.bytes_per_us * 4 * threads;
      s.name = std::to_string(kib) + "KiB-" + std::to_string(threads) + "t";
      s.block_bytes = std::clamp<int64_t>(kib, 256, 65536);
      print_line(s, memlimit::sim::run(s, 1, 0));
    }
  }
}

// A program of which half can be evicted, and a hook that gives an eighth of what it is asked for:
// usage passes through the whole range.
void print_cadence() {
  Scenario s = memlimit::sim::lru_fill(1, int64_t{256} << 20);
  s.hooks = {memlimit::sim::Hook{.name = "little", .obeys = 0.13}};
  s.late_every = 0;
  s.allocate = [](memlimit::sim::Memory& m, memlimit::sim::Random& r, int64_t, int64_t bytes) {
    (r.next() % 2 == 0 ? m.held : m.cache) += bytes;
  };
  std::printf("usage_percent,gap_bytes\n");
  const auto limit = static_cast<double>(s.limit_bytes);
  int64_t before = 0;
  for (const auto& r : memlimit::sim::run(s, 1, 0).log) {
    if (r.freed_bytes == 0 || r.headroom_bytes <= 0) break;
    if (before > 0) {
      std::printf("%.3f,%" PRId64 "\n",
                  100.0 - 100.0 * static_cast<double>(r.headroom_bytes) / limit,
                  r.allocated_bytes - before);
    }
    before = r.allocated_bytes;
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::string out;
  std::string only;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--out") == 0 && i + 1 < argc) {
      out = argv[++i];
    } else if (std::strcmp(argv[i], "--limits") == 0) {
      print_limits();
      return 0;
    } else if (std::strcmp(argv[i], "--cadence") == 0) {
      print_cadence();
      return 0;
    } else if (argv[i][0] != '-') {
      only = argv[i];
    } else {
      std::fprintf(stderr, "usage: pacer_sim [--out DIR | --limits | --cadence] [SCENARIO]\n");
      return 2;
    }
  }
  print_head();
  for (const Scenario& s : memlimit::sim::scenarios()) {
    if (!only.empty() && s.name != only) continue;
    const Figures f = memlimit::sim::run(s, 1, out.empty() ? 0 : 4000);
    print_line(s, f);
    if (!out.empty() && (!write_csv(out + "/" + s.name + ".csv", s, f, false) ||
                         !write_csv(out + "/" + s.name + "-rounds.csv", s, f, true))) {
      std::fprintf(stderr, "pacer_sim: cannot write to %s\n", out.c_str());
      return 1;
    }
  }
  return 0;
}
