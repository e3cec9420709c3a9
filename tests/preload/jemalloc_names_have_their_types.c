/* Whatever a program asks of jemalloc by a name of its manual, it gets an answer of the manual's type, or none: no
 * pointer that points nowhere, no size that is another's. */
#include <stdlib.h>

#include "jemalloc.h"

enum { kAllArenas = 4096 };

struct name {
  const char* name;
  size_t bytes;
};

static const struct name kReadOnly[] = {
    {"version", sizeof(const char*)},
    {"thread.allocated", sizeof(uint64_t)},
    {"thread.deallocated", sizeof(uint64_t)},
    {"config.cache_oblivious", sizeof(bool)},
    {"config.debug", sizeof(bool)},
    {"config.fill", sizeof(bool)},
    {"config.lazy_lock", sizeof(bool)},
    {"config.malloc_conf", sizeof(const char*)},
    {"config.prof", sizeof(bool)},
    {"config.stats", sizeof(bool)},
    {"config.utrace", sizeof(bool)},
    {"config.xmalloc", sizeof(bool)},
    {"opt.abort", sizeof(bool)},
    {"opt.background_thread", sizeof(bool)},
    {"opt.dirty_decay_ms", sizeof(ssize_t)},
    {"opt.dss", sizeof(const char*)},
    {"opt.max_background_threads", sizeof(size_t)},
    {"opt.metadata_thp", sizeof(const char*)},
    {"opt.muzzy_decay_ms", sizeof(ssize_t)},
    {"opt.narenas", sizeof(unsigned)},
    {"opt.percpu_arena", sizeof(const char*)},
    {"opt.prof", sizeof(bool)},
    {"opt.retain", sizeof(bool)},
    {"opt.stats_print", sizeof(bool)},
    {"opt.tcache", sizeof(bool)},
    {"opt.thp", sizeof(const char*)},
    {"opt.zero_realloc", sizeof(const char*)},
    {"arena.0.initialized", sizeof(bool)},
    {"arena.4096.initialized", sizeof(bool)},
    {"arenas.narenas", sizeof(unsigned)},
    {"arenas.quantum", sizeof(size_t)},
    {"arenas.page", sizeof(size_t)},
    {"arenas.tcache_max", sizeof(size_t)},
    {"arenas.nbins", sizeof(unsigned)},
    {"arenas.nhbins", sizeof(unsigned)},
    {"arenas.bin.0.size", sizeof(size_t)},
    {"arenas.bin.0.nregs", sizeof(uint32_t)},
    {"arenas.bin.0.slab_size", sizeof(size_t)},
    {"arenas.bin.0.nshards", sizeof(uint32_t)},
    {"arenas.nlextents", sizeof(unsigned)},
    {"stats.allocated", sizeof(size_t)},
    {"stats.active", sizeof(size_t)},
    {"stats.metadata", sizeof(size_t)},
    {"stats.metadata_thp", sizeof(size_t)},
    {"stats.resident", sizeof(size_t)},
    {"stats.mapped", sizeof(size_t)},
    {"stats.retained", sizeof(size_t)},
    {"stats.background_thread.num_threads", sizeof(size_t)},
    {"stats.arenas.0.nthreads", sizeof(unsigned)},
    {"stats.arenas.0.dss", sizeof(const char*)},
    {"stats.arenas.0.dirty_decay_ms", sizeof(ssize_t)},
    {"stats.arenas.0.pactive", sizeof(size_t)},
    {"stats.arenas.0.pdirty", sizeof(size_t)},
    {"stats.arenas.4096.pmuzzy", sizeof(size_t)},
    {"stats.arenas.0.mapped", sizeof(size_t)},
    {"stats.arenas.0.dirty_npurge", sizeof(uint64_t)},
    {"stats.arenas.0.small.allocated", sizeof(size_t)},
    {"stats.arenas.0.small.nmalloc", sizeof(uint64_t)},
    {"stats.arenas.0.large.allocated", sizeof(size_t)},
    {"stats.arenas.0.bins.0.curregs", sizeof(size_t)},
    {"stats.arenas.4096.bins.0.curslabs", sizeof(size_t)},
    {"stats.arenas.0.bins.0.nrequests", sizeof(uint64_t)},
};

