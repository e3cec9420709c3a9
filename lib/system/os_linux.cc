/* Linux system calls behind os.h. syscall() is used where glibc's wrapper would cancel a thread or
 * cache an answer across fork. */
#include "system/os.h"

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <ctime>

#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "system/attributes.h"
#include "system/low_numbers.h"
#include "system/raw_call.h"

namespace memlimit::os {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;

int64_t clock_ns(clockid_t clock) noexcept {
  timespec ts{};
  if (clock_gettime(clock, &ts) != 0) return 0;
  return int64_t{ts.tv_sec} * kNsPerSecond + ts.tv_nsec;
}

}  // namespace

ErrnoGuard::ErrnoGuard() noexcept : saved_(errno) {}
ErrnoGuard::~ErrnoGuard() { errno = saved_; }

int64_t monotonic_ns() noexcept { return clock_ns(CLOCK_MONOTONIC); }
int64_t process_cpu_ns() noexcept { return clock_ns(CLOCK_PROCESS_CPUTIME_ID); }
int64_t thread_cpu_ns() noexcept { return clock_ns(CLOCK_THREAD_CPUTIME_ID); }
int64_t thread_cpu_ns(int tid) noexcept {
  // The kernel's number for it (posix-timers_types.h, CPUCLOCK_SCHED of one thread), as glibc makes it.
  constexpr int kOfThread = 6;
  return clock_ns(static_cast<clockid_t>(~static_cast<unsigned>(tid) << 3 | kOfThread));
}

MEMLIMIT_CHILD_SHARED_CODE int process_id() noexcept {
  return static_cast<int>(raw_call(SYS_getpid));
}
int thread_id() noexcept { return static_cast<int>(raw_call(SYS_gettid)); }

bool thread_exists(int tid) noexcept {
  ErrnoGuard guard;
  return syscall(SYS_tgkill, process_id(), tid, 0) == 0;
}

int thread_count() noexcept {
  ErrnoGuard guard;
  // A folder has a link from its parent, one from itself and one from each folder in it.
  struct stat folder;
  if (stat("/proc/self/task", &folder) != 0) return -1;
  return static_cast<int>(folder.st_nlink) - 2;
}

uint64_t blocked_signals() noexcept {
  ErrnoGuard guard;
  uint64_t mask = 0;
  syscall(SYS_rt_sigprocmask, SIG_BLOCK, nullptr, &mask, sizeof mask);
  return mask;
}

int cpu_count() noexcept {
  ErrnoGuard guard;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  const int count = CPU_COUNT(&set);
  return count > 0 ? count : 1;
}

void yield() noexcept { sched_yield(); }

void futex_wait(const std::atomic<uint32_t>& word, uint32_t expected, int64_t timeout_ns) noexcept {
  ErrnoGuard guard;
  timespec ts{timeout_ns / kNsPerSecond, timeout_ns % kNsPerSecond};
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, timeout_ns < 0 ? nullptr : &ts, nullptr,
          0);
}

