/* libFuzzer target: any bytes into the request parser. It holds not only that nothing crashes, but that a
 * request is what it is however its bytes arrive, and that errors are printable lines.
 */
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "observe/request.h"

using memlimit::kMaxRequestBytes;
using memlimit::parse_request;
using memlimit::Request;
using Outcome = memlimit::Request::Outcome;

namespace {

void hold(bool truth) {
  if (!truth) abort();
}

void hold_same(const Request& a, const Request& b) {
  hold(a.outcome == b.outcome && a.file == b.file && a.http == b.http && a.head == b.head &&
       a.http_status == b.http_status && a.value == b.value && std::strcmp(a.error, b.error) == 0);
}

void hold_sane(std::string_view input, const Request& request) {
  if (request.outcome == Outcome::kError) {
    const size_t length = strnlen(request.error, sizeof request.error);
    hold(length < sizeof request.error);
    hold(std::string_view(request.error).starts_with("memlimit: "));
    for (size_t i = 0; i < length; ++i) hold(request.error[i] >= 0x20 && request.error[i] < 0x7f);
    if (request.http) hold(request.http_status >= 400 && request.http_status < 600);
  } else {
    hold(request.error[0] == '\0');
  }
  if (!request.value.empty()) {
    hold(request.value.data() >= input.data());
    hold(request.value.data() + request.value.size() <= input.data() + input.size());
  }
  if (request.head) hold(request.http);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const Request open = parse_request(input, false);
  const Request ended = parse_request(input, true);
  hold_sane(input, open);
  hold_sane(input, ended);
  hold(ended.outcome != Outcome::kIncomplete);
  if (size > kMaxRequestBytes) hold(open.outcome != Outcome::kIncomplete);
  if (open.outcome != Outcome::kIncomplete) hold_same(open, ended);

  // Once a beginning is a request, what follows does not change it.
  const size_t cut = size == 0 ? 0 : data[0] * size / 256;
  const Request early = parse_request(input.substr(0, cut), false);
  if (early.outcome != Outcome::kIncomplete) hold_same(early, open);
  memlimit::looks_like_http(input);
  return 0;
}