static const char* const kNone[] = {
    "",
    "stats",
    "arenas.bin",
    "arenas.bin.0",
    "no.such.thing",
    "version.x",
    "thread.allocatedp", /* pointers to counters that malloc would have to count in */
    "thread.deallocatedp",
    "thread.peak.read",
    "prof.dump",
    "prof.reset",
    "opt.lg_prof_sample",
    "arena.0.extent_hooks",
    "arena.7.purge",
    "stats.arenas.7.pactive",
    "stats.arenas.4097.pactive",
    "arenas.bin.100000.size",
    "stats.arenas.0.bins.100000.curregs",
    "stats.mutexes.ctl.num_ops",
    "experimental.utilization.query",
};

static void names_have_their_types(void) {
  for (size_t i = 0; i < sizeof kReadOnly / sizeof *kReadOnly; ++i) {
    const char* const name = kReadOnly[i].name;
    const size_t right = kReadOnly[i].bytes;
    for (size_t asked = 1; asked <= 16; ++asked) {
      char out[16];
      memset(out, 0x5a, sizeof out);
      size_t bytes = asked;
      const int error = mallctl(name, out, &bytes, NULL, 0);
      if (error != (asked == right ? 0 : EINVAL) || bytes != (asked < right ? asked : right))
        finish_saying(kFailedStatus, "%s: %zu bytes: error %d, %zu bytes", name, asked, error,
                      bytes);
      for (size_t at = bytes; at < sizeof out; ++at) CHECK_EQ(out[at], 0x5a);
    }
    uint64_t value = 0;
    if (mallctl(name, NULL, NULL, &value, right) != EPERM)
      finish_saying(kFailedStatus, "%s can be written", name);
  }
  for (size_t i = 0; i < sizeof kNone / sizeof *kNone; ++i) {
    void* value = opaque(&value);
    size_t bytes = sizeof value;
    if (mallctl(kNone[i], &value, &bytes, NULL, 0) != ENOENT)
      finish_saying(kFailedStatus, "%s is answered", kNone[i]);
    CHECK(value == &value);
  }
}

/* Programs print it behind "jemalloc ", and take it apart at the dots. */
static void version_can_be_printed_and_parsed(void) {
  const char* const version = MALLCTL_READ(const char*, "version");
  int major = 0, minor = 0, bugfix = 0, commits = -1;
  char build[32];
  CHECK_EQ(sscanf(version, "%d.%d.%d-%d-g%31s", &major, &minor, &bugfix, &commits, build), 5);
  CHECK_EQ(major, 5);
  CHECK(strcmp(build, "memlimit") == 0);
  CHECK(strcmp(MALLCTL_READ(const char*, "config.malloc_conf"), "") == 0);
  CHECK(strcmp(MALLCTL_READ(const char*, "opt.dss"), "disabled") == 0);
}

static void mibs_lead_where_names_do(void) {
  size_t mib[8], depth = 8;
  CHECK_EQ(mallctlnametomib("arenas.bin.0.size", mib, &depth), 0);
  CHECK_EQ(depth, 4);
  const unsigned bins = MALLCTL_READ(unsigned, "arenas.nbins");
  size_t last = 0;
  for (unsigned i = 0; i < bins; ++i) {
    size_t size = 0, bytes = sizeof size;
    mib[2] = i;
    CHECK_EQ(mallctlbymib(mib, depth, &size, &bytes, NULL, 0), 0);
    char name[64];
    snprintf(name, sizeof name, "arenas.bin.%u.size", i);
    CHECK_EQ(size, MALLCTL_READ(size_t, name));
    CHECK(size > last);
    CHECK_EQ(size, nallocx(last + 1, 0));
    last = size;
  }
  mib[2] = bins;
  size_t size = 0, bytes = sizeof size;
  CHECK_EQ(mallctlbymib(mib, depth, &size, &bytes, NULL, 0), ENOENT);
  CHECK_EQ(mallctlbymib(mib, 2, &size, &bytes, NULL, 0), ENOENT);
  depth = 2;
  CHECK_EQ(mallctlnametomib("arenas.bin.0.size", mib, &depth), 0);
  CHECK_EQ(depth, 2);
  CHECK_EQ(mallctlnametomib("arenas.no", mib, &depth), ENOENT);
}