void futex_wake(const std::atomic<uint32_t>& word, int count) noexcept {
  ErrnoGuard guard;
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

bool is_open(int fd) noexcept {
  ErrnoGuard guard;
  return syscall(SYS_fcntl, fd, F_GETFD) >= 0 || errno != EBADF;
}

int open_read(const char* path) noexcept {
  if (!low_numbers::may_take()) return -EAGAIN;
  ErrnoGuard guard;
  // O_NONBLOCK: a path from a setting or a strange mount may be a FIFO, and open must not hang on it.
  const long fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  return fd < 0 ? -errno : static_cast<int>(fd);
}

int64_t read_some(int fd, char* buffer, size_t cap) noexcept {
  ErrnoGuard guard;
  for (;;) {
    const long got = syscall(SYS_read, fd, buffer, cap);
    if (got >= 0) return got;
    if (errno != EINTR) return -errno;
  }
}

int64_t read_start(int fd, char* buffer, size_t cap) noexcept {
  ErrnoGuard guard;
  for (;;) {
    // The offset is two words on 32-bit machines, some of which align it: zeros are right for all.
    const long got = syscall(SYS_pread64, fd, buffer, cap, 0L, 0L, 0L);
    if (got >= 0) return got;
    if (errno != EINTR) return -errno;
  }
}

MEMLIMIT_CHILD_SHARED_CODE bool file_id(int fd, FileId* out) noexcept {
  struct stat st {};
#if defined(__x86_64__) || defined(__aarch64__)
  // As libc's fstat(), whose empty path would be a page of libc's: sandboxes know the call.
  const volatile char path = '\0';
  const long result = raw_call(SYS_newfstatat, fd, address(const_cast<const char*>(&path)),
                               address(&st), AT_EMPTY_PATH);
  if (result != 0) return false;
#else
  ErrnoGuard guard;
  if (fstat(fd, &st) != 0) return false;
#endif
  *out = {st.st_dev, st.st_ino};
  return true;
}

int64_t held_bytes(int fd, const FileId& expected) noexcept {
  constexpr int64_t kBlockBytes = 512; /* of st_blocks, whatever the file system's are */
  ErrnoGuard guard;
  struct stat st {};
  if (fstat(fd, &st) != 0 || !(FileId{st.st_dev, st.st_ino} == expected)) return -1;
  return st.st_blocks * kBlockBytes;
}

int try_lock_file(int fd) noexcept {
  ErrnoGuard guard;
  return syscall(SYS_flock, fd, LOCK_EX | LOCK_NB) == 0 ? 0 : -errno;
}

MEMLIMIT_CHILD_SHARED_CODE void close_file(int fd) noexcept { raw_call(SYS_close, fd); }

bool file_exists(const char* path) noexcept {
  ErrnoGuard guard;
  return syscall(SYS_faccessat, AT_FDCWD, path, F_OK) == 0;
}

int check_readable_file(const char* path) noexcept {
  ErrnoGuard guard;
  struct stat st {};
  if (stat(path, &st) != 0) return -errno;
  if (!S_ISREG(st.st_mode)) return kNoRegularFile;
  return syscall(SYS_faccessat, AT_FDCWD, path, R_OK) == 0 ? 0 : -errno;
}

int64_t mount_id(const char* path) noexcept {
  ErrnoGuard guard;
  // The kernel's struct statx, of which musl's header ends before the mount.
  constexpr uint32_t kMountId = 0x1000;
  struct {
    uint32_t mask;
    char before[140];
    uint64_t mount_id;
    char behind[104];
  } status{};
  static_assert(sizeof status == 256 && offsetof(decltype(status), mount_id) == 0x90);
  if (syscall(SYS_statx, AT_FDCWD, path, AT_NO_AUTOMOUNT, kMountId, &status) != 0) return -1;
  // qemu-user (7.2) says that it knows the mount, and leaves 0, which no mount has that a process can see.
  const bool is_known = (status.mask & kMountId) != 0 && status.mount_id != 0;
  return is_known ? static_cast<int64_t>(status.mount_id) : -1;
}

int64_t installed_memory_bytes() noexcept {
  ErrnoGuard guard;
  struct sysinfo info {};
  int64_t bytes = 0;
  if (sysinfo(&info) != 0) return -1;
  if (__builtin_mul_overflow(info.totalram, info.mem_unit, &bytes)) return -1;
  return bytes > 0 ? bytes : -1;
}

int64_t page_bytes() noexcept { return static_cast<int64_t>(getauxval(AT_PAGESZ)); }

void drop_pages(void* address, size_t bytes, size_t page_bytes) noexcept {
  ErrnoGuard guard;
  const auto begin = reinterpret_cast<uintptr_t>(address);
  const uintptr_t first = (begin + page_bytes - 1) & ~(page_bytes - 1);
  const uintptr_t end = (begin + bytes) & ~(page_bytes - 1);
  // The raw call: the interposed madvise() counts what the allocator does.
  if (first < end) syscall(SYS_madvise, first, end - first, MADV_DONTNEED);
}

int64_t read_file(const char* path, char* buffer, size_t cap) noexcept {
  const int fd = open_read(path);
  if (fd < 0) return fd;
  size_t length = 0;
  int64_t result = 0;
  while (length + 1 < cap) {
    const int64_t got = read_some(fd, buffer + length, cap - 1 - length);
    if (got < 0) result = got;
    if (got <= 0) break;
    length += static_cast<size_t>(got);
  }
  close_file(fd);
  buffer[length] = '\0';
  return result < 0 ? result : static_cast<int64_t>(length);
}

void write_all(int fd, const char* text, size_t length) noexcept {
  ErrnoGuard guard;
  while (length > 0) {
    const long put = syscall(SYS_write, fd, text, length);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return;
    text += put;
    length -= static_cast<size_t>(put);
  }
}

void* map_pages(size_t bytes) noexcept {
  ErrnoGuard guard;
  // The raw call: the interposed mmap() counts what the program maps.
  const long address = syscall(SYS_mmap, nullptr, bytes, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
  return address == -1 ? nullptr : reinterpret_cast<void*>(address);
}

void unmap_pages(void* address, size_t bytes) noexcept {
  ErrnoGuard guard;
  syscall(SYS_munmap, address, bytes);
}

int move_fd_high(int fd) noexcept {
  ErrnoGuard guard;
  rlimit limit{};
  rlim_t room = 1024;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < room) room = limit.rlim_cur;
  // Just below the customary 1024: beyond what programs reach counting upwards, and the kernel's table
  // for it is one page. FD_SETSIZE users never see it, since nobody hands it to them.
  int moved = -1;
  if (room >= 128) moved = fcntl(fd, F_DUPFD_CLOEXEC, static_cast<int>(room - 64));
  // Wherever else it stays, the program's write(1) may not end up in it.
  if (moved < 0 && fd <= STDERR_FILENO) moved = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  if (moved < 0) return fd;
  syscall(SYS_close, fd);
  return moved;
}

}  // namespace memlimit::os
