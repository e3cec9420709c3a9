/* The files as people and programs see them; the list of statistics against all that is made from it. */
#include "observe/stats_text.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "observe/stats_metrics.h"
#include "observe/version.h"
#include "support/lines.h"
#include "support/temp_dir.h"
#include "system/os.h"
#include "system/text.h"

using memlimit::Histogram;
using memlimit::HookRow;
using memlimit::kMaxTextBytes;
using memlimit::render_file;
using memlimit::Snapshot;
using memlimit::StatsFile;
using memlimit::TextWriter;
using memlimit::test::lines_of;

namespace {

std::string render(StatsFile file, const Snapshot& snapshot, size_t cap = kMaxTextBytes) {
  std::vector<char> buffer(cap);
  const size_t length = render_file(file, snapshot, buffer.data(), cap);
  CHECK(buffer[length] == '\0');
  return std::string(buffer.data(), length);
}

void add_hook(Snapshot* snapshot, const char* name, int context) {
  HookRow& row = snapshot->hooks[snapshot->hook_count++];
  std::strncpy(row.name, name, sizeof row.name - 1);
  row.id = snapshot->hook_count;
  row.context = context;
}

std::unique_ptr<Snapshot> sample() {
  auto snapshot = std::make_unique<Snapshot>();
  memlimit_stats& f = snapshot->figures;
  f.limit = int64_t{512} << 20;
  f.heap_alloc = int64_t{301} << 20;
  f.heap_peak = int64_t{400} << 20;
  f.total_alloc = 123456789012;
  f.total_freed = f.total_alloc - f.heap_alloc;
  f.paced = f.heap_alloc;
  f.headroom = f.limit - f.paced;
  f.rss_anon = int64_t{350} << 20;
  f.held_idle = int64_t{49} << 20;
  f.level = MEMLIMIT_MODERATE;
  f.rounds = 17;
  f.hooks = 2;
  f.hook_calls = 30;
  f.hook_ns = 1'500'000'000;
  f.reclaimed = int64_t{80} << 20;
  f.threads = 9;
  f.uptime_ns = 61'000'000'000;
  std::strcpy(snapshot->name, "redis-server");
  snapshot->pid = 412;
  std::strcpy(snapshot->account, "heap");
  std::strcpy(snapshot->limit_source, "MEMLIMIT=512MiB");
  add_hook(snapshot.get(), "allocator", memlimit::kContextBuiltin);
  add_hook(snapshot.get(), "my \"cache\"\\", MEMLIMIT_ASYNC);
  snapshot->hooks[0].calls = 17;
  snapshot->hooks[0].freed_bytes = 83886080;
  snapshot->hooks[0].ns = 1'200'000;
  snapshot->hooks[0].bytes_per_us = 69905;
  snapshot->hooks[0].last_result = 4096;
  return snapshot;
}

/** Everything at its largest and ugliest. */
std::unique_ptr<Snapshot> worst() {
  auto snapshot = std::make_unique<Snapshot>();
  for (const auto& row : memlimit::kStatRows) snapshot->figures.*row.figure = INT64_MIN;
  std::memset(snapshot->name, '"', sizeof snapshot->name - 1);
  std::memset(snapshot->account, '\\', sizeof snapshot->account - 1);
  std::memset(snapshot->limit_source, '\x01', sizeof snapshot->limit_source - 1);
  std::memset(snapshot->left_out, '\xff', sizeof snapshot->left_out - 1);
  snapshot->pid = INT32_MIN;
  snapshot->hook_count = Snapshot::kMaxHooks;
  uint64_t id = UINT64_MAX;
  for (HookRow& row : snapshot->hooks) {
    std::memset(row.name, '\\', sizeof row.name);  // not even terminated
    row.id = id--;
    row.context = memlimit::kContextSafePoint;
    row.calls = row.skips = row.freed_bytes = row.ns = row.bytes_per_us = row.backoff =
        row.last_result = row.overruns = row.running_ns = INT64_MIN;
  }
  return snapshot;
}

bool have(const char* program) {
  return system((std::string("command -v ") + program + " >/dev/null 2>&1").c_str()) == 0;
}

}  // namespace

