/* The protocol's parser: lines, HTTP, and everything that is neither. */
#include "observe/request.h"

#include <string>

#include <catch2/catch.hpp>

using memlimit::kMaxHttpHeadBytes;
using memlimit::kMaxRequestBytes;
using memlimit::looks_like_http;
using memlimit::parse_request;
using memlimit::put_http_head;
using memlimit::Request;
using memlimit::StatsFile;
using memlimit::TextWriter;
using Outcome = memlimit::Request::Outcome;

namespace {

Request whole(std::string_view input) { return parse_request(input, true); }

}  // namespace

TEST_CASE("request: nothing at all, and an empty line, ask for status", "[request]") {
  for (const std::string_view input : {"", "\n", "\r\n", "  \n", " ", "\nstat\n"}) {
    CAPTURE(input);
    const Request request = whole(input);
    CHECK(request.outcome == Outcome::kFile);
    CHECK(request.file == StatsFile::kStatus);
    CHECK_FALSE(request.http);
  }
  CHECK(parse_request("", false).outcome == Outcome::kIncomplete);
  CHECK(parse_request("\n", false).outcome == Outcome::kFile);
}

TEST_CASE("request: every file is found by its name, with or without a slash", "[request]") {
  for (const auto& row : memlimit::kStatsFiles) {
    for (const std::string& line :
         {std::string(row.name).append("\n"), std::string("/").append(row.name).append("\r\n"),
          std::string(" ").append(row.name).append("\t\n")}) {
      CAPTURE(line);
      const Request request = parse_request(line, false);
      CHECK(request.outcome == Outcome::kFile);
      CHECK(request.file == row.file);
    }
    const Request ended = whole(row.name);
    CHECK(ended.outcome == Outcome::kFile);
    CHECK(ended.file == row.file);
    CHECK(parse_request(row.name, false).outcome == Outcome::kIncomplete);
  }
  CHECK(whole("/").file == StatsFile::kList);
}

TEST_CASE("request: an unknown file is named, with the remedy", "[request]") {
  const Request request = whole("foo\n");
  CHECK(request.outcome == Outcome::kError);
  CHECK(std::string(request.error) ==
        "memlimit: no file \"foo\"; try: status stat hooks heap profile limit events metrics "
        "openmetrics "
        "config "
        "ls");
  CHECK(whole("Status").outcome == Outcome::kError);
  CHECK(whole("status stat").outcome == Outcome::kError);
  CHECK(whole("//status").outcome == Outcome::kError);
  CHECK(whole("../status").outcome == Outcome::kError);
}

TEST_CASE("request: foreign bytes are printed as escapes, and never much of them", "[request]") {
  using namespace std::string_literals;
  CHECK(std::string(whole("a\x1b[2J\0b\xff\"\\"s).error).find("\"a\\x1b[2J\\x00b\\xff\"\\\\\"") !=
        std::string::npos);
  const Request request = whole(std::string(3000, 'x'));
  CHECK(request.outcome == Outcome::kError);
  CHECK(std::string(request.error).find(std::string(40, 'x') + "...\"; try: status") !=
        std::string::npos);
  const Request hostile = whole(std::string(3000, '\x01'));
  CHECK(std::string(hostile.error).find("config ls") != std::string::npos);
}

TEST_CASE("request: limit= and profile= hand on the value, and nothing else can be set",
          "[request]") {
  for (const std::string_view line : {"limit=300MiB\n", "limit=300MiB", " limit = 300MiB \r\n"}) {
    CAPTURE(line);
    const Request request = whole(line);
    CHECK(request.outcome == Outcome::kSetLimit);
    CHECK(request.value == "300MiB");
  }
  CHECK(whole("limit=").value.empty());
  CHECK(whole("limit=").outcome == Outcome::kSetLimit);
  CHECK(whole("limit=a=b").value == "a=b");
  const Request other = whole("level=over\n");
  CHECK(other.outcome == Outcome::kError);
  CHECK(std::string(other.error) ==
        "memlimit: \"level\" cannot be set; only limit=SIZE can, as in limit=300MiB, and "
        "profile=on or "
        "off");
  CHECK(whole("profile=64KiB\n").outcome == Outcome::kSetProfile);
  CHECK(whole("profile=64KiB\n").value == "64KiB");
}

