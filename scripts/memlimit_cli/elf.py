"""Just enough of ELF to tell how a program will be loaded: interpreter, needed libraries, machine, exports."""

from __future__ import annotations  # Python 3.9

import dataclasses
import mmap
import struct

MACHINES = {3: "i386", 40: "arm", 62: "x86-64", 183: "aarch64", 243: "riscv"}
PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
DT_NULL, DT_NEEDED, DT_STRTAB = 0, 1, 5
SHT_DYNSYM, SHN_UNDEF = 11, 0


@dataclasses.dataclass
class Program:
    machine: str
    interpreter: str | None  # None: static
    needed: list
    exports: set  # names that other objects can be bound to


class NotElf(Exception):
    pass


def read_program(path):
    with open(path, "rb") as file:
        if file.read(4) != b"\x7fELF":
            raise NotElf(path)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return parse(data)
            except (struct.error, IndexError, ValueError) as error:
                raise NotElf(f"{path}: damaged ELF file") from error


def text_at(data, offset):
    return data[offset : data.find(b"\0", offset)].decode(errors="replace")


def parse(data):
    wide = data[4] == 2
    order = "<" if data[5] == 1 else ">"
    (machine,) = struct.unpack_from(order + "H", data, 18)
    if wide:
        (table_at,) = struct.unpack_from(order + "Q", data, 32)
        entry_size, entries = struct.unpack_from(order + "HH", data, 54)
    else:
        (table_at,) = struct.unpack_from(order + "I", data, 28)
        entry_size, entries = struct.unpack_from(order + "HH", data, 42)
    loads, interpreter, dynamic = [], None, None
    for i in range(entries):
        at = table_at + i * entry_size
        if wide:
            kind, _, offset, address, _, size = struct.unpack_from(order + "IIQQQQ", data, at)
        else:
            kind, offset, address, _, size = struct.unpack_from(order + "IIIII", data, at)
        if kind == PT_LOAD:
            loads.append((address, offset, size))
        elif kind == PT_INTERP:
            interpreter = text_at(data, offset)
        elif kind == PT_DYNAMIC:
            dynamic = (offset, size)
    needed = read_needed(data, order, wide, loads, dynamic) if dynamic else []
    return Program(
        MACHINES.get(machine, f"machine {machine}"), interpreter, needed, read_exports(data, order, wide)
    )


def read_exports(data, order, wide):
    """By the sections, which the linker always writes; a program whose sections were stripped has none."""
    if wide:
        (table_at,) = struct.unpack_from(order + "Q", data, 40)
        entry_size, entries = struct.unpack_from(order + "HH", data, 58)
    else:
        (table_at,) = struct.unpack_from(order + "I", data, 32)
        entry_size, entries = struct.unpack_from(order + "HH", data, 46)
    layout = order + ("IIQQQQIIQQ" if wide else "IIIIIIIIII")
    sections = [struct.unpack_from(layout, data, table_at + i * entry_size) for i in range(entries)]
    exports = set()
    for _, kind, _, _, offset, size, link, *_ in sections:
        if kind != SHT_DYNSYM:
            continue
        strings = sections[link][4]
        symbols = struct.iter_unpack(order + ("IBBHQQ" if wide else "IIIBBH"), data[offset : offset + size])
        for symbol in symbols:
            section = symbol[3] if wide else symbol[5]
            if section != SHN_UNDEF:
                exports.add(text_at(data, strings + symbol[0]))
    return exports


def read_needed(data, order, wide, loads, dynamic):
    offset, size = dynamic
    names, strings = [], None
    for tag, value in struct.iter_unpack(order + ("qQ" if wide else "iI"), data[offset : offset + size]):
        if tag == DT_NULL:
            break
        if tag == DT_NEEDED:
            names.append(value)
        elif tag == DT_STRTAB:
            strings = next((value - a + o for a, o, s in loads if a <= value < a + s), None)
    return [text_at(data, strings + name) for name in names] if strings is not None else []
