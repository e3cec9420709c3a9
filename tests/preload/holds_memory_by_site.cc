/* Allocates at sites of known bytes, in each of the ways there are, says how much each holds, and waits: what the heap
 * profile shows is compared with that. Its argument is how many MiB a site holds. Each line of its input is a step: "free"
 * gives half back, "fork" does so in a child, which then takes more than there was. */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>
#include <vector>

#include <malloc.h>
#include <unistd.h>

namespace {

size_t site_bytes = size_t{24} << 20;
constexpr int kSites = 8;

struct Site {
  const char* name;
  void* (*allocate)();
  std::vector<void*> blocks;
  size_t bytes;
};

#define SITE __attribute__((noinline)) void*

/* Not the last thing that it does, or the compiler jumps and the site has no frame. */
void* keep(void* block) {
  asm volatile("" : "+r"(block) : : "memory");
  return block;
}

SITE site_small_malloc() { return keep(malloc(72)); }
SITE site_medium_calloc() { return keep(calloc(3, 1000)); }
SITE site_new() { return keep(operator new(400)); }
SITE site_aligned() { return keep(aligned_alloc(256, 512)); }
SITE site_large() { return keep(malloc(180'000)); }
SITE site_huge() { return keep(malloc(6 << 20)); }
SITE site_realloc() {
  void* block = malloc(24);
  return keep(realloc(block, 1500));
}
SITE site_on_a_thread() { return keep(malloc(900)); }

Site sites[kSites] = {
    {"site_small_malloc", site_small_malloc, {}, 0},
    {"site_medium_calloc", site_medium_calloc, {}, 0},
    {"site_new", site_new, {}, 0},
    {"site_aligned", site_aligned, {}, 0},
    {"site_large", site_large, {}, 0},
    {"site_huge", site_huge, {}, 0},
    {"site_realloc", site_realloc, {}, 0},
    {"site_on_a_thread", site_on_a_thread, {}, 0},
};

void fill(Site& site, size_t bytes) {
  // What is kept of the blocks is no site of interest: it must not grow by reallocation while they come.
  site.blocks.reserve(2 * site_bytes / 72);
  while (site.bytes < bytes) {
    void* const block = site.allocate();
    if (block == nullptr) abort();
    site.blocks.push_back(block);
    site.bytes += malloc_usable_size(block);
  }
}

void give_half_back(Site& site) {
  const size_t left = site.blocks.size() / 2;
  while (site.blocks.size() > left) {
    site.bytes -= malloc_usable_size(site.blocks.back());
    free(site.blocks.back());
    site.blocks.pop_back();
  }
}

void tell() {
  printf("%d", getpid());
  for (const Site& site : sites) printf(" %s=%zu", site.name, site.bytes);
  printf("\n");
  fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) site_bytes = std::strtoul(argv[1], nullptr, 10) << 20;
  // Churn between: what is freed must not be taken for alive.
  for (Site& site : sites) {
    if (strcmp(site.name, "site_on_a_thread") == 0) {
      std::thread([&site] { fill(site, site_bytes); }).join();
    } else {
      fill(site, site_bytes);
    }
    for (int i = 0; i < 20'000; ++i) free(site_small_malloc());
  }
  tell();
  char line[32];
  // Not by stdio: the child of a fork would read what its parent has read ahead.
  for (ssize_t got; (got = read(0, line, sizeof line - 1)) > 0;) {
    line[got] = '\0';
    const bool forks = strcmp(line, "fork\n") == 0;
    if (forks && fork() > 0) {
      pause();
      _exit(0);
    }
    for (Site& site : sites) {
      give_half_back(site);
      if (forks) fill(site, site_bytes / 4 * 5);
    }
    tell();
  }
  return 0;
}