TEST_CASE("request: a line may have 4096 bytes and not one more", "[request]") {
  std::string line(kMaxRequestBytes, ' ');
  line.replace(0, 4, "stat");
  CHECK(parse_request(line, false).outcome == Outcome::kIncomplete);
  CHECK(parse_request(line, true).file == StatsFile::kStat);
  line.back() = '\n';
  CHECK(parse_request(line, false).file == StatsFile::kStat);
  line.back() = ' ';
  line += '\n';
  const Request request = parse_request(line, false);
  CHECK(request.outcome == Outcome::kError);
  CHECK(std::string(request.error).find("longer than 4096 bytes") != std::string::npos);
  CHECK(parse_request(std::string(kMaxRequestBytes + 1, '\0'), true).outcome == Outcome::kError);
}

TEST_CASE("request: GET and HEAD over HTTP", "[request][http]") {
  const Request get =
      parse_request("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n", false);
  CHECK(get.outcome == Outcome::kFile);
  CHECK(get.http);
  CHECK_FALSE(get.head);
  CHECK(get.file == StatsFile::kMetrics);

  const Request head = parse_request("HEAD /status HTTP/1.0\n\n", false);
  CHECK(head.outcome == Outcome::kFile);
  CHECK(head.head);
  CHECK(head.file == StatsFile::kStatus);

  CHECK(parse_request("GET / HTTP/1.1\r\n\r\n", false).file == StatsFile::kList);
  CHECK(parse_request("GET /stat?x=/y#z HTTP/1.1\r\n\r\n", false).file == StatsFile::kStat);
  CHECK(parse_request("GET http://any:80/hooks HTTP/1.1\r\n\r\n", false).file == StatsFile::kHooks);
  CHECK(parse_request("GET http://any HTTP/1.1\r\n\r\n", false).file == StatsFile::kList);
}

TEST_CASE("request: HTTP is incomplete until its blank line or the end", "[request][http]") {
  const std::string text = "GET /stat HTTP/1.1\r\nHost: x\r\n\r\n";
  for (size_t length = 0; length < text.size(); ++length) {
    CAPTURE(length);
    CHECK(parse_request(std::string_view(text).substr(0, length), false).outcome ==
          Outcome::kIncomplete);
  }
  CHECK(whole("GET /stat HTTP/1.1").file == StatsFile::kStat);
  CHECK(whole("GET /stat HTTP/1.1\r\nHost: x\r\n").file == StatsFile::kStat);
  CHECK(whole("GET /stat HTTP/1.1\r\nHo").http_status == 400);
}

TEST_CASE("request: who accepts OpenMetrics gets its strict form", "[request][http]") {
  const std::string head = "GET /metrics HTTP/1.1\r\n";
  CHECK(whole(head +
              "aCCEPT: application/openmetrics-text;version=1.0.0,application/openmetrics-text;"
              "version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n\r\n")
            .file == StatsFile::kOpenMetrics);
  CHECK(whole(head + "Accept: text/plain;version=0.0.4\r\n\r\n").file == StatsFile::kMetrics);
  CHECK(whole(head + "X-Accept: application/openmetrics-text\r\n\r\n").file == StatsFile::kMetrics);
  CHECK(whole("GET /stat HTTP/1.1\r\nAccept: application/openmetrics-text\r\n\r\n").file ==
        StatsFile::kStat);
}

