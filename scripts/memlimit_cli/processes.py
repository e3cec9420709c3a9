"""Which processes run under the library, and where their sockets are.

A process is under the library when its memory map names libmemlimit.so. Its socket is the one that it
listens on among the places where the library puts sockets; the kernel's tables (/proc/PID/fd,
/proc/PID/net/unix) say which that is, so custom places and containers are found too. But sockets have names
that anybody may choose, and paths can be exchanged: who is connected to is asked of the kernel each time.
"""

from __future__ import annotations  # Python 3.9

import contextlib
import dataclasses
import os
import pwd
import re
import struct

from . import absent, client
from .names import is_ours
from .text import UserError, printable

LIBRARY = "libmemlimit.so"
LIBRARY_FOR_MUSL = "libmemlimit-musl.so"  # programs that musl's loader starts
AT_SECURE = 23  # of the auxiliary vector: set-user-ID and the like
LISTENING = 0x10000  # __SO_ACCEPTCON, the `Flags` column of /proc/net/unix
# A line of /proc/net/unix: address, references, protocol, flags, type, state, inode and perhaps a name. A name with a
# newline in it goes on below, where it may look like another line.
SOCKET_LINE = re.compile(r"[0-9a-f]+: [0-9A-F]{8} [0-9A-F]{8} ([0-9A-F]{8}) [0-9A-F]{4} [0-9A-F]{2} +([0-9]+) (.+)")
# Where the library moves its descriptors: so far below 1024, or the limit at that time if that was lower.
CUSTOMARY_DESCRIPTORS, HIGH_DESCRIPTORS = 1024, 64


class WrongPeer(UserError):
    """Somebody else listens where the socket of a process should be."""


@dataclasses.dataclass
class Process:
    pid: int
    name: str
    address: str | None  # None: it has no socket (small, or switched off)
    by_address: bool = False  # whoever listens there is meant

    def ask(self, request, timeout_s=None):
        with self.errors():
            return client.ask(self.address, request, self.check_peer, timeout_s)

    def events(self):
        """Lines of the stream, until the process ends."""
        with self.errors():
            yield from client.events(self.address, self.check_peer)

    def check_peer(self, sock):
        if not self.by_address and not is_peer(sock, self.pid):
            shown = self.address.replace("\0", "@")
            raise WrongPeer(f"{self.pid} ({self.name}): {printable(shown)} is another process's socket")

    @contextlib.contextmanager
    def errors(self):
        """What goes wrong on the socket, as a UserError that says with whom."""
        if self.address is None:
            raise UserError(f"{self.pid} ({self.name}) has no statistics socket: {why_no_socket(self.pid)}")
        try:
            yield
        except client.NoAnswer as error:
            raise client.NoAnswer(f"{self.pid} ({self.name}): {error}{absent.why_silent(self.pid)}") from error
        except PermissionError as error:
            raise UserError(f"{self.pid} ({self.name}): not permitted; same user or root only") from error
        except (ConnectionRefusedError, ConnectionResetError, FileNotFoundError) as error:
            raise UserError(f"{self.pid} ({self.name}) has ended") from error
        except BlockingIOError as error:
            said = f"{self.pid} ({self.name}): too many clients wait at its socket{absent.why_silent(self.pid)}"
            raise client.NoAnswer(said) from error
        except OSError as error:
            raise UserError(f"{self.pid} ({self.name}): {error.strerror or error}") from error

    def stat(self, timeout_s=None):
        figures = client.parse_stat(self.ask("stat", timeout_s))
        if not figures:
            # A process that ends hangs up on whoever has just asked it.
            raise UserError(f"{self.pid} ({self.name}): no answer: it is about to end")
        return figures


