/* See program.h. */
#include "program.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "say.h"

/* The kernel follows five scripts that name scripts (BINPRM_BUF_SIZE is how much it reads of a first line). */
enum { kScriptDepth = 5, kFirstLine = 256, kMaxSegments = 128, kMaxNotes = 4096 };

/* Of both classes; a 32-bit field fits its 64-bit one. */
struct segment {
  uint32_t type;
  uint64_t offset;
  uint64_t bytes;
};

static bool read_at(int fd, uint64_t offset, void* out, size_t bytes) {
  return offset <= INT64_MAX && pread(fd, out, bytes, (off_t)offset) == (ssize_t)bytes;
}

static bool read_segment(int fd, const Elf64_Ehdr* header, unsigned index,
                         struct segment* segment) {
  if (header->e_ident[EI_CLASS] == ELFCLASS64) {
    Elf64_Phdr found;
    if (!read_at(fd, header->e_phoff + (uint64_t)index * sizeof found, &found, sizeof found))
      return false;
    *segment = (struct segment){found.p_type, found.p_offset, found.p_filesz};
    return true;
  }
  Elf32_Phdr found;
  if (!read_at(fd, header->e_phoff + (uint64_t)index * sizeof found, &found, sizeof found))
    return false;
  *segment = (struct segment){found.p_type, found.p_offset, found.p_filesz};
  return true;
}

/* A note of the Go linker's: its build id, which every Go program has, also one that was stripped or linked with C. */
static bool has_go_note(int fd, const struct segment* segment) {
  enum { kGoBuildId = 4 };
  unsigned char notes[kMaxNotes];
  size_t bytes = segment->bytes < sizeof notes ? (size_t)segment->bytes : sizeof notes;
  const ssize_t got = pread(fd, notes, bytes, (off_t)segment->offset);
  if (got <= 0) return false;
  bytes = (size_t)got;
  for (size_t at = 0; at + sizeof(Elf64_Nhdr) <= bytes;) {
    Elf64_Nhdr note; /* the same in both classes */
    memcpy(&note, notes + at, sizeof note);
    at += sizeof note;
    if (note.n_type == kGoBuildId && note.n_namesz == 4 && bytes - at >= 4 &&
        memcmp(notes + at, "Go\0\0", 4) == 0) {
      return true;
    }
    const uint64_t step = (((uint64_t)note.n_namesz + 3) & ~UINT64_C(3)) +
                          (((uint64_t)note.n_descsz + 3) & ~UINT64_C(3));
    if (step > bytes - at) return false;
    at += (size_t)step;
  }
  return false;
}

/* The header with the fields of a 32-bit one where a 64-bit one has them. */
static bool read_header(int fd, Elf64_Ehdr* header) {
  if (!read_at(fd, 0, header, sizeof(Elf32_Ehdr)) || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0)
    return false;
  if (header->e_ident[EI_CLASS] == ELFCLASS64) {
    return read_at(fd, 0, header, sizeof *header) && header->e_phentsize == sizeof(Elf64_Phdr);
  }
  Elf32_Ehdr small;
  memcpy(&small, header, sizeof small);
  header->e_phoff = small.e_phoff;
  header->e_phnum = small.e_phnum;
  return small.e_phentsize == sizeof(Elf32_Phdr);
}

/* The loader as a command (`ld.so program`) has no loader itself, and preloads all the same. */
static bool is_loader(const char* path) {
  const char* const slash = strrchr(path, '/');
  const char* const name = slash == NULL ? path : slash + 1;
  return strncmp(name, "ld-", 3) == 0 || strncmp(name, "ld.", 3) == 0 ||
         strncmp(name, "ld64.", 5) == 0;
}

