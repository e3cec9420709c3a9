/* Included before everything else: what the headers of a C++ library that is made for glibc take for granted, put right for
 * musl. Only headers are used of it, see meson.build.
 */
#pragma once

#define __GLIBC_PREREQ(major, minor) 0
#define __locale_t locale_t
#define _GLIBCXX_GTHREAD_USE_WEAK 0
#include <bits/c++config.h>
#undef _GLIBCXX_USE_PTHREAD_COND_CLOCKWAIT
#undef _GLIBCXX_USE_PTHREAD_MUTEX_CLOCKLOCK
#undef _GLIBCXX_USE_PTHREAD_RWLOCK_CLOCKLOCK
