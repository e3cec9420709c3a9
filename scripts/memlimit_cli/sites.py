"""The heap profile that the socket's file `profile` gives: sites, what lives there, and which code is mapped where."""

import dataclasses
import re

from .text import UserError

OTHER_SITES, UNKNOWN_STACK = 0x1, 0x2  # as lib/profile/profile_text.h has them
SITE = re.compile(r"\s*(-?\d+): (-?\d+) \[(-?\d+): (-?\d+)\] @((?: 0x[0-9a-f]+)*)")
SCRIPT_FRAME = re.compile(r"0x([0-9a-f]+) (\S+)(?: (.*))?")
MAP = re.compile(r"([0-9a-f]+)-([0-9a-f]+) \S+ ([0-9a-f]+) \S+ \d+\s*(.*)")


@dataclasses.dataclass(frozen=True)
class Site:
    live_blocks: int
    live_bytes: int
    total_blocks: int
    total_bytes: int
    frames: tuple  # return addresses, innermost first


@dataclasses.dataclass(frozen=True)
class Mapping:
    begin: int
    end: int
    offset: int  # in the file
    path: str


@dataclasses.dataclass
class Profile:
    sites: list
    maps: list
    script: dict  # frames of interpreted languages: address -> (function, FILE:LINE)

    def live_bytes(self):
        return sum(site.live_bytes for site in self.sites)

    def mapping(self, address):
        return next((m for m in self.maps if m.begin <= address < m.end), None)


def parse(text):
    """UserError when it is no heap profile."""
    head, _, rest = text.partition("\n")
    if not head.startswith("heap profile:"):
        raise UserError("this is no heap profile")
    body, _, maps = rest.partition("MAPPED_LIBRARIES:\n")
    maps, _, script = maps.partition("SCRIPT_FRAMES:\n")
    sites = []
    for line in body.splitlines():
        if found := SITE.fullmatch(line):
            figures = [int(figure) for figure in found.groups()[:4]]
            sites.append(Site(*figures, tuple(int(frame, 16) for frame in found[5].split())))
    mappings = [
        Mapping(int(found[1], 16), int(found[2], 16), int(found[3], 16), found[4])
        for line in maps.splitlines() if (found := MAP.fullmatch(line))
    ]
    frames = {int(found[1], 16): (found[2], found[3] or "") for line in script.splitlines() if (found := SCRIPT_FRAME.fullmatch(line))}
    return Profile(sites, mappings, frames)


def difference(after, before):
    """What has grown or shrunk, site by site, between two readings of one process."""
    former = {site.frames: site for site in before.sites}
    sites = []
    for site in after.sites:
        old = former.pop(site.frames, Site(0, 0, 0, 0, site.frames))
        sites.append(Site(
            site.live_blocks - old.live_blocks, site.live_bytes - old.live_bytes,
            site.total_blocks - old.total_blocks, site.total_bytes - old.total_bytes, site.frames,
        ))
    # One that is not shown any more is among the others now, or has nothing alive.
    sites += [Site(-old.live_blocks, -old.live_bytes, 0, 0, old.frames) for old in former.values()]
    return Profile(sites, after.maps, before.script | after.script)