static void settings_are_told_back(void) {
  size_t bytes = sizeof(ssize_t);
  ssize_t decay = 5000, was = 0;
  CHECK_EQ(mallctl("arenas.dirty_decay_ms", &was, &bytes, &decay, sizeof decay), 0);
  CHECK_EQ(was, MALLCTL_READ(ssize_t, "opt.dirty_decay_ms"));
  CHECK_EQ(MALLCTL_READ(ssize_t, "arena.0.dirty_decay_ms"), 5000);
  decay = -2;
  CHECK_EQ(mallctl("arenas.dirty_decay_ms", NULL, NULL, &decay, sizeof decay), EFAULT);
  const bool on = true, off = false;
  CHECK_EQ(mallctl("prof.active", NULL, NULL, (void*)&off, sizeof off), 0);
  CHECK_EQ(mallctl("prof.active", NULL, NULL, (void*)&on, sizeof on), ENOENT);
  CHECK(!MALLCTL_READ(bool, "prof.active"));
  CHECK(MALLCTL_READ(bool, "thread.tcache.enabled"));
}

/* What a program makes of its own is a number, whose blocks are those of all. */
static void arenas_and_caches_can_be_made(void) {
  size_t bytes = sizeof(unsigned);
  unsigned cache = 9, arena = 0;
  CHECK_EQ(mallctl("tcache.create", &cache, &bytes, NULL, 0), 0);
  CHECK_EQ(mallctl("arenas.create", &arena, &bytes, NULL, 0), 0);
  CHECK_EQ(arena, 1);
  CHECK_EQ(MALLCTL_READ(unsigned, "arenas.narenas"), 2);
  CHECK_EQ(MALLCTL_READ(size_t, "stats.arenas.1.small.allocated"), 0);
  CHECK_EQ(MALLCTL_READ(size_t, "stats.arenas.1.bins.3.curregs"), 0);
  void* const block = mallocx(100, (int)((arena + 1) << 20 | (cache + 2) << 8));
  CHECK(block != NULL);
  unsigned found = 7;
  CHECK_EQ(mallctl("arenas.lookup", &found, &bytes, (void*)&block, sizeof block), 0);
  CHECK_EQ(found, 0);
  dallocx(block, 0);
  CHECK_EQ(mallctl("thread.arena", NULL, NULL, &arena, sizeof arena), 0);
  CHECK_EQ(mallctl("arena.1.reset", NULL, NULL, NULL, 0), EFAULT);
  CHECK_EQ(mallctl("tcache.destroy", NULL, NULL, &cache, sizeof cache), 0);
  CHECK_EQ(mallctl("tcache.create", NULL, NULL, NULL, 0), EINVAL);
  CHECK_EQ(mallctl("thread.tcache.flush", NULL, NULL, NULL, 0), 0);
  void* const hooks = NULL;
  CHECK_EQ(mallctl("arenas.create", &arena, &bytes, (void*)&hooks, sizeof hooks), EPERM);
}

int main(void) {
  need_library();
  names_have_their_types();
  version_can_be_printed_and_parsed();
  mibs_lead_where_names_do();
  settings_are_told_back();
  arenas_and_caches_can_be_made();
  return 0;
}
