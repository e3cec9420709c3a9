/* A program closes every descriptor, and has connections and a listening socket of its own under the numbers that the
 * statistics socket had: no client of its is accepted, nothing is sent to them, and the statistics socket comes back.
 *
 * Argument: the path that MEMLIMIT_SOCKET names. */
#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "check.h"

enum { kMostNumbers = 16, kHighest = 4096, kLowestOfOurs = 64, kPatienceMs = 100 };

static bool is_socket_or_epoll_set(int fd) {
  char link[64], target[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(link, target, sizeof target - 1);
  if (length < 0) return false;
  target[length] = '\0';
  return strncmp(target, "socket:", 7) == 0 || strcmp(target, "anon_inode:[eventpoll]") == 0;
}

static bool is_listening(int fd) {
  int listening = 0;
  socklen_t size = sizeof listening;
  return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 && listening;
}

/* A client that has sent the request; -1 when there is nobody to send it to. */
static int client_of(const struct sockaddr_un* address, socklen_t size, const char* request) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(fd >= 0);
  if (connect(fd, (const struct sockaddr*)address, size) == 0 &&
      send(fd, request, strlen(request), MSG_NOSIGNAL) > 0)
    return fd;
  close(fd);
  return -1;
}

/* Whether the statistics socket answers in time; keeps the connection in *client when that is wanted. */
static bool answers(const char* path, const char* request, int* client) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  const int fd = client_of(&address, sizeof address, request);
  if (fd < 0) return false;
  char text[1024];
  struct pollfd ready = {fd, POLLIN, 0};
  const bool answered = poll(&ready, 1, kPatienceMs) == 1 && recv(fd, text, sizeof text, 0) > 0;
  if (answered && client != NULL)
    *client = fd;
  else
    close(fd);
  return answered;
}

static bool is_untouched(int end) {
  char byte;
  return recv(end, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == -1 && errno == EAGAIN;
}

int main(int argc, char** argv) {
  CHECK_EQ(argc, 2);
  need_library();
  settle();
  int subscriber = -1;
  while (!answers(argv[1], "events\n", &subscriber)) usleep(1000);
  /* Listener, epoll set, the subscriber's other end, which is moved out of the program's way. */
  int numbers[kMostNumbers], count = 0, listener = -1;
  while (count != 3 || numbers[0] < kLowestOfOurs) {
    count = 0;
    for (int fd = 3; fd < kHighest && count < kMostNumbers; ++fd) {
      if (fd == subscriber || !is_socket_or_epoll_set(fd)) continue;
      if (is_listening(fd)) listener = fd;
      numbers[count++] = fd;
    }
  }
  CHECK(listener >= 0);
  CHECK_EQ(syscall(SYS_close_range, 3U, ~0U, 0U), 0);

  int ends[kMostNumbers];
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  socklen_t size = sizeof(sa_family_t); /* the kernel finds a name */
  for (int i = 0; i < count; ++i) {
    if (numbers[i] == listener) {
      const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
      CHECK_EQ(dup2(fd, listener), listener);
      CHECK_EQ(bind(listener, (struct sockaddr*)&address, size), 0);
      CHECK_EQ(listen(listener, 1), 0);
      size = sizeof address;
      CHECK_EQ(getsockname(listener, (struct sockaddr*)&address, &size), 0);
      ends[i] = client_of(&address, size, "hello");
      CHECK(ends[i] >= 0);
    } else {
      int pair[2];
      CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
      CHECK_EQ(dup2(pair[0], numbers[i]), numbers[i]);
      ends[i] = pair[1];
    }
  }

  /* An event to be told, and then the service thread has seen what happened. */
  CHECK_EQ(memlimit_set(100 << 20), 64 << 20);
  for (bool back = false; !back;) {
    usleep(1000);
    back = answers(argv[1], "limit\n", NULL);
    for (int i = 0; i < count; ++i) CHECK(is_untouched(ends[i]));
  }
  CHECK(accept(listener, NULL, NULL) >= 0);
  return 0;
}
