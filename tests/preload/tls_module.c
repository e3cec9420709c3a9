/* A module with thread-local storage so large that libc has to allocate it when a thread first touches it. Used by
 * free_after_tls_teardown.c. */
static __thread char large[200000];

char* tls_module_touch(void);

__attribute__((visibility("default"))) char* tls_module_touch(void) {
  large[0] = 1;
  large[sizeof large - 1] = 1;
  return large;
}