def read(path):
    """Text of /proc as it is: a carriage return in a process's name ends no line."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        return file.read()


def name_of(pid):
    """A program may call itself anything; what is shown stays on its line."""
    return printable(read(f"/proc/{pid}/comm").removesuffix("\n"))


def exists(pid):
    return os.path.exists(f"/proc/{pid}")


def all_pids():
    return sorted(int(entry) for entry in os.listdir("/proc") if entry.isdigit())


def names_library(text):
    return LIBRARY in text or LIBRARY_FOR_MUSL in text


def is_under(pid):
    """Whether the library is mapped. OSError when that may not be known."""
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as maps:
        return any(map(names_library, maps))


def pid_inside(pid):
    """The process's own idea of its pid: in a container it differs from ours."""
    found = re.search(r"^NSpid:.*?(\d+)$", read(f"/proc/{pid}/status"), re.M)
    return int(found[1]) if found else pid


def environment_of(pid):
    entries = read(f"/proc/{pid}/environ").split("\0")
    return dict(entry.partition("=")[::2] for entry in entries if "=" in entry)


def why_no_socket(pid):
    """To follow 'has no statistics socket: '."""
    try:
        return absent.why(pid, environment_of(pid), pid_inside(pid))
    except OSError:
        return "it has ended"


def wrote_over_environment(pid):
    """Whether something else than variables is where its environment was."""
    text = read(f"/proc/{pid}/environ")
    return bool(text) and not re.search(r"(^|\0)\w+=", text)


def user_ids(pid):
    """Its real, effective, saved and file-system user ids."""
    found = re.search(r"^Uid:((?:\t\d+){4})$", read(f"/proc/{pid}/status"), re.M)
    return tuple(int(word) for word in found[1].split())


def is_like_us(pid):
    """Whether what stands in the process's environment is as good as what this user wrote: it is of this very
    user, sees the same users and files (root of a container does not), and no less privileged user started it
    (of sudo the environment is its caller's)."""
    try:
        with open(f"/proc/{pid}/auxv", "rb") as file:
            auxiliary = dict(struct.iter_unpack("@LL", file.read()))
        return (
            set(user_ids(pid)) == {os.geteuid()}
            and auxiliary.get(AT_SECURE) == 0
            and all(os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}") for kind in ("user", "mnt"))
        )
    except (OSError, struct.error):  # or a program for a smaller machine
        return False


def listening_sockets(pid):
    """Descriptors and names of the Unix sockets that the process listens on; '@' begins an abstract one."""
    inodes = {}
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(entry.path)
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes[target[8:-1]] = int(entry.name)
    for line in read(f"/proc/{pid}/net/unix").split("\n"):
        if found := SOCKET_LINE.fullmatch(line):
            flags, inode, name = found.groups()
            if int(flags, 16) & LISTENING and inode in inodes:
                yield inodes[inode], name


def is_peer(sock, pid):
    """Whether it is this process that made the socket at the other end."""
    peer_pid, peer_uid = client.peer(sock)
    uids = user_ids(pid)
    if proc_numbers_as_we_do():
        # It may have given up root since.
        return peer_pid == pid and (peer_uid in uids or peer_uid == 0)
    return peer_uid in uids  # what remains is whose it is


