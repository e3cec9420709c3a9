/* Parser of requests and heads of HTTP answers; see request.h.
 *
 * HTTP is read as RFC 9112 wants it, but for two leniencies: a missing Host is no error (a Unix
 * socket has no virtual hosts), and the end of the client's writing ends the headers.
 */
#include "observe/request.h"

namespace memlimit {
namespace {

constexpr std::string_view kBlanks = " \t\r";

std::string_view trim(std::string_view text) noexcept {
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

bool is_token_char(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

bool is_token(std::string_view text) noexcept {
  for (const char c : text) {
    if (!is_token_char(c)) return false;
  }
  return !text.empty();
}

bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
    if (lower(a[i]) != lower(b[i])) return false;
  }
  return true;
}

bool find_file(std::string_view name, StatsFile* file) noexcept {
  if (!name.empty() && name.front() == '/') {
    name.remove_prefix(1);
    if (name.empty()) name = "ls";
    if (name == "debug/pprof/heap") name = "profile";  // where Go's programs have it
  }
  for (const StatsFileRow& row : kStatsFiles) {
    if (row.name == name) {
      *file = row.file;
      return true;
    }
  }
  return false;
}

Request incomplete() noexcept { return Request{}; }

Request fail(bool http, int status) noexcept {
  Request request;
  request.outcome = Request::Outcome::kError;
  request.http = http;
  request.http_status = status;
  return request;
}

Request fail(bool http, int status, std::string_view what) noexcept {
  Request request = fail(http, status);
  TextWriter(request.error, sizeof request.error).put("memlimit: ").put(what);
  return request;
}

Request no_such_file(bool http, std::string_view name) noexcept {
  Request request = fail(http, 404);
  TextWriter out(request.error, sizeof request.error);
  out.put("memlimit: no file \"").put_escaped(name, 40).put("\"; try:");
  for (const StatsFileRow& row : kStatsFiles) out.put(' ').put(row.name);
  return request;
}

/** A request line is one that ends in something like " HTTP/1.1". */
bool is_http_line(std::string_view line) noexcept {
  const size_t blank = line.rfind(' ');
  return blank != std::string_view::npos && line.substr(blank + 1).starts_with("HTTP/");
}

struct HeaderFacts {
  bool bad = false;
  bool open_metrics = false;
};

void read_header(std::string_view line, HeaderFacts* facts) noexcept {
  const size_t colon = line.find(':');
  // A blank before the colon, or a line folded onto the next, has been used to smuggle requests:
  // RFC 9112 section 5 wants both refused.
  if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) {
    facts->bad = true;
    return;
  }
  const std::string_view value = trim(line.substr(colon + 1));
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && byte != '\t') || byte == 0x7f) facts->bad = true;
  }
  if (equal_ignoring_case(line.substr(0, colon), "accept") &&
      value.find("application/openmetrics-text") != std::string_view::npos) {
    facts->open_metrics = true;
  }
}

/** "http://any.thing/metrics?x=y" -> "/metrics". */
std::string_view path_of(std::string_view target) noexcept {
  if (target.starts_with("http://")) {
    target.remove_prefix(7);
    const size_t slash = target.find('/');
    if (slash == std::string_view::npos) return "/";
    target.remove_prefix(slash);
  }
  return target.substr(0, target.find_first_of("?#"));
}

Request interpret_http(std::string_view line, const HeaderFacts& facts) noexcept {
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  const std::string_view method = line.substr(0, first);
  const std::string_view target = first < last ? line.substr(first + 1, last - first - 1) : "";
  const std::string_view version = line.substr(last + 1);

  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  const bool version_ok =
      version.size() == 8 && digit(version[5]) && version[6] == '.' && digit(version[7]);
  if (!is_token(method) || target.empty() || target.find(' ') != std::string_view::npos ||
      !version_ok || facts.bad) {
    return fail(true, 400, "malformed HTTP request; try: GET /metrics HTTP/1.1");
  }
  if (version[5] != '1') return fail(true, 505, "this server speaks HTTP/1.1 only");

  Request request;
  request.head = method == "HEAD";
  if (method != "GET" && !request.head) {
    return fail(true, 405, "only GET and HEAD here; the limit is changed by the line limit=SIZE");
  }
  const std::string_view path = path_of(target);
  if (path.empty() || path.front() != '/') {
    Request bad = fail(true, 400, "the target of a request must begin with /");
    bad.head = request.head;
    return bad;
  }
  if (!find_file(path, &request.file)) {
    Request missing = no_such_file(true, path.substr(1));
    missing.head = request.head;
    return missing;
  }
  if (request.file == StatsFile::kMetrics && facts.open_metrics) {
    request.file = StatsFile::kOpenMetrics;
  }
  request.outcome = Request::Outcome::kFile;
  request.http = true;
  return request;
}