TEST_CASE("request: bad HTTP gets the status that is due", "[request][http]") {
  struct Case {
    const char* input;
    int status;
  };
  const Case cases[] = {
      {"GET /nope HTTP/1.1\r\n\r\n", 404},
      {"GET /%6detrics HTTP/1.1\r\n\r\n", 404},
      {"POST /metrics HTTP/1.1\r\n\r\n", 405},
      {"get /metrics HTTP/1.1\r\n\r\n", 405},
      {"GET metrics HTTP/1.1\r\n\r\n", 400},
      {"GET  /metrics HTTP/1.1\r\n\r\n", 400},
      {"GET /metrics x HTTP/1.1\r\n\r\n", 400},
      {"GET HTTP/1.1\r\n\r\n", 400},
      {"G@T /metrics HTTP/1.1\r\n\r\n", 400},
      {"GET /metrics HTTP/1\r\n\r\n", 400},
      {"GET /metrics HTTP/x.y\r\n\r\n", 400},
      {"GET /metrics HTTP/1.1\r\nno colon\r\n\r\n", 400},
      {"GET /metrics HTTP/1.1\r\nHost : x\r\n\r\n", 400},
      {"GET /metrics HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400},
      {"GET /metrics HTTP/1.1\r\n: empty\r\n\r\n", 400},
      {"GET /metrics HTTP/1.1\r\nA: b\x01\r\n\r\n", 400},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
      {"GET /metrics HTTP/0.9\r\n\r\n", 505},
  };
  for (const Case& c : cases) {
    CAPTURE(c.input);
    const Request request = parse_request(c.input, false);
    CHECK(request.outcome == Outcome::kError);
    CHECK(request.http);
    CHECK(request.http_status == c.status);
    CHECK(std::string(request.error).starts_with("memlimit: "));
  }
  CHECK(whole("HEAD /nope HTTP/1.1\r\n\r\n").head);
}

TEST_CASE("request: too much HTTP is refused as such", "[request][http]") {
  const std::string many = "GET /metrics HTTP/1.1\r\nCookie: " + std::string(kMaxRequestBytes, 'x');
  CHECK(parse_request(many, false).http_status == 431);
  CHECK(parse_request(many + "\r\n\r\n", true).http_status == 431);
  const std::string target = "GET /" + std::string(kMaxRequestBytes, 'x') + " HTTP/1.1\r\n\r\n";
  CHECK(parse_request(target, false).http_status == 414);
  CHECK(parse_request(target, false).http);

  std::string full = "GET /metrics HTTP/1.1\r\nCookie: ";
  full += std::string(kMaxRequestBytes - full.size() - 4, 'x') + "\r\n\r\n";
  REQUIRE(full.size() == kMaxRequestBytes);
  CHECK(parse_request(full, false).outcome == Outcome::kFile);
}

TEST_CASE("request: what looks like HTTP is told apart from a slow line", "[request][http]") {
  CHECK(looks_like_http("GET /"));
  CHECK(looks_like_http("GET /metrics HTTP/1.1\r\nHos"));
  CHECK(looks_like_http("GET http://x"));
  CHECK_FALSE(looks_like_http(""));
  CHECK_FALSE(looks_like_http("GET "));
  CHECK_FALSE(looks_like_http("stat"));
  CHECK_FALSE(looks_like_http("limit = 3"));
  CHECK_FALSE(looks_like_http("stat\nGET / HTTP/1.1"));
}

TEST_CASE("request: heads of answers fit their bound and carry what is due", "[request][http]") {
  char buffer[kMaxHttpHeadBytes + 1];
  for (const int status : {200, 400, 403, 404, 405, 408, 414, 431, 503, 505}) {
    for (const auto& row : memlimit::kStatsFiles) {
      TextWriter out(buffer, sizeof buffer);
      put_http_head(out, status, row.file, INT64_MAX);
      CHECK_FALSE(out.truncated());
      CHECK(out.view().ends_with("Connection: close\r\n\r\n"));
    }
  }
  TextWriter metrics(buffer, sizeof buffer);
  put_http_head(metrics, 200, StatsFile::kOpenMetrics, 12);
  CHECK(std::string(buffer) ==
        "HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text; version=1.0.0; "
        "charset=utf-8\r\n"
        "Content-Length: 12\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n");
  TextWriter refused(buffer, sizeof buffer);
  put_http_head(refused, 405, StatsFile::kStatus, -1);
  CHECK(std::string(buffer).find("Allow: GET, HEAD\r\n") != std::string::npos);
  CHECK(std::string(buffer).find("Content-Length") == std::string::npos);
}
