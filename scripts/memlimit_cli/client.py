"""The client's side of the statistics socket: one request a connection, answers as text."""

import contextlib
import os
import socket
import struct

from .text import UserError

TIMEOUT_S = 5.0


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


def peer_pid(sock):
    """The process that listens, as our pid namespace numbers it; 0 when it is outside of it."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return struct.unpack("3i", credentials)[0]


def read_all(sock):
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts).decode(errors="replace")


def ask(address, request):
    """The answer to one line. OSError when there is nobody; UserError when the server refuses."""
    with connect(address) as sock:
        sock.sendall(request.encode() + b"\n")
        try:
            answer = read_all(sock)
        except TimeoutError as error:
            raise UserError(f"no answer within {TIMEOUT_S:.0f} s") from error
    if answer.startswith("memlimit: "):
        raise UserError(answer.removeprefix("memlimit: ").strip())
    return answer


def parse_stat(text):
    """`key value` lines as a dictionary of whole numbers."""
    figures = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        with contextlib.suppress(ValueError):
            figures[key] = int(value)
    return figures


def lines_of(sock):
    """Lines of a stream, as they come, until the server closes."""
    pending = b""
    while part := sock.recv(65536):
        *whole, pending = (pending + part).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace")
