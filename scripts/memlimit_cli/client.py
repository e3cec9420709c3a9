"""The client's side of the statistics socket: one request a connection, answers as text.

The other end may be any program, of any user when root looks: how long it may take and how much it may say
is bounded, and control characters in it do not reach the terminal.
"""

import contextlib
import os
import socket
import struct
import time

from .text import UserError, printable

TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 1024 * 1024
MAX_LINE_BYTES = 64 * 1024
ERROR_PREFIX = "memlimit: "


class NoAnswer(UserError):
    """Somebody listens there, and says nothing in time."""


@contextlib.contextmanager
def connect(address, timeout_s=TIMEOUT_S):
    """A connected socket; `address` is a path, or an abstract name that begins with NUL."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout_s)
        if address.startswith("\0"):
            sock.connect(address)
        else:
            # Through a descriptor, since a path below /proc/PID/root may be longer than an address can be.
            handle = os.open(address, os.O_PATH)
            try:
                sock.connect(f"/proc/self/fd/{handle}")
            finally:
                os.close(handle)
        yield sock


def peer(sock):
    """Process and user that listen, as our namespaces number them; a process outside of ours is 0."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
    return struct.unpack("iII", credentials)[:2]


def read_all(sock, deadline):
    answer = bytearray()
    while True:
        # Of the whole answer, not of each part: a byte now and then is no answer.
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        part = sock.recv(65536)
        if not part:
            return bytes(answer)
        answer += part
        if len(answer) > MAX_ANSWER_BYTES:
            raise UserError("the answer has no end: this is no statistics socket")


def check(answer):
    """UserError when the server refuses."""
    if answer.startswith(ERROR_PREFIX):
        raise UserError(answer.removeprefix(ERROR_PREFIX).strip())


def ask(address, request, check_peer=None, timeout_s=None):
    """The answer to one line. OSError when there is nobody; NoAnswer when it takes longer than `timeout_s` (TIMEOUT_S);
    UserError when the server refuses, or check_peer(socket) finds that it is the wrong one."""
    timeout_s = TIMEOUT_S if timeout_s is None else timeout_s
    deadline = time.monotonic() + timeout_s
    try:
        with connect(address, timeout_s) as sock:
            if check_peer is not None:
                check_peer(sock)
            # A server that refuses may have hung up before it was asked; what it said can still be read.
            with contextlib.suppress(BrokenPipeError):
                sock.sendall(request.encode() + b"\n")
            answer = read_all(sock, deadline)
    except TimeoutError as error:
        raise NoAnswer(f"no answer within {round(timeout_s, 1):g} s") from error
    answer = printable(answer.decode(errors="replace"), keep="\n\t")
    check(answer)
    return answer


def parse_stat(text):
    """`key value` lines as a dictionary of whole numbers."""
    figures = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        with contextlib.suppress(ValueError):
            figures[key] = int(value)
    return figures


def events(address, check_peer=None):
    """Lines of the stream `events`, as they come, until the server closes. UserError as ask() has them."""
    with connect(address) as sock:
        if check_peer is not None:
            check_peer(sock)
        with contextlib.suppress(BrokenPipeError):
            sock.sendall(b"events\n")
        sock.settimeout(None)
        pending = b""
        while part := sock.recv(65536):
            *whole, pending = (pending + part).split(b"\n")
            if len(pending) > MAX_LINE_BYTES:
                raise UserError("a line of the stream has no end: this is no statistics socket")
            for line in whole:
                line = printable(line.decode(errors="replace"))
                check(line)
                yield line
