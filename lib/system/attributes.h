/* Compiler annotations used across memlimit: visibility, hot/cold placement, branch hints and
 * Clang's thread-safety analysis (a no-op under GCC, which lacks it).
 *
 * This file refuses to hold anything that generates code.
 */
#pragma once

#define MEMLIMIT_EXPORT __attribute__((visibility("default")))
#define MEMLIMIT_HIDDEN __attribute__((visibility("hidden")))
#define MEMLIMIT_COLD __attribute__((cold, noinline))
#define MEMLIMIT_ALWAYS_INLINE __attribute__((always_inline)) inline

/* For what runs while every process starts, in a file of which nothing else does: the linker puts it with the
 * rest of the start, whose pages are resident anyway (lib/meson.build). */
#define MEMLIMIT_AT_START __attribute__((section(".text.startup")))

/* What fork writes, and the functions that write it, side by side: each page of ours that the child touches is a
 * fault, and where a virtual machine's cost 12 microseconds thirty of them were half of a fork. The data are one
 * page, which engine/account.cc begins; what is written elsewhere is first compared. What each child runs is one page
 * as well (tests/fork_page_test.py), which engine/fork.cc begins: it is made for size, but for what others call, too;
 * it calls nothing of libc's (raw_call.h), and what few children need is a function elsewhere. GNU ld puts sections
 * of these names together, in the order of the names; another linker's order costs faults alone. */
#define MEMLIMIT_FORK_DATA __attribute__((section("memlimit_fork")))
#define MEMLIMIT_FORK_CODE __attribute__((section(".text.sorted.fork_parent")))
#define MEMLIMIT_CHILD_CODE __attribute__((cold, section(".text.sorted.fork_child")))
#define MEMLIMIT_CHILD_SHARED_CODE __attribute__((section(".text.sorted.fork_child")))
#define MEMLIMIT_CHILD_BEGIN __attribute__((cold, section(".text.sorted.fork"), aligned(4096)))

#define MEMLIMIT_LIKELY(x) __builtin_expect(!!(x), 1)
#define MEMLIMIT_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* LD_PRELOAD loads us at start, so static TLS space is ours to use; the initial-exec model makes a
 * thread-local access one load of an offset and one %fs access, and never calls __tls_get_addr
 * (which may itself call malloc). */
#define MEMLIMIT_TLS thread_local constinit __attribute__((tls_model("initial-exec")))

/* Set where the thread sanitizer looks: it does not see into assembly. */
#if defined(__SANITIZE_THREAD__)
#define MEMLIMIT_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MEMLIMIT_THREAD_SANITIZER 1
#endif
#endif
#if !defined(MEMLIMIT_THREAD_SANITIZER)
#define MEMLIMIT_THREAD_SANITIZER 0
#endif

#if defined(__clang__)
#define MEMLIMIT_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define MEMLIMIT_THREAD_ANNOTATION(x)
#endif

#define MEMLIMIT_CAPABILITY(x) MEMLIMIT_THREAD_ANNOTATION(capability(x))
#define MEMLIMIT_SCOPED_CAPABILITY MEMLIMIT_THREAD_ANNOTATION(scoped_lockable)
#define MEMLIMIT_GUARDED_BY(x) MEMLIMIT_THREAD_ANNOTATION(guarded_by(x))
#define MEMLIMIT_REQUIRES(...) MEMLIMIT_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
#define MEMLIMIT_ACQUIRE(...) MEMLIMIT_THREAD_ANNOTATION(acquire_capability(__VA_ARGS__))
#define MEMLIMIT_RELEASE(...) MEMLIMIT_THREAD_ANNOTATION(release_capability(__VA_ARGS__))
#define MEMLIMIT_TRY_ACQUIRE(...) MEMLIMIT_THREAD_ANNOTATION(try_acquire_capability(__VA_ARGS__))
#define MEMLIMIT_EXCLUDES(...) MEMLIMIT_THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))
#define MEMLIMIT_NO_THREAD_SAFETY_ANALYSIS MEMLIMIT_THREAD_ANNOTATION(no_thread_safety_analysis)
