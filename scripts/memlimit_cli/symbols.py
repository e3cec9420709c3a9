"""Names for addresses: from the ELF files that a process has mapped, as it sees them.

The files' own symbol tables, which need no other program; addr2line, where there is one, adds source lines and functions
that were inlined, and reads names as people write them.
"""

import bisect
import contextlib
import dataclasses
import mmap
import os
import shutil
import struct
import subprocess

SHT_SYMTAB, SHT_DYNSYM, PT_LOAD, STT_FUNC, STT_IFUNC = 2, 11, 1, 2, 10
ADDR2LINE_S = 30
SCRIPT = "[script]"  # the module of functions that are interpreted
UNKNOWN = "?"


@dataclasses.dataclass(frozen=True)
class Place:
    function: str  # "?" where nobody knows it
    module: str  # the file's name, "[jit]" for code in no file
    line: str = ""  # FILE:LINE


class Image:
    """One ELF file: its functions by address."""

    def __init__(self, path):
        self.path = path
        self.loads, self.begins, self.functions = [], [], []
        with contextlib.suppress(OSError, ValueError, struct.error, IndexError), open(path, "rb") as file, \
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[:5] == b"\x7fELF\x02" and data[5] == 1:
                self.read(data)

    def read(self, data):
        (segments_at, sections_at) = struct.unpack_from("<QQ", data, 32)
        size, count, section_size, sections = struct.unpack_from("<HHHH", data, 54)
        for i in range(count):
            kind, _, offset, address, _, bytes_in_file = struct.unpack_from("<IIQQQQ", data, segments_at + i * size)
            if kind == PT_LOAD:
                self.loads.append((offset, bytes_in_file, address))
        heads = [struct.unpack_from("<IIQQQQIIQQ", data, sections_at + i * section_size) for i in range(sections)]
        found = {}
        # The full table last: its names are the better ones.
        for wanted in (SHT_DYNSYM, SHT_SYMTAB):
            for head in heads:
                if head[1] == wanted:
                    self.read_symbols(data, head, heads[head[6]][4], found)
        self.functions = sorted((address, size, name) for address, (size, name) in found.items())
        self.begins = [function[0] for function in self.functions]

    @staticmethod
    def read_symbols(data, head, names_at, found):
        table = data[head[4] : head[4] + head[5]]
        for name, info, _, section, address, size in struct.iter_unpack("<IBBHQQ", table[: len(table) // 24 * 24]):
            if section != 0 and info & 15 in (STT_FUNC, STT_IFUNC) and size >= found.get(address, (0, ""))[0]:
                at = names_at + name
                found[address] = (size, data[at : data.find(b"\0", at)].decode(errors="replace"))

    def address_of(self, offset):
        """Where a byte of the file is when the program is loaded at 0."""
        return next((offset - begin + address for begin, size, address in self.loads if begin <= offset < begin + size), None)

    def function_at(self, address):
        i = bisect.bisect_right(self.begins, address) - 1
        if i < 0:
            return UNKNOWN
        begin, size, name = self.functions[i]
        # Hand-written code has no size.
        return name if address < begin + size or size == 0 else UNKNOWN


class Symbols:
    """Of one process; `pid` is where its files are looked for, 0: here."""

    def __init__(self, profile, pid=0, lines=True):
        self.profile, self.pid = profile, pid
        self.images, self.places = {}, {}
        self.tool = shutil.which("addr2line") if lines else None

    def image(self, path):
        if path not in self.images:
            inside = f"/proc/{self.pid}/root{path}"
            self.images[path] = Image(inside if self.pid and os.path.exists(inside) else path)
        return self.images[path]

    def resolve(self, addresses):
        """Looks the places of return addresses up, so that place() knows them."""
        wanted = {}
        for address in set(addresses) - self.places.keys():
            if address in self.profile.script:
                function, line = self.profile.script[address]
                self.places[address] = [Place(function, SCRIPT, line)]
                continue
            # It is returned to behind the call, which may be the last instruction of its function.
            mapping = self.profile.mapping(address - 1)
            if mapping is None or not mapping.path.startswith("/"):
                module = mapping.path if mapping is not None and mapping.path else "[jit]"
                self.places[address] = [Place(UNKNOWN, module)]
                continue
            image = self.image(mapping.path.removesuffix(" (deleted)"))
            inside = image.address_of(address - 1 - mapping.begin + mapping.offset)
            module = os.path.basename(mapping.path)
            self.places[address] = [Place(image.function_at(inside) if inside is not None else UNKNOWN, module)]
            if inside is not None:
                wanted.setdefault(image.path, []).append((address, inside, module))
        if self.tool:
            for path, places in wanted.items():
                self.add_lines(path, places)
        self.spell_names()

    def spell_names(self):
        """C++'s names as people write them, where c++filt is at hand."""
        encoded = sorted({place.function for places in self.places.values() for place in places if place.function.startswith("_Z")})
        tool = shutil.which("c++filt")
        if not encoded or tool is None:
            return
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(
                [tool], input="\n".join(encoded), capture_output=True, text=True, errors="replace", timeout=ADDR2LINE_S, check=True
            )
            spelt = dict(zip(encoded, done.stdout.splitlines()))
            for address, places in self.places.items():
                self.places[address] = [dataclasses.replace(place, function=spelt.get(place.function, place.function)) for place in places]

    def add_lines(self, path, places):
        """What addr2line knows, which may be several functions for one address, innermost first."""
        request = "".join(f"{inside:#x}\n" for _, inside, _ in places)
        command = [self.tool, "-a", "-f", "-C", "-i", "-e", path]
        try:
            done = subprocess.run(command, input=request, capture_output=True, text=True, errors="replace", timeout=ADDR2LINE_S)
        except (OSError, subprocess.TimeoutExpired):
            return
        if done.returncode != 0:
            return
        answers = {}
        lines = done.stdout.splitlines()
        current = None
        i = 0
        while i < len(lines):
            if lines[i].startswith("0x"):
                current = answers.setdefault(int(lines[i], 16), [])
                i += 1
            elif current is not None and i + 1 < len(lines):
                current.append((lines[i], lines[i + 1]))
                i += 2
            else:
                break
        for address, inside, module in places:
            found = [(function, line) for function, line in answers.get(inside, []) if function != "??"]
            # Without a line it has the nearest symbol before, which may be another function's: then the table decides, and
            # it only spells the name.
            if not found or (found[0][1].startswith("??") and self.places[address][0].function == UNKNOWN):
                continue
            self.places[address] = [
                Place(function, module, "" if "?" in line else line.split(" ")[0]) for function, line in found
            ]

    def place(self, address):
        """Places of an address, innermost first: more than one where functions were inlined."""
        return self.places.get(address) or [Place(UNKNOWN, "[jit]")]