TEST_CASE("stats_text: status has the shape of /proc/self/status", "[stats_text]") {
  CHECK(render(StatsFile::kStatus, *sample()) ==
        "Name:\tredis-server\n"
        "Pid:\t412\n"
        "MemLimit:\t  524288 kB\n"
        "LimitFrom:\tMEMLIMIT=512MiB\n"
        "Account:\theap\n"
        "HeapAlloc:\t  308224 kB\n"
        "HeapPeak:\t  409600 kB\n"
        "TotalAlloc:\t120563270 kB\n"
        "TotalFreed:\t120255046 kB\n"
        "Charged:\t       0 kB\n"
        "Mapped:\t       0 kB\n"
        "Paced:\t  308224 kB\n"
        "Headroom:\t  216064 kB\n"
        "RssAnon:\t  358400 kB\n"
        "HeldIdle:\t   50176 kB\n"
        "Level:\tmoderate\n"
        "Rounds:\t17\n"
        "Hooks:\t2\n"
        "HookCalls:\t30\n"
        "HookOverruns:\t0\n"
        "Reclaimed:\t   81920 kB\n"
        "Purged:\t       0 kB\n"
        "Overshoot:\t       0 kB\n"
        "Oversized:\t0\n"
        "Assists:\t0\n"
        "Limiter:\toff\n"
        "Threads:\t9\n"
        "Uptime:\t61 s\n"
        "Version:\t" +
            std::string(memlimit::kVersion) + "\n");
}

TEST_CASE("stats_text: without a limit status and limit say off", "[stats_text]") {
  auto snapshot = sample();
  snapshot->figures.limit = 0;
  CHECK(render(StatsFile::kLimit, *snapshot) == "off\n");
  const std::string status = render(StatsFile::kStatus, *snapshot);
  CHECK(status.find("\nMemLimit:\toff\n") != std::string::npos);
  CHECK(status.find("\nHeadroom:\tunlimited\n") != std::string::npos);
  snapshot->limit_invalid = true;
  CHECK(render(StatsFile::kStatus, *snapshot).find("\nMemLimit:\toff (the setting is invalid)\n") !=
        std::string::npos);
  snapshot->figures.limit = 314572800;
  CHECK(render(StatsFile::kLimit, *snapshot) == "314572800\n");
}

TEST_CASE("stats_text: the limiter tells why the limit is let go", "[stats_text]") {
  auto snapshot = sample();
  snapshot->figures.limiter_on = 1;
  snapshot->figures.limiter_needed = int64_t{610} << 20;
  CHECK(render(StatsFile::kStatus, *snapshot)
            .find("\nLimiter:\ton (not enough can be given back: 624640 kB remain)\n") !=
        std::string::npos);
  snapshot->let_go_for_time = true;
  CHECK(render(StatsFile::kStatus, *snapshot)
            .find("\nLimiter:\ton (reclaim took more than half of the CPU time)\n") !=
        std::string::npos);
}

TEST_CASE("stats_text: status names the runtimes that no round asks", "[stats_text]") {
  auto snapshot = sample();
  CHECK(render(StatsFile::kStatus, *snapshot).find("NotAsked:") == std::string::npos);
  std::strcpy(snapshot->left_out, "jvm (no adapter: use its own limit)");
  CHECK(render(StatsFile::kStatus, *snapshot)
            .find("\nNotAsked:\tjvm (no adapter: use its own limit)\n") != std::string::npos);
}

TEST_CASE("stats_text: status names the hook that has been running for longest", "[stats_text]") {
  auto snapshot = sample();
  CHECK(render(StatsFile::kStatus, *snapshot).find("HookRuns:") == std::string::npos);
  snapshot->hooks[0].running_ns = 3'999'999;
  CHECK(render(StatsFile::kStatus, *snapshot).find("\nHookRuns:\tallocator for 3 ms\n") !=
        std::string::npos);
  snapshot->hooks[1].running_ns = 12'000'000'000;
  CHECK(
      render(StatsFile::kStatus, *snapshot).find("\nHookRuns:\tmy \"cache\"\\\\ for 12000 ms\n") !=
      std::string::npos);
}

TEST_CASE("stats_text: a process cannot forge lines with its name", "[stats_text]") {
  auto snapshot = sample();
  std::strcpy(snapshot->name, "a\nMemLimit:\toff");
  CHECK(lines_of(render(StatsFile::kStatus, *snapshot))[0] == "Name:\ta\\nMemLimit:\\x09off");
}

TEST_CASE("stats_text: stat has every figure of memlimit.h, in order", "[stats_text]") {
  Snapshot snapshot;
  // As memlimit_read_stats() gives them out: numbers one after the other, behind the size.
  auto* figure = reinterpret_cast<int64_t*>(&snapshot.figures.limit);
  for (size_t i = 0; i < memlimit::kStatCount; ++i) figure[i] = static_cast<int64_t>(i) - 5;
  std::string expected;
  for (size_t i = 0; i < memlimit::kStatCount; ++i) {
    expected += std::string(memlimit::kStatRows[i].key) + " " +
                std::to_string(static_cast<int64_t>(i) - 5) + "\n";
  }
  CHECK(render(StatsFile::kStat, snapshot) == expected);

  std::set<std::string_view> keys;
  for (const auto& row : memlimit::kStatRows) keys.insert(row.key);
  CHECK(keys.size() == memlimit::kStatCount);
  for (const char* key :
       {"limit", "heap_alloc", "heap_peak", "total_alloc", "total_freed", "rss_anon", "rounds",
        "hook_calls", "reclaimed", "overshoot_peak", "threads"}) {
    CHECK(keys.count(key) == 1);
  }
}

