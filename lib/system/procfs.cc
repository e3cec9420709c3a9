/* See procfs.h. */
#include "system/procfs.h"

#include <climits>
#include <cstring>

#include "system/folder.h"
#include "system/line_reader.h"
#include "system/os.h"
#include "system/text.h"

namespace memlimit::procfs {
namespace {

constexpr int64_t kBytesPerKb = 1024;
constexpr size_t kLineBytes = 1024;
constexpr int64_t kMaxStatusBytes = 1 << 20; /* its Groups: line alone can be 64 KiB entries long */
constexpr size_t kRootBytes = 512;

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

void skip_blanks(std::string_view* text) noexcept {
  while (!text->empty() && (text->front() == ' ' || text->front() == '\t')) text->remove_prefix(1);
}

/* A single read is the whole of it: statm is one short line, made when it is read. */
OwnMemory statm_of(int fd) noexcept {
  char text[128];
  const int64_t length = os::read_start(fd, text, sizeof text);
  if (length <= 0) return {};
  return parse_statm({text, static_cast<size_t>(length)}, os::page_bytes());
}

OwnMemory read_statm(const char* path) noexcept {
  const int fd = os::open_read(path);
  if (fd < 0) return {};
  const OwnMemory memory = statm_of(fd);
  os::close_file(fd);
  return memory;
}

int64_t find_kb(const char* path, std::string_view key) noexcept {
  char buffer[kLineBytes];
  LineReader reader(path, buffer, sizeof buffer, kMaxStatusBytes);
  std::string_view line;
  while (reader.next(&line)) {
    const int64_t bytes = parse_kb_line(line, key);
    if (bytes != kUnknown) return bytes;
  }
  return kUnknown;
}

/* Calls visit(tid, name) for each thread of this process until it says false. */
template <typename Visit>
void for_each_thread(Visit visit) noexcept {
  os::for_each_name(
      "/proc/self/task",
      [](const char* entry, void* arg) {
        char path[64];
        TextWriter(path, sizeof path).put("/proc/self/task/").put(entry).put("/comm");
        char text[32];
        const int64_t length = os::read_file(path, text, sizeof text);
        std::string_view number = entry;
        const int64_t tid = take_integer(&number);
        if (length <= 1 || tid <= 0) return true;
        const std::string_view name(text, static_cast<size_t>(length - 1)); /* less the newline */
        return (*static_cast<Visit*>(arg))(static_cast<int>(tid), name);
      },
      &visit);
}

/* Of /proc/<pid>/stat and a thread's: the number, the name, the state and the parent. */
constexpr size_t kStatBytes = 512;

/* Empty where there is none. */
std::string_view read_stat(const char* directory, int id, char (&text)[kStatBytes]) noexcept {
  char path[48];
  TextWriter(path, sizeof path).put(directory).put_int(id).put("/stat");
  const int64_t length = os::read_file(path, text, sizeof text);
  return length > 0 ? std::string_view(text, static_cast<size_t>(length)) : std::string_view();
}

/* The state with a blank on either side and what follows it; the name before may have any character in it. */
std::string_view behind_name(std::string_view stat) noexcept {
  const size_t name_end = stat.rfind(')');
  return name_end == std::string_view::npos ? std::string_view() : stat.substr(name_end + 1);
}

}  // namespace

int64_t take_integer(std::string_view* text) noexcept {
  std::string_view rest = *text;
  int64_t value = 0;
  if (rest.empty() || !is_digit(rest.front())) return kUnknown;
  while (!rest.empty() && is_digit(rest.front())) {
    if (__builtin_mul_overflow(value, 10, &value)) return kUnknown;
    if (__builtin_add_overflow(value, rest.front() - '0', &value)) return kUnknown;
    rest.remove_prefix(1);
  }
  *text = rest;
  return value;
}

bool maps_all_ids(std::string_view text) noexcept {
  // The last id, -1, stands for none.
  for (const int64_t expected : {int64_t{0}, int64_t{0}, int64_t{UINT32_MAX}}) {
    skip_blanks(&text);
    if (take_integer(&text) != expected) return false;
  }
  return text == "\n";
}

bool parse_runnable(std::string_view stat) noexcept { return behind_name(stat).starts_with(" R "); }

bool parse_zombie(std::string_view stat) noexcept { return behind_name(stat).starts_with(" Z "); }

int64_t parse_parent(std::string_view stat) noexcept {
  stat = behind_name(stat);
  constexpr size_t kStateLength = 3; /* " S " */
  if (stat.size() < kStateLength || stat[0] != ' ' || stat[2] != ' ') return kUnknown;
  stat.remove_prefix(kStateLength);
  const int64_t parent = take_integer(&stat);
  return parent > 0 ? parent : kUnknown;
}

int64_t parent_of(int pid) noexcept {
  char text[kStatBytes];
  return parse_parent(read_stat("/proc/", pid, text));
}

bool is_zombie(int pid) noexcept {
  char text[kStatBytes];
  return parse_zombie(read_stat("/proc/", pid, text));
}

bool thread_is_runnable(int tid) noexcept {
  char text[kStatBytes];
  return parse_runnable(read_stat("/proc/self/task/", tid, text));
}

bool has_thread_named(const char* const* names) noexcept {
  bool found = false;
  for_each_thread([&](int, std::string_view name) noexcept {
    for (const char* const* known = names; *known != nullptr && !found; ++known) {
      found = name == *known;
    }
    return !found;
  });
  return found;
}

int64_t cpu_ns_of_threads_named(const char* const* beginnings) noexcept {
  int64_t cpu_ns = 0;
  for_each_thread([&](int tid, std::string_view name) noexcept {
    for (const char* const* begin = beginnings; *begin != nullptr; ++begin) {
      if (!name.starts_with(*begin)) continue;
      cpu_ns += os::thread_cpu_ns(tid);
      break;
    }
    return true;
  });
  return cpu_ns;
}

OwnMemory parse_statm(std::string_view text, int64_t page_bytes) noexcept {
  enum Field : size_t { kSize, kResident, kShared, kText, kLibraries, kData, kFields };
  constexpr size_t kNeeded = kShared + 1;
  int64_t pages[kFields];
  size_t count = 0;
  for (; count < kFields; ++count) {
    skip_blanks(&text);
    pages[count] = take_integer(&text);
    if (pages[count] == kUnknown) break;
    if (!text.empty() && text.front() != ' ' && text.front() != '\n') break;
  }
  // A size of zero is what the kernel shows for a thread group whose leader has ended, not a footprint.
  if (count < kNeeded || pages[kSize] == 0) return {};
  OwnMemory memory;
  // The counters are read one after the other: a page dropped in between must not make it negative.
  const int64_t own = pages[kResident] > pages[kShared] ? pages[kResident] - pages[kShared] : 0;
  if (__builtin_mul_overflow(own, page_bytes, &memory.resident_bytes)) return {};
  if (count == kFields &&
      __builtin_mul_overflow(pages[kData], page_bytes, &memory.writable_bytes)) {
    memory.writable_bytes = kUnknown;
  }
  return memory;
}

int64_t parse_kb_line(std::string_view line, std::string_view key) noexcept {
  if (!line.starts_with(key)) return kUnknown;
  line.remove_prefix(key.size());
  skip_blanks(&line);
  const int64_t kb = take_integer(&line);
  if (kb == kUnknown || line != " kB") return kUnknown;
  int64_t bytes = 0;
  if (__builtin_mul_overflow(kb, kBytesPerKb, &bytes)) return kUnknown;
  return bytes;
}

size_t clean_name(std::string_view text, char* out, size_t cap) noexcept {
  size_t length = 0;
  for (const char c : text) {
    if (c == '\n' || length + 1 == cap) break;
    // Bytes of 128 and more stay: names may be UTF-8.
    const auto byte = static_cast<unsigned char>(c);
    out[length++] = byte < 0x20 || byte == 0x7f ? '?' : c;
  }
  if (length == 0) out[length++] = '?';
  out[length] = '\0';
  return length;
}

OwnMemory own_memory() noexcept {
  const OwnMemory memory = read_statm("/proc/self/statm");
  // `self` is the thread group's leader; when that has ended (pthread_exit in main) it shows
  // nothing.
  return memory.resident_bytes != kUnknown ? memory : read_statm("/proc/thread-self/statm");
}

int64_t footprint_bytes() noexcept { return own_memory().resident_bytes; }

int64_t footprint_bytes_of(int pid) noexcept {
  char path[32];
  TextWriter(path, sizeof path).put("/proc/").put_int(pid).put("/statm");
  return read_statm(path).resident_bytes;
}

/* Drops what is not, or no longer, this process's open statm. */
void FootprintFile::check() noexcept {
  if (fd_ < 0) return;
  os::FileId now;
  const bool same_file = os::file_id(fd_, &now) && now == id_;
  if (same_file && owner_ == os::process_id()) return;
  if (same_file) os::close_file(fd_); /* inherited from the parent, whose figures it shows */
  fd_ = -1;
}

OwnMemory FootprintFile::read() noexcept {
  if (!lock_.try_lock()) return own_memory();
  check();
  if (fd_ < 0) {
    const int fd = os::open_read("/proc/self/statm");
    if (fd >= 0) {
      fd_ = os::move_fd_high(fd);
      owner_ = os::process_id();
      if (!os::file_id(fd_, &id_)) fd_ = -1;
    }
  }
  const OwnMemory memory = fd_ >= 0 ? statm_of(fd_) : OwnMemory{};
  lock_.unlock();
  return memory.resident_bytes != kUnknown ? memory : own_memory();
}

void FootprintFile::close() noexcept {
  LockGuard guard(lock_);
  check();
  if (fd_ >= 0) os::close_file(fd_);
  fd_ = -1;
}

int64_t rss_anon_bytes() noexcept {
  const int64_t bytes = find_kb("/proc/self/status", "RssAnon:");
  return bytes != kUnknown ? bytes : find_kb("/proc/thread-self/status", "RssAnon:");
}

int64_t physical_memory_bytes(const char* root) noexcept {
  static constexpr char kFile[] = "/proc/meminfo";
  char path[kRootBytes + sizeof kFile];
  const size_t length = strnlen(root, kRootBytes);
  if (length == kRootBytes) return os::installed_memory_bytes();
  memcpy(path, root, length);
  memcpy(path + length, kFile, sizeof kFile);
  const int64_t bytes = find_kb(path, "MemTotal:");
  return bytes > 0 ? bytes : os::installed_memory_bytes();
}

Ids read_ids(const char* map_path, const char* overflow_path) noexcept {
  Ids ids;
  char text[128];
  int64_t length = os::read_file(overflow_path, text, sizeof text);
  std::string_view number{text, static_cast<size_t>(length > 0 ? length : 0)};
  const int64_t overflow = take_integer(&number);
  if (overflow != kUnknown && overflow <= UINT32_MAX) {
    ids.overflow = static_cast<uint32_t>(overflow);
  }
  length = os::read_file(map_path, text, sizeof text);
  ids.all_mapped = maps_all_ids({text, static_cast<size_t>(length > 0 ? length : 0)});
  return ids;
}

Ids user_ids() noexcept { return read_ids("/proc/self/uid_map", "/proc/sys/kernel/overflowuid"); }
Ids group_ids() noexcept { return read_ids("/proc/self/gid_map", "/proc/sys/kernel/overflowgid"); }

size_t process_name(char* out, size_t cap) noexcept {
  char text[64];
  const int64_t length = os::read_file("/proc/self/comm", text, sizeof text);
  return clean_name({text, static_cast<size_t>(length > 0 ? length : 0)}, out, cap);
}

}  // namespace memlimit::procfs
