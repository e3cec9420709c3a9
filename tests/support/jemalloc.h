/* jemalloc's functions as the programs declare them that look for it: weak, so that they need not be there. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "check.h"

#ifdef __cplusplus
extern "C" {
#endif

int mallctl(const char* name, void* old, size_t* old_bytes, void* fresh, size_t fresh_bytes);
int mallctlnametomib(const char* name, size_t* mib, size_t* depth);
int mallctlbymib(const size_t* mib, size_t depth, void* old, size_t* old_bytes, void* fresh,
                 size_t fresh_bytes);
void malloc_stats_print(void (*write)(void*, const char*), void* arg, const char* options);
extern void (*malloc_message)(void* arg, const char* text);
void* mallocx(size_t bytes, int flags);
void* rallocx(void* block, size_t bytes, int flags);
size_t xallocx(void* block, size_t bytes, size_t extra, int flags);
size_t sallocx(const void* block, int flags);
void dallocx(void* block, int flags);
void sdallocx(void* block, size_t bytes, int flags);
size_t nallocx(size_t bytes, int flags);
#pragma weak mallctl
#pragma weak mallctlnametomib
#pragma weak mallctlbymib
#pragma weak malloc_stats_print
#pragma weak malloc_message
#pragma weak mallocx
#pragma weak rallocx
#pragma weak xallocx
#pragma weak sallocx
#pragma weak dallocx
#pragma weak sdallocx
#pragma weak nallocx

#ifdef __cplusplus
}
#endif

/** A value by its name, which must have that type. */
#define MALLCTL_READ(type, name)                                                            \
  __extension__({                                                                           \
    type value_read;                                                                        \
    memset(&value_read, 0, sizeof value_read);                                              \
    size_t value_bytes = sizeof value_read;                                                 \
    const int error = mallctl(name, &value_read, &value_bytes, NULL, 0);                    \
    if (error != 0)                                                                         \
      finish_saying(kFailedStatus, "%s:%d: %s: error %d", __FILE__, __LINE__, name, error); \
    CHECK_EQ(value_bytes, sizeof value_read);                                               \
    value_read;                                                                             \
  })

/** From here on arenas have new figures. */
static inline void begin_epoch(void) {
  uint64_t epoch = 1;
  CHECK_EQ(mallctl("epoch", NULL, NULL, &epoch, sizeof epoch), 0);
}
