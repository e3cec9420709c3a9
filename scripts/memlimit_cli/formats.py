"""The socket's files as Python values: what --json prints, and what the doctor and the pages of top look at."""

import re

from . import client

KB = 1024


def number(word):
    """A word as a number; None for `-`, the word itself if it is none."""
    if word == "-":
        return None
    return int(word) if re.fullmatch(r"-?\d+", word) else word


def parse_status(text):
    """`Key: value` as a dictionary. Sizes are in bytes, durations in seconds, words stay words."""
    figures = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":\t")
        if not colon:
            continue
        value = value.strip()
        if found := re.fullmatch(r"(-?\d+) kB", value):
            figures[key] = int(found[1]) * KB
        elif found := re.fullmatch(r"(-?\d+)( s)?", value):
            figures[key] = int(found[1])
        else:
            figures[key] = value
    return figures


def parse_rows(lines):
    """A table whose first line names its columns, as a list of dictionaries."""
    if not lines:
        return []
    keys = [key.replace("-", "_").replace("/", "_per_") for key in lines[0].split()]
    # A line that was cut has fewer words.
    return [dict(zip(keys, map(number, words))) for words in map(str.split, lines[1:]) if len(words) == len(keys)]


def parse_hooks(text):
    rows = parse_rows(text.splitlines())
    for row in rows:
        row["name"] = str(row["name"])  # a hook may be called 7
    return rows


def parse_heap(text):
    """{"classes": [...], "threads": [...]} of the file `heap`; a figure that a row does not have is None."""
    lines = text.splitlines()
    at = next((i for i, line in enumerate(lines) if line.startswith("thread ")), len(lines))
    return {"classes": parse_rows(lines[:at]), "threads": parse_rows(lines[at:])}


def parse_config(text):
    """A row for each setting; `given` is what was asked for where that is not in force."""
    rows = [line.split() for line in text.splitlines()]
    return [
        {"name": row[0], "value": row[1], "source": row[2], "given": None if row[3] == "-" else row[3]}
        for row in rows
        if len(row) >= 4
    ]


def parse_limit(text):
    text = text.strip()
    return {"limit": 0 if text == "off" else number(text)}


def parse_list(text):
    return [{"name": name, "sentence": rest.strip()} for name, _, rest in (line.partition(" ") for line in text.splitlines())]


PARSERS = {
    "status": parse_status,
    "stat": client.parse_stat,
    "hooks": parse_hooks,
    "heap": parse_heap,
    "config": parse_config,
    "limit": parse_limit,
    "ls": parse_list,
    "/": parse_list,
}


def parse(file, text):
    """For --json. A file that is known here by name alone is its text."""
    return PARSERS[file](text) if file in PARSERS else {"text": text}
