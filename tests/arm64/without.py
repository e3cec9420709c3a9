#!/usr/bin/env python3
"""What tests/arm64/run leaves out of Catch2's programs, and how the rest ended. A case that is listed is not run; a claim of
preload_test, a section of a case, is run and may fail.

usage: without.py PROGRAM [TAG]                     prints the arguments that choose the cases, one a line
       without.py --count PROGRAM RESULTS LOG       prints `PASSED FAILED LEFT_OUT`, and failures to standard error
"""

import pathlib
import re
import sys
import xml.etree.ElementTree

PLACES = ("Expression", "Exception", "FatalErrorCondition", "Failure")
LIST = pathlib.Path(__file__).resolve().parent / "broken_by_qemu.list"


def left_out(program):
    """Cases, as the list has them: `PROGRAM: CASE`, each followed by an indented reason."""
    cases, reason_due = [], None
    for line in LIST.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith(" "):
            reason_due = None
            continue
        if reason_due is not None:
            sys.exit(f"{LIST.name}: no reason for {reason_due}")
        reason_due = line
        of, _, case = line.partition(": ")
        if of == program:
            cases.append(case)
    if reason_due is not None:
        sys.exit(f"{LIST.name}: no reason for {reason_due}")
    return cases


def chosen(program, tag):
    """Catch2's words for it. A comma or a bracket in a name means something else there."""
    names = [re.sub(r"([\\,\[\]])", r"\\\1", case) for case in left_out(program)]
    return [tag + "".join(f'~"{name}"' for name in names)] if tag or names else []


def count(program, results, log):
    """Reads Catch2's report; one that is cut off is of a program that crashed."""
    text = pathlib.Path(results).read_text(encoding="utf-8", errors="replace") if pathlib.Path(results).exists() else ""
    good = bad = 0
    try:
        cases = list(xml.etree.ElementTree.fromstring(text).iter("TestCase"))
    except xml.etree.ElementTree.ParseError as error:
        last = re.findall(r'<TestCase name="([^"]*)"', text)
        print(f"FAILED {program}: it ended in {last[-1] if last else 'no case'}: {error}", file=sys.stderr)
        print(pathlib.Path(log).read_text(encoding="utf-8", errors="replace")[-2000:], file=sys.stderr)
        return 0, 1
    listed = left_out(program)
    for case in cases:
        forgiven = [section for section in case.iter("Section") if section.get("name").partition(",")[0] in listed]
        for section in forgiven:
            for place in [place for kind in PLACES for place in section.iter(kind)]:
                place.set("success", "true")
        places = [place for kind in PLACES for place in case.iter(kind)]
        if case.find("OverallResult").get("success") == "true" or \
                forgiven and all(place.get("success") == "true" for place in places):
            good += 1
            continue
        bad += 1
        print(f"FAILED {program}: {case.get('name')}", file=sys.stderr)
        for place in places:
            if place.get("success") != "true":
                said = " ".join(" ".join(place.itertext()).split())[:400]
                print(f"    {place.get('filename')}:{place.get('line')}: {said}", file=sys.stderr)
    return good, bad if cases else 1


def main():
    if sys.argv[1:2] == ["--count"]:
        program, results, log = sys.argv[2:]
        print(*count(program, results, log), len(left_out(program)))
    else:
        print("\n".join(chosen(*(sys.argv[1:] + [""])[:2])))


if __name__ == "__main__":
    main()
