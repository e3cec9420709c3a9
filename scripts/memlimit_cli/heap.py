"""`memlimit heap`: who holds the memory of a process. Sites by the profile; classes and threads by the heap's own figures,
which are there without it."""

import json
import pathlib
import time

from . import processes, sites
from .flame import svg
from .symbols import SCRIPT, UNKNOWN, Symbols
from .text import UserError, format_size, table

TOP = 10
STACK_ROWS = 6  # of a site, in the table


def load(path):
    try:
        return sites.parse(pathlib.Path(path).read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


def names_of(symbols, site):
    """Functions of a site, innermost first."""
    if site.frames == (sites.OTHER_SITES,):
        return ["(sites that had no room in the answer)"]
    if site.frames == (sites.UNKNOWN_STACK,):
        return ["(stacks that had no room in the table)"]
    names = []
    for address in site.frames:
        for place in symbols.place(address):
            name = place.function if place.function != UNKNOWN else f"{place.module}+{address:#x}"
            names.append(name)
    return names


def spell_short(symbols, site):
    """Functions of a site in a line, innermost first; of a script with their lines, and without the interpreter's."""
    script = [place for address in site.frames for place in symbols.place(address) if place.module == SCRIPT]
    return [f"{place.function} ({pathlib.Path(place.line).name})" for place in script] or names_of(symbols, site)


def of_interest(symbols, site):
    """(place, address) pairs of a site. Where a script allocates, of what the interpreter did for it the innermost function
    that has a name is enough."""
    pairs = [(place, address) for address in site.frames for place in symbols.place(address)]
    first = next((i for i, (place, _) in enumerate(pairs) if place.module == SCRIPT), 0)
    native = [pair for pair in pairs[:first] if pair[0].function != UNKNOWN][:1]
    return native + pairs[first:] if first else pairs


def names_of_interest(symbols, site):
    """Functions of a site, innermost first, without those of a script's interpreter that have no name."""
    pairs = of_interest(symbols, site)
    return [place.function for place, _ in pairs] if any(place.module == SCRIPT for place, _ in pairs) else names_of(symbols, site)


def spell_place(place, address):
    function = place.function if place.function != UNKNOWN else f"{address:#x}"
    return f"{function}  {place.line or place.module}"


def ordered(profile):
    return sorted(profile.sites, key=lambda site: -abs(site.live_bytes))


def signed(amount, changes):
    return f"+{format_size(amount)}" if changes and amount > 0 else format_size(amount)


def site_lines(profile, symbols, count, changes, full):
    total = profile.live_bytes()
    for number, site in enumerate(ordered(profile)[:count], 1):
        if site.live_bytes == 0:
            return
        part = f"  {site.live_bytes / total:.1%}" if total > 0 and not changes else ""
        yield f"{number:>2}. {signed(site.live_bytes, changes)}{part} in {site.live_blocks:,} blocks ({format_size(site.total_bytes)} ever)"
        if len(site.frames) == 1 and site.frames[0] in (sites.OTHER_SITES, sites.UNKNOWN_STACK):
            yield f"      {names_of(symbols, site)[0]}"
            continue
        pairs = [(place, address) for address in site.frames for place in symbols.place(address)]
        places = [spell_place(*pair) for pair in (pairs if full else of_interest(symbols, site))]
        shown = places if full else places[:STACK_ROWS]
        for text in shown:
            yield f"      {text}"
        if len(places) > len(shown):
            yield f"      ... {len(places) - len(shown)} more (--full)"


def grouped(profile, symbols, key):
    """Live bytes by the innermost function, or by the first module that is not the C library."""
    sums = {}
    for site in profile.sites:
        places = [(place, address) for address in site.frames for place in symbols.place(address)]
        if key == "function":
            name = next((place.function for place, _ in places if place.module == SCRIPT), names_of(symbols, site)[0])
        else:
            modules = [place.module for place, _ in places]
            name = next((m for m in modules if not m.startswith(("libc.", "libc-", "libstdc++"))), modules[0])
        blocks, amount = sums.get(name, (0, 0))
        sums[name] = (blocks + site.live_blocks, amount + site.live_bytes)
    return sorted(sums.items(), key=lambda item: -abs(item[1][1]))


def class_rows(text, count):
    """Of the file `heap`, the rows that hold most: classes, then threads."""
    rows, head, parts = [], [], []
    for line in text.splitlines():
        words = line.split()
        if words[0] in ("class", "thread"):
            if rows:
                parts.append((head, rows))
            head, rows = words, []
        else:
            rows.append(words)
    parts.append((head, rows))
    for head, rows in parts:
        at = head.index("live_bytes")
        largest = sorted((row for row in rows if row[at] not in ("-", "0")), key=lambda row: -abs(int(row[at])))[:count]
        yield [head, *largest]


def show_figures(process, count):
    for rows in class_rows(process.ask("heap"), count):
        if len(rows) > 1:
            print(*table(rows, right=range(1, len(rows[0]))), sep="\n")
            print()


def as_json(process, profile, symbols, count):
    return {
        "pid": process.pid if process else None,
        "name": process.name if process else None,
        "live_bytes": profile.live_bytes(),
        "sites": [
            {
                "live_bytes": site.live_bytes, "live_blocks": site.live_blocks,
                "total_bytes": site.total_bytes, "total_blocks": site.total_blocks,
                "frames": [
                    {"address": f"{address:#x}", "function": place.function, "module": place.module, "line": place.line}
                    for address in site.frames for place in symbols.place(address)
                ],
            }
            for site in ordered(profile)[:count]
        ],
    }


def switch(process, value):
    answer = process.ask(f"profile={value}").strip()
    print(f"{process.pid} ({process.name}): heap profile {'off' if answer == 'off' else f'on, a sample every {format_size(int(answer))}'}")
    return 0


def heap(options):
    """Exit status 0; 1 where there is no profile to show."""
    from_file = pathlib.Path(options.process).is_file()
    process = None if from_file else processes.find(options.process)
    if options.start is not None or options.stop:
        if process is None:
            raise UserError("--start and --stop are for a running process")
        return switch(process, "off" if options.stop else options.start)
    if options.classes:
        if process is None:
            raise UserError("--classes is for a running process")
        show_figures(process, options.count)
        return 0
    text = pathlib.Path(options.process).read_text(encoding="utf-8", errors="replace") if from_file else process.ask("profile")
    profile = sites.parse(text)
    if options.save:
        pathlib.Path(options.save).write_text(text, encoding="utf-8")
    before = None
    if options.diff:
        if options.diff.replace(".", "", 1).isdigit() and not pathlib.Path(options.diff).exists():
            if process is None:
                raise UserError("a file does not change: --diff needs another file")
            before = profile
            time.sleep(float(options.diff))
            profile = sites.parse(process.ask("profile"))
        else:
            before = load(options.diff)
        profile = sites.difference(profile, before)
    if not profile.sites:
        print(
            "no site has anything alive: the heap profile is off, or was started a moment ago "
            f"(memlimit heap {options.process} --start; MEMLIMIT_PROFILE=on from the start)"
        )
        if process is not None:
            print()
            show_figures(process, options.count)
        return 1
    symbols = Symbols(profile, process.pid if process else 0, lines=not options.no_lines)
    chosen = profile.sites if options.flame or options.by != "site" else ordered(profile)[: options.count]
    symbols.resolve(address for site in chosen for address in site.frames)
    if options.flame:
        title = f"live heap of {process.name} ({process.pid})" if process else f"live heap of {options.process}"
        shown = names_of if options.full else names_of_interest
        stacks = [(list(reversed(shown(symbols, site))), site.live_bytes) for site in profile.sites]
        pathlib.Path(options.flame).write_text(svg(stacks, f"{title}: {format_size(profile.live_bytes())}", format_size), encoding="utf-8")
        print(f"{options.flame}: {len(profile.sites)} sites")
        return 0
    if options.json:
        print(json.dumps(as_json(process, profile, symbols, options.count), indent=1))
        return 0
    who = f"{process.pid} ({process.name})" if process else options.process
    print(f"{who}: {signed(profile.live_bytes(), before is not None)} at {len(profile.sites)} sites")
    print()
    if options.by == "site":
        print(*site_lines(profile, symbols, options.count, before is not None, options.full), sep="\n")
    else:
        rows = [(options.by.upper(), "BLOCKS", "LIVE")]
        rows += [(name, f"{blocks:,}", signed(amount, before is not None)) for name, (blocks, amount) in grouped(profile, symbols, options.by)[: options.count]]
        print(*table(rows, right=(1, 2)), sep="\n")
    return 0