Request parse_http(std::string_view line, std::string_view rest, bool ended) noexcept {
  HeaderFacts facts;
  while (true) {
    const size_t end = rest.find('\n');
    if (end == std::string_view::npos) {
      if (!ended) return incomplete();
      if (!trim(rest).empty()) facts.bad = true;  // cut off in the middle of a header
      return interpret_http(line, facts);
    }
    std::string_view header = rest.substr(0, end);
    rest.remove_prefix(end + 1);
    if (header.ends_with('\r')) header.remove_suffix(1);
    if (header.empty()) return interpret_http(line, facts);
    read_header(header, &facts);
  }
}

Request parse_line(std::string_view line) noexcept {
  Request request;
  request.outcome = Request::Outcome::kFile;
  if (line.empty()) return request;

  const size_t equals = line.find('=');
  if (equals != std::string_view::npos) {
    const std::string_view name = trim(line.substr(0, equals));
    if (name == "limit" || name == "profile") {
      request.outcome =
          name == "limit" ? Request::Outcome::kSetLimit : Request::Outcome::kSetProfile;
      request.value = trim(line.substr(equals + 1));
      return request;
    }
    request = fail(false, 400);
    TextWriter(request.error, sizeof request.error)
        .put("memlimit: \"")
        .put_escaped(name, 40)
        .put("\" cannot be set; only limit=SIZE can, as in limit=300MiB, and profile=on or off");
    return request;
  }
  if (!find_file(line, &request.file)) return no_such_file(false, line);
  return request;
}

const char* reason_phrase(int status) noexcept {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 414:
      return "URI Too Long";
    case 431:
      return "Request Header Fields Too Large";
    case 503:
      return "Service Unavailable";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Internal Server Error";
  }
}

}  // namespace

bool looks_like_http(std::string_view input) noexcept {
  const size_t end = input.find('\n');
  if (end != std::string_view::npos) return is_http_line(trim(input.substr(0, end)));
  const size_t blank = input.find(' ');
  if (blank == std::string_view::npos || blank == 0 || blank + 1 >= input.size()) return false;
  for (const char c : input.substr(0, blank)) {
    if (c < 'A' || c > 'Z') return false;
  }
  return input[blank + 1] == '/' || input.substr(blank + 1).starts_with("http://");
}

Request parse_request(std::string_view input, bool ended) noexcept {
  Request request;
  const std::string_view all = input.substr(0, kMaxRequestBytes);
  const size_t end = all.find('\n');
  if (end == std::string_view::npos) {
    if (input.size() <= kMaxRequestBytes) {
      if (!ended) return incomplete();
      const std::string_view line = trim(input);
      return is_http_line(line) ? parse_http(line, {}, true) : parse_line(line);
    }
    if (looks_like_http(input))
      return fail(true, 414, "the request line is longer than 4096 bytes");
    return fail(
        false, 400,
        "the request is longer than 4096 bytes; send one line naming a file, as in: status");
  }
  const std::string_view line = trim(all.substr(0, end));
  if (!is_http_line(line)) return parse_line(line);

  request = parse_http(line, all.substr(end + 1), ended && input.size() <= kMaxRequestBytes);
  if (request.outcome == Request::Outcome::kIncomplete && input.size() > kMaxRequestBytes) {
    return fail(true, 431, "the request and its headers are longer than 4096 bytes");
  }
  return request;
}

void put_http_head(TextWriter& out, int status, StatsFile file, int64_t content_length) noexcept {
  std::string_view type = "text/plain; charset=utf-8";
  if (status == 200 && file == StatsFile::kMetrics) {
    type = "text/plain; version=0.0.4; charset=utf-8";
  }
  if (status == 200 && file == StatsFile::kOpenMetrics) {
    type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
  }
  out.put("HTTP/1.1 ").put_int(status).put(' ').put(reason_phrase(status));
  out.put("\r\nContent-Type: ").put(type);
  if (content_length >= 0) out.put("\r\nContent-Length: ").put_int(content_length);
  if (status == 405) out.put("\r\nAllow: GET, HEAD");
  out.put("\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n");
}

}  // namespace memlimit