TEST_CASE("stats_text: the hooks table has a row a hook and eleven words a row", "[stats_text]") {
  auto snapshot = sample();
  add_hook(snapshot.get(), "busy", MEMLIMIT_POLL);
  snapshot->hooks[2].calls = 1;
  snapshot->hooks[2].last_result = MEMLIMIT_CANNOT_NOW;
  snapshot->hooks[2].overruns = 2;
  snapshot->hooks[2].running_ns = 12'000'345'678;
  const auto lines = lines_of(render(StatsFile::kHooks, *snapshot));
  REQUIRE(lines.size() == 4);
  for (const std::string& line : lines) {
    CAPTURE(line);
    CHECK(line.size() == lines[0].size());
    std::istringstream words(line);
    int count = 0;
    for (std::string word; words >> word;) ++count;
    CHECK(count == 11);
  }
  CHECK(lines[1].starts_with("allocator   builtin "));
  CHECK(lines[1].ends_with(" 4096          0             -"));
  CHECK(lines[2].starts_with("my_\"cache\"\\ "));
  CHECK(lines[2].ends_with(" -          0             -"));
  CHECK(lines[3].ends_with(" cannot-now          2      12000345"));
}

TEST_CASE("stats_text: ls names every file", "[stats_text]") {
  const auto lines = lines_of(render(StatsFile::kList, Snapshot{}));
  REQUIRE(lines.size() == std::size(memlimit::kStatsFiles));
  for (size_t i = 0; i < lines.size(); ++i) {
    CHECK(lines[i].starts_with(std::string(memlimit::kStatsFiles[i].name) + " "));
    CHECK(lines[i].size() > 30);
  }
}

TEST_CASE("stats_text: the first line of events tells the state", "[stats_text]") {
  CHECK(render(StatsFile::kEvents, *sample()) ==
        "state level=moderate limit=536870912 heap_alloc=315621376 paced=315621376 rounds=17 "
        "limiter_on=0\n");
}

TEST_CASE("stats_text: every file fits at its worst, and is cut at a line when it does not",
          "[stats_text]") {
  const auto snapshot = worst();
  for (const auto& row : memlimit::kStatsFiles) {
    CAPTURE(row.name);
    const std::string text = render(row.file, *snapshot);
    CHECK(text.size() < kMaxTextBytes - 1024);
    CHECK((text.empty() || text.back() == '\n'));
    for (const size_t cap : {size_t{1}, size_t{2}, size_t{100}, text.size() / 2 + 1, text.size()}) {
      if (cap == 0) continue;
      const std::string cut = render(row.file, *snapshot, cap);
      CHECK(cut.size() < cap);
      CHECK((cut.empty() || cut.back() == '\n'));
      CHECK(text.starts_with(cut));
    }
  }
}

TEST_CASE("stats_metrics: each sample belongs to the family above it", "[stats_text][metrics]") {
  auto snapshot = sample();
  for (const StatsFile file : {StatsFile::kMetrics, StatsFile::kOpenMetrics}) {
    const auto lines = lines_of(render(file, *snapshot));
    std::set<std::string> families, samples;
    std::string family, type;
    for (const std::string& line : lines) {
      CAPTURE(line);
      std::istringstream words(line);
      std::string hash, keyword, name, rest;
      if (line == "# EOF") continue;
      if (line.starts_with("# ")) {
        words >> hash >> keyword >> name;
        std::getline(words, rest);
        if (keyword == "HELP") {
          CHECK(families.insert(name).second);
          family = name;
          CHECK(rest.ends_with("."));
        }
        CHECK(name == family);
        if (keyword == "TYPE") type = rest.substr(1);
        if (keyword == "UNIT" && file == StatsFile::kOpenMetrics) {
          CHECK(family.ends_with(std::string("_").append(rest.substr(1))));
        }
        continue;
      }
      CHECK(samples.insert(line.substr(0, line.rfind(' '))).second);
      const std::string sample_name = line.substr(0, line.find_first_of(" {"));
      CHECK(sample_name.starts_with("memlimit_"));
      const std::string suffix =
          sample_name.starts_with(family) ? sample_name.substr(family.size()) : "?";
      if (type == "counter") {
        CHECK(sample_name.ends_with("_total"));
        CHECK(suffix == (file == StatsFile::kOpenMetrics ? "_total" : ""));
      } else if (type == "histogram") {
        CHECK((suffix == "_bucket" || suffix == "_sum" || suffix == "_count"));
      } else {
        CHECK(type == "gauge");
        CHECK(suffix.empty());
        CHECK_FALSE(sample_name.ends_with("_total"));
      }
    }
    CHECK(lines.back() == "# EOF");
    CHECK(std::count(lines.begin(), lines.end(), "# EOF") == 1);
  }
}

