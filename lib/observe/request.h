/* The text protocol of the statistics socket, both directions: what a client asked, and the head of
 * an HTTP answer.
 *
 * Answers for: turning any bytes whatever into a request, an error to print, or "not all there
 * yet". Refuses sockets, clocks and allocation: it is a pure function, fuzzed by
 * tests/fuzz/request_fuzz.cc. Threads: any; nothing is shared.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "system/text.h"

namespace memlimit {

/** The files of the socket, in the order of stats_files.inc. */
enum class StatsFile : uint8_t {
#define MEMLIMIT_FILE(symbol, name, sentence) symbol,
#include "observe/stats_files.inc"
#undef MEMLIMIT_FILE
};

struct StatsFileRow {
  StatsFile file;
  std::string_view name;
  std::string_view sentence;
};

inline constexpr StatsFileRow kStatsFiles[] = {
#define MEMLIMIT_FILE(symbol, name, sentence) {StatsFile::symbol, name, sentence},
#include "observe/stats_files.inc"
#undef MEMLIMIT_FILE
};

/** A request line with all its HTTP headers may have this many bytes; one more is refused. */
inline constexpr size_t kMaxRequestBytes = 4096;

struct Request {
  enum class Outcome : uint8_t {
    kIncomplete, /* read more */
    kFile,       /* `file` is wanted */
    kSetLimit,   /* `value` is what followed limit= */
    kSetProfile, /* ... profile= */
    kError,      /* `error` says what is wrong and what would be right */
  };
  Outcome outcome = Outcome::kIncomplete;
  StatsFile file = StatsFile::kStatus;
  bool http = false;      /* answer with an HTTP head */
  bool head = false;      /* ... and nothing but the head */
  int http_status = 200;  /* meaningful when http */
  std::string_view value; /* points into the input */
  char error[320] = {};   /* one line without its newline, NUL-terminated */
};

/**
 * Reads a request from the first bytes of a connection. `ended`: the client shut its writing side,
 * so what is there is all there will be. Only the first line counts (with its headers, for HTTP);
 * an empty one, or nothing at all, asks for status.
 */
Request parse_request(std::string_view input, bool ended) noexcept;

/** True when the bytes so far look like HTTP: a client too slow to finish is told so in its
 * language. */
bool looks_like_http(std::string_view input) noexcept;

/**
 * Appends the head of an HTTP/1.1 answer, blank line included: at most kMaxHttpHeadBytes.
 * content_length < 0: the body ends when the connection does.
 */
void put_http_head(TextWriter& out, int status, StatsFile file, int64_t content_length) noexcept;
inline constexpr size_t kMaxHttpHeadBytes = 256;

}  // namespace memlimit