def proc_numbers_as_we_do():
    """Whether /proc is of our pid namespace."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except FileNotFoundError:  # of one that we are not in
        return False


def is_high(pid, descriptor):
    """Whether the library, and hardly anybody else, has a descriptor of that number."""
    found = re.search(r"^Max open files +(\d+)", read(f"/proc/{pid}/limits"), re.M)
    room = min(int(found[1]) if found else CUSTOMARY_DESCRIPTORS, CUSTOMARY_DESCRIPTORS)
    return room - HIGH_DESCRIPTORS <= descriptor < room


def address_of(pid):
    """What to connect to, or None."""
    inner_pid = pid_inside(pid)
    environment = environment_of(pid)
    sockets = list(listening_sockets(pid))
    # One socket with two names: one of them is made up.
    doubtful = len(sockets) > len({descriptor for descriptor, _ in sockets})
    ours = addresses_of(pid, {name for _, name in sockets if is_ours(name, inner_pid, environment)}, doubtful)
    if ours:
        return ours[0]
    # The environment may be overwritten (redis writes its title there), and the place its secret.
    high = addresses_of(pid, {name for descriptor, name in sockets if is_high(pid, descriptor)}, doubtful)
    return high[0] if len(high) == 1 else None


def addresses_of(pid, names, doubtful):
    """Where to connect to for these names of sockets. A single one without doubt is not tried here: who is there is
    looked at when it is asked."""
    addresses = [address_inside(pid, name) for name in sorted(names)]
    return [address for address in addresses if answers(address, pid)] if doubtful or len(addresses) > 1 else addresses


def address_inside(pid, name):
    """Where to connect to for what the process calls so: in a container the path is in its root."""
    if name.startswith("@"):
        return "\0" + name[1:]
    inside = f"/proc/{pid}/root{name}"
    try:
        return name if os.path.samefile(name, inside) else inside
    except OSError:
        return inside


def answers(address, pid):
    """Whether this process listens there."""
    try:
        with client.connect(address) as sock:
            return is_peer(sock, pid)
    except (OSError, ValueError):  # or a name that no address can be
        return False


def candidates():
    """Every process that may be under the library and be seen by this user. Asks nobody, so nobody can hold it up."""
    names = abstract_names()
    for pid in all_pids():
        try:
            if is_under(pid):
                yield pid
        except PermissionError:
            if os.path.exists(f"/run/memlimit/{pid}.sock") or f"@memlimit/{pid}" in names:
                yield pid
        except (ProcessLookupError, FileNotFoundError):
            continue


def abstract_names():
    try:
        return {found[3] for found in map(SOCKET_LINE.fullmatch, read("/proc/self/net/unix").split("\n")) if found}
    except OSError:
        return set()


def look(pid):
    """A process under the library that this user may see; None if it is none, or has ended."""
    try:
        return Process(pid, name_of(pid), address_of(pid)) if is_under(pid) else None
    except PermissionError:
        if address := open_to_us(pid):
            with contextlib.suppress(OSError):
                return Process(pid, name_of(pid), address)
    except (ProcessLookupError, FileNotFoundError):
        pass
    return None


def find_named(name):
    """The processes under the library of this name; only these are asked for anything."""
    for pid in candidates():
        with contextlib.suppress(OSError):
            if name_of(pid) == name and (process := look(pid)) is not None:
                yield process


def open_to_us(pid):
    """A socket in a default place that answers for `pid`, for processes of other users that let us read."""
    for path in (f"/run/memlimit/{pid}.sock", "\0" + f"memlimit/{pid}"):
        try:
            if not answers(path, pid):
                continue
            client.ask(path, "limit")  # an abstract name has no mode: whether we may read, the server says
            return path
        except (OSError, UserError):
            continue
    return None


def find_pid(pid):
    try:
        name = name_of(pid)
    except FileNotFoundError as error:
        raise UserError(f"no process {pid}") from error
    try:
        if not is_under(pid):
            raise UserError(f"{pid} ({name}) does not run under memlimit; `memlimit doctor -p {pid}` says why")
        return Process(pid, name, address_of(pid))
    except ProcessLookupError as error:
        raise UserError(f"process {pid} has ended") from error
    except PermissionError as error:
        if address := open_to_us(pid):
            return Process(pid, name, address)
        owner = os.stat(f"/proc/{pid}").st_uid
        try:
            owner = pwd.getpwuid(owner).pw_name
        except KeyError:
            owner = f"uid {owner}"
        raise UserError(f"{pid} ({name}) belongs to {owner}, and may be looked at only by {owner} or a full root") from error


def find(which):
    """The one process that a pid, a name, or the path of a socket means."""
    if which.isdigit():
        return find_pid(int(which))
    if "/" in which:
        try:
            with client.connect(which) as sock:
                return Process(client.peer(sock)[0], which, which, by_address=True)
        except OSError as error:
            raise UserError(f"{which}: {error.strerror or error}") from error
    found = list(find_named(which[:15]))
    if not found:
        raise UserError(f"no process under memlimit is called {which} (see `memlimit ps`)")
    if len(found) > 1:
        pids = " ".join(str(process.pid) for process in found)
        raise UserError(f"{len(found)} processes are called {which}, name one by its pid: {pids}")
    return found[0]
