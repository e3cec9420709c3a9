/* What is said about the container's memory, and how loudly. The module's state is the process's, so each test runs in
 * a child of its own. */
#include "engine/limit_setting.h"

#include <cstring>
#include <vector>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

namespace limit_setting = memlimit::limit_setting;
using memlimit::LimitKind;
using memlimit::LimitSetting;
using memlimit::LimitSource;

namespace {

constexpr LimitSetting kMostOfIt{LimitKind::kPercent, 0, 80};

struct News {
  bool any = false;
  bool problem = false;
  char line[1280] = {};
};

News take_news() {
  News news;
  news.any = limit_setting::take_news(news.line, sizeof news.line, &news.problem);
  return news;
}

/** As a server at its limit of connections has it. */
class NoDescriptorLeft {
 public:
  NoDescriptorLeft() {
    const rlimit few{64, 64};
    setrlimit(RLIMIT_NOFILE, &few);
    for (int fd; (fd = dup(0)) >= 0;) hoard_.push_back(fd);
  }
  ~NoDescriptorLeft() {
    for (const int fd : hoard_) close(fd);
  }
  NoDescriptorLeft(const NoDescriptorLeft&) = delete;
  NoDescriptorLeft& operator=(const NoDescriptorLeft&) = delete;

 private:
  std::vector<int> hoard_;
};

constexpr int kSkipped = 77;

/** Returns what body() does in a child: 0 when the test holds. */
int in_child(int (*body)()) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

TEST_CASE("limit: what comes and goes with the program's descriptors is no problem of a setting",
          "[limit][fork]") {
  const int status = in_child([] {
    limit_setting::apply(kMostOfIt, LimitSource::kEnvironment);
    if (!take_news().any || take_news().any) return 1;
    for (int turn = 0; turn < 2; ++turn) {
      {
        NoDescriptorLeft full;
        limit_setting::refresh();
        const News news = take_news();
        if (!news.any) return kSkipped;
        if (news.problem || strstr(news.line, "; ") == nullptr) return 2;
      }
      limit_setting::refresh();
      const News news = take_news();
      if (!news.any || news.problem) return 3;
    }
    return 0;
  });
  if (status == kSkipped) {
    WARN("skipped: no memory group here, whose files could be unreadable");
    return;
  }
  CHECK(status == 0);
}

TEST_CASE("limit: whoever sets what cannot be had is told so, once", "[limit][fork]") {
  CHECK(in_child([] {
          NoDescriptorLeft full;
          limit_setting::apply(kMostOfIt, LimitSource::kSocket);
          limit_setting::refresh();
          const News news = take_news();
          return news.any && news.problem && !take_news().any ? 0 : 1;
        }) == 0);
}