static bool look_into_elf(int fd, const char* path, struct program* program) {
  Elf64_Ehdr header;
  if (!read_header(fd, &header)) return false;
  program->is_elf = true;
  program->elf_class = header.e_ident[EI_CLASS];
  program->machine = header.e_machine;
  snprintf(program->image, sizeof program->image, "%s", path);
  program->is_static = !is_loader(path);
  const unsigned count = header.e_phnum < kMaxSegments ? header.e_phnum : kMaxSegments;
  for (unsigned i = 0; i < count; ++i) {
    struct segment segment;
    if (!read_segment(fd, &header, i, &segment)) break;
    if (segment.type == PT_INTERP && segment.bytes > 1 && segment.bytes < PATH_MAX) {
      program->is_static = false;
      if (!read_at(fd, segment.offset, program->loader, (size_t)segment.bytes))
        program->loader[0] = '\0';
      program->loader[segment.bytes] = '\0';
    }
    if (segment.type == PT_NOTE && has_go_note(fd, &segment)) program->is_go = true;
  }
  struct stat status;
  program->is_privileged =
      fstat(fd, &status) == 0 && (((status.st_mode & S_ISUID) != 0 && status.st_uid != geteuid()) ||
                                  ((status.st_mode & S_ISGID) != 0 && status.st_gid != getegid()));
  return true;
}

/* The interpreter that a script names; false when the file is none. */
static bool read_interpreter(int fd, char path[kFirstLine]) {
  char line[kFirstLine];
  const ssize_t got = pread(fd, line, sizeof line - 1, 0);
  if (got < 2 || line[0] != '#' || line[1] != '!') return false;
  line[got] = '\0';
  const char* const begin = line + 2 + strspn(line + 2, " \t");
  const size_t length = strcspn(begin, " \t\r\n");
  memcpy(path, begin, length);
  path[length] = '\0';
  return length > 0;
}

static bool look_deeper(const char* path, struct program* program, int depth) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  bool known = look_into_elf(fd, path, program);
  char interpreter[kFirstLine];
  const bool is_script = !known && read_interpreter(fd, interpreter);
  close(fd);
  if (is_script && depth < kScriptDepth) known = look_deeper(interpreter, program, depth + 1);
  return known;
}

bool look_into(const char* path, struct program* program) {
  return look_deeper(path, program, kScriptDepth);
}

static void check_file(const char* path) {
  struct stat status;
  if (stat(path, &status) != 0) die(kStatusNotFound, "%s: no such file", path);
  if (S_ISDIR(status.st_mode) || access(path, X_OK) != 0)
    die(kStatusNotExecutable, "%s: not executable", path);
}

/* Through PATH; an empty part of it is the directory one is in. */
static void look_up(const char* name, char path[PATH_MAX]) {
  const char* rest = getenv("PATH");
  if (rest == NULL) rest = "/usr/bin:/bin";
  char denied[PATH_MAX] = "";
  for (bool more = true; more;) {
    const size_t length = strcspn(rest, ":");
    const int written = snprintf(path, PATH_MAX, "%.*s/%s", length == 0 ? 1 : (int)length,
                                 length == 0 ? "." : rest, name);
    struct stat status;
    if (written > 0 && written < PATH_MAX && stat(path, &status) == 0 && S_ISREG(status.st_mode)) {
      if (access(path, X_OK) == 0) return;
      memcpy(denied, path, (size_t)written + 1);
    }
    more = rest[length] == ':';
    rest += length + (more ? 1 : 0);
  }
  if (denied[0] != '\0') die(kStatusNotExecutable, "%s: not executable", denied);
  die(kStatusNotFound, "%s: command not found", name);
}

void find_program(const char* name, struct program* program) {
  memset(program, 0, sizeof *program);
  if (strchr(name, '/') == NULL) {
    look_up(name, program->path);
  } else {
    check_file(name);
    if (snprintf(program->path, sizeof program->path, "%s", name) >= (int)sizeof program->path) {
      die(kStatusNotFound, "%.64s...: its path is too long", name);
    }
  }
  look_deeper(program->path, program, 0);
}