TEST_CASE("stats_metrics: values are in base units and labels are escaped",
          "[stats_text][metrics]") {
  const std::string text = render(StatsFile::kOpenMetrics, *sample());
  for (const char* line :
       {"memlimit_heap_alloc_bytes 315621376\n", "memlimit_total_alloc_bytes_total 123456789012\n",
        "memlimit_hook_seconds_total 1.5\n", "memlimit_uptime_seconds 61.0\n", "memlimit_level 1\n",
        "memlimit_rounds_total 17\n",
        "memlimit_by_hook_time_seconds_total{hook=\"allocator\",id=\"1\",context=\"builtin\"} "
        "0.0012\n",
        "memlimit_by_hook_calls_total{hook=\"my \\\"cache\\\"\\\\\",id=\"2\",context=\"async\"} "
        "0\n",
        "# TYPE memlimit_rounds counter\n", "# UNIT memlimit_hook_seconds seconds\n"}) {
    CAPTURE(line);
    CHECK(text.find(line) != std::string::npos);
  }
}

TEST_CASE("stats_metrics: promtool accepts the metrics", "[stats_text][metrics]") {
  if (!have("promtool")) {
    WARN("skipped: promtool (Debian package prometheus) is not installed");
    return;
  }
  for (const auto& snapshot : {sample(), worst()}) {
    const memlimit::test::TempDir directory;
    const std::string complaints = directory / "complaints";
    FILE* promtool = popen(("promtool check metrics >" + complaints + " 2>&1").c_str(), "w");
    REQUIRE(promtool != nullptr);
    const std::string text = render(StatsFile::kMetrics, *snapshot);
    fwrite(text.data(), 1, text.size(), promtool);
    const int status = WEXITSTATUS(pclose(promtool));
    char said[4096] = "";
    memlimit::os::read_file(complaints.c_str(), said, sizeof said);
    INFO(said);
    CHECK(status == 0);
  }
}

TEST_CASE("stats: a histogram counts values in the bucket that bounds them", "[stats]") {
  Histogram histogram(memlimit::kDurationShape);
  for (const int64_t value : {int64_t{-7}, int64_t{0}, int64_t{16'000}, int64_t{16'001},
                              int64_t{4'000'000'000}, int64_t{4'000'000'001}}) {
    histogram.observe(value);
  }
  const memlimit::HistogramCopy copy = histogram.copy();
  CHECK(copy.bucket[0] == 3);
  CHECK(copy.bucket[1] == 1);
  CHECK(copy.bucket[9] == 1);
  CHECK(copy.bucket[10] == 1);
  CHECK(copy.count() == 6);
  CHECK(copy.sum == 16'000 + 16'001 + 4'000'000'000 + 4'000'000'001);
  histogram.reset();
  CHECK(histogram.copy().count() == 0);

  Snapshot snapshot;
  snapshot.round_ns = copy;
  const std::string text = render(StatsFile::kOpenMetrics, snapshot);
  CHECK(text.find("memlimit_round_duration_seconds_bucket{le=\"1.6e-05\"} 3\n") !=
        std::string::npos);
  CHECK(text.find("memlimit_round_duration_seconds_bucket{le=\"4.0\"} 5\n") != std::string::npos);
  CHECK(text.find("memlimit_round_duration_seconds_bucket{le=\"+Inf\"} 6\n") != std::string::npos);
  CHECK(text.find("memlimit_round_duration_seconds_sum 8.000032002\n"
                  "memlimit_round_duration_seconds_count 6\n") != std::string::npos);
}

TEST_CASE("stats: labels of buckets are their bounds in base units", "[stats]") {
  for (size_t i = 0; i < memlimit::HistogramShape::kBounds; ++i) {
    CHECK(std::stod(memlimit::kBytesShape.label[i]) ==
          static_cast<double>(memlimit::kBytesShape.bound[i]));
    CHECK(std::stod(memlimit::kDurationShape.label[i]) ==
          Approx(static_cast<double>(memlimit::kDurationShape.bound[i]) / 1e9).epsilon(1e-12));
    if (i > 0) {
      CHECK(memlimit::kBytesShape.bound[i] > memlimit::kBytesShape.bound[i - 1]);
      CHECK(memlimit::kDurationShape.bound[i] > memlimit::kDurationShape.bound[i - 1]);
    }
  }
}
