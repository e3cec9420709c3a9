#!/usr/bin/env python3
"""`memlimit top`: its pictures, its keys, and what it leaves of the terminal.

Usage: tool_top_test.py BUILD_ROOT.
"""

import signal
import unittest

from tool_support import BUILD, PATIENCE_S, hold_more, holder, stopped, tool
from tool_terminal import Session

from memlimit_cli import app, asking, listing, processes, rows, sampler, text  # noqa: E402

PYTHON = "/usr/bin/python3"
TOP = [PYTHON, str(BUILD / "scripts" / "memlimit"), "top", "-d", "0.1"]
MIB = 1 << 20
HUGE = dict.fromkeys(("heap_alloc", "rss_anon", "paced"), 2**63 - 1) | {"limit": 1, "level": 3}


def row(pid=1, name="n" * 15, figures=None, user="root", inside="-", **more):
    address = "s" if figures else None
    return rows.Row(asking.Answer(processes.Process(pid, name, address), figures or {}, user, inside, **more))


def lines_of(found, width, height=None, **more):
    return [listing.plain(line) for line in listing.picture(found, width, height, **more)]


class FakeSampler:
    """Rows that stay."""

    def __init__(self, found):
        self.rows, self.looks, self.paused, self.interval_s, self.at_once = found, 1, False, 1.0, sampler.threading.Event()


class Pictures(unittest.TestCase):
    def test_no_line_is_wider_than_the_terminal(self):
        found = [row(4194304 - n, figures=HUGE, user="u" * 40, inside="docker:0123456789ab") for n in range(9)]
        found += [row(7, "small"), row(8, "silent", problem="no answer for 9 s: " + "x" * 300, silent=True)]
        found.append(row(9, "\u6c49\u5b57" * 9, figures=HUGE))
        for width in (*range(40, 250), 1000):
            for line in lines_of(found, width):
                self.assertLessEqual(text.cells(line), width, line)

    def test_forty_columns_have_what_matters(self):
        figures = {"heap_alloc": 60 * MIB, "rss_anon": 70 * MIB, "paced": 70 * MIB, "limit": 64 * MIB, "level": 3, "rounds": 5}
        head, line = lines_of([row(4711, "redis-server", figures)], 40)[1:]
        self.assertEqual(head.split(), ["PID", "NAME", "USE", "PACED", "LEVEL"])
        self.assertEqual(line.split(), ["4711", "redis-se", "109%", "70", "MiB", "over"])

    def test_wide_terminals_have_every_column(self):
        head = lines_of([row(figures=HUGE)], 140)[1]
        self.assertEqual(head.split(), [title for title in listing.ORDER if title != listing.BAR])

    def test_what_does_not_fit_is_counted_and_the_chosen_one_is_seen(self):
        found = [row(4000 - n, figures=HUGE) for n in range(100)]
        lines = lines_of(found, 80, 23)
        self.assertEqual(len(lines), 23)
        self.assertEqual(lines[-1], "... 80 more below")
        lines = lines_of(found, 80, 23, selected=3950)
        self.assertTrue(any(line.split()[0] == "3950" for line in lines[2:-1]))
        self.assertRegex(lines[-1], r"^\.\.\. \d+ more above, \d+ more below$")
        for height in range(8):
            self.assertLessEqual(len(lines_of(found, 80, height)), max(height, 3))

    def test_who_does_not_answer_says_why_in_place_of_figures(self):
        said = "no answer for 3 s: it is stopped (kill -CONT lets it go on)"
        line = lines_of([row(8, "redis-server", problem=said, silent=True)], 100)[2]
        self.assertIn(said, line)

    def test_order_by_each_column_both_ways(self):
        figures = {"heap_alloc": 1, "paced": 1, "limit": 4, "rounds": 9}
        found = [row(1, "b", figures), row(2, "a", figures | {"paced": 3, "rounds": 1}), row(3, "c")]
        def pids(*how):
            return [one.process.pid for one in rows.ordered(found, *how)]

        self.assertEqual(pids("USE"), [2, 1, 3])
        self.assertEqual(pids("USE", True), [3, 1, 2])
        self.assertEqual(pids("NAME"), [2, 1, 3])
        self.assertEqual(pids("ROUNDS"), [1, 2, 3])
        for title in listing.SORTABLE:
            self.assertEqual(sorted(pids(title)), [1, 2, 3])

    def test_who_is_silent_stands_first(self):
        figures = {"paced": 5, "limit": 4}
        found = [row(1, "b", figures), row(2, "a", problem="no answer", silent=True)]
        self.assertEqual(rows.ordered(found)[0].process.pid, 2)

    def test_a_picture_where_nobody_watches_is_plain(self):
        with holder() as process:
            result = tool("top")
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertNotIn("\x1b", result.stdout)
            self.assertTrue(all(len(line) <= 80 for line in result.stdout.splitlines()))
            self.assertIn(str(process.pid), result.stdout)

    def test_where_no_blocks_can_be_shown(self):
        with holder() as process:
            hold_more(process, 300)
            lines = tool("top", PYTHONIOENCODING="ascii").stdout.splitlines()
            (line,) = [line for line in lines if line.split()[:1] == [str(process.pid)]]
            self.assertIn("###", line)


class Keys(unittest.TestCase):
    """The application without a terminal: keys in, pictures out."""

    def setUp(self):
        figures = {"heap_alloc": MIB, "rss_anon": MIB, "paced": MIB, "limit": 64 * MIB, "level": 0, "rounds": 1}
        self.found = [row(n, f"name{n}", figures | {"paced": n * MIB}, user=f"user{n % 2}") for n in range(1, 40)]
        self.app = app.App(FakeSampler(self.found), lambda: None)

    def type(self, *keys):
        return [self.app.key(key) for key in keys][-1]

    def picture(self, width=80, height=24):
        return "\n".join(map(listing.plain, self.app.picture(width, height)))

    def test_moving_keeps_to_the_processes(self):
        self.picture()
        self.assertEqual(self.app.selected, 39)
        self.type("DOWN", "DOWN", "UP")
        self.assertEqual(self.app.selected, 38)
        self.type("END", "DOWN")
        self.assertEqual(self.app.selected, 1)
        self.type("HOME", "UP")
        self.assertEqual(self.app.selected, 39)

    def test_sorting(self):
        self.type("<")
        self.assertIn("sorted by CONTAINER", self.picture())
        self.type(*"<")
        self.assertEqual(self.app.sort, "NAME")
        self.assertEqual(self.app.shown()[0].process.name, "name1")
        self.type("r")
        self.assertEqual(self.app.shown()[0].process.name, "name9")

    def test_the_filter_follows_what_is_typed_and_escape_ends_it(self):
        self.type("/", *"NAME1")
        self.assertEqual(len(self.app.shown()), 11)
        self.type("BACKSPACE", "2", "\n")
        self.assertIn("/NAME2", self.picture())
        self.type("/", *"no such")
        self.assertIn("nothing has that in it", self.picture())
        self.type("\x1b")
        self.assertEqual(len(self.app.shown()), 39)

    def test_a_filter_may_hold_any_letter_that_is_a_key(self):
        self.assertTrue(self.type("/", "q", "h", "l"))
        self.assertEqual(self.app.filter, "qhl")

    def test_help_names_every_key_and_any_key_leaves_it(self):
        self.type("h")
        shown = self.picture()
        for word in ("Enter", "sort", "limit", "leave", "PACED"):
            self.assertIn(word, shown)
        self.assertTrue(self.type("q"))
        self.assertNotIn("leave", self.picture())

    def test_a_limit_is_changed_only_after_a_yes(self):
        asked = []
        process = self.found[-1].process
        process.ask = lambda request: asked.append(request) or ""
        process.stat = lambda: {"limit": 32 * MIB}
        self.picture()
        self.type("l", *"32MiB", "\n")
        self.assertIn("limit 64 MiB -> 32MiB? It holds 39 MiB: it will be over at once. y/n", self.picture(100))
        self.type("n")
        self.assertIn("nothing is changed", self.picture())
        self.type("l", *"80%", "\n", "\x1b")
        self.type("l", "\n")
        self.assertEqual(asked, [])
        self.app.in_background = lambda action: action()
        self.type("l", *"32MiB", "\n", "y")
        self.assertEqual(asked, ["limit=32MiB"])
        self.assertIn("the limit is 32 MiB now", self.picture())

    def test_a_limit_that_is_refused_is_told(self):
        def refuse(_):
            raise text.UserError("300MB is not a size: did you mean 300MiB?")

        self.found[-1].process.ask = refuse
        self.app.in_background = lambda action: action()
        self.picture()
        self.type("l", *"300MB", "\n", "y")
        self.assertIn("did you mean 300MiB", self.picture())

    def test_pictures_of_every_page_fit_any_size(self):
        for keys in ("h", "x/abc", "\x1bl", "\x1bd", "\x1b"):
            self.type(*keys)
            for width, height in ((40, 5), (40, 24), (200, 60), (1, 1), (10, 2)):
                lines = self.app.picture(width, height)
                self.assertLessEqual(len(lines), height)

    def test_the_interval_is_a_number_of_seconds(self):
        self.type("d", *"0.5", "\n")
        self.assertEqual(self.app.sampler.interval_s, 0.5)
        self.type("d", *"0", "\n")
        self.assertEqual(self.app.sampler.interval_s, 0.5)
        self.assertIn("nothing is changed", self.picture())


class OnATerminal(unittest.TestCase):
    def check_clean(self, session):
        """The terminal is what it was: modes, the usual screen, a cursor."""
        self.assertEqual(session.attributes(), session.before)
        for begin, end in (("\x1b[?1049h", "\x1b[?1049l"), ("\x1b[?25l", "\x1b[?25h")):
            self.assertIn(begin, session.output)
            self.assertGreater(session.output.rfind(end), session.output.rfind(begin))

    def started(self, process, *arguments, **how):
        session = Session([*TOP, *arguments], **how)
        session.until(lambda shown: str(process.pid) in shown or str(process.pid) in session.output, "the process")
        return session

    def test_it_has_colours_and_leaves_the_terminal_as_it_was(self):
        # The chosen one is shown in reverse, without colours.
        with holder() as process, holder() as other, self.started(process, kind="xterm-256color") as session:
            session.until(lambda _: str(other.pid) in session.output, "the other process")
            session.type("q")
            self.assertEqual(session.end(), 0)
            self.check_clean(session)
            self.assertIn("█", session.output)
            self.assertRegex(session.output, r"\x1b\[3[1-3]m")

    def test_no_color_is_heeded(self):
        with holder() as process, self.started(process, kind="xterm-256color", NO_COLOR="1") as session:
            session.type("q")
            self.assertEqual(session.end(), 0)
            self.assertNotRegex(session.output, r"\x1b\[3[1-3]m")

    def test_a_signal_ends_it_and_leaves_the_terminal_as_it_was(self):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            with holder() as process, self.started(process, kind="xterm-256color") as session:
                session.signal(number)
                self.assertIn(session.end(), (-number, 128 + number), number)
                self.check_clean(session)

    def end_by_an_error(self, module, name):
        """Ends top by a function that raises in the place of another; what was written last."""
        code = (
            f"import sys; sys.path.insert(0, {str(BUILD / 'scripts')!r})\n"
            f"from memlimit_cli import {module}, top\n"
            "def fail(*_, **__): raise ZeroDivisionError('on purpose')\n"
            f"{module}.{name} = fail\n"
            "top.top(0.1, 0, ())\n"
        )
        with Session([PYTHON, "-B", "-c", code], kind="xterm-256color") as session:
            self.assertEqual(session.end(), 1)
            self.check_clean(session)
            return session.output

    def test_an_error_leaves_the_terminal_as_it_was(self):
        said = self.end_by_an_error("listing", "title_of")
        self.assertIn("ZeroDivisionError: on purpose", said.rpartition("\x1b[?1049l")[2])

    def test_an_error_of_the_thread_that_looks_is_told_too(self):
        self.assertIn("ZeroDivisionError: on purpose", self.end_by_an_error("asking", "everybody"))

    def test_a_terminal_that_is_closed_ends_it(self):
        with holder() as process, self.started(process) as session:
            session.hang_up()
            self.assertNotEqual(session.process.wait(timeout=PATIENCE_S), 0)

    def test_resizing_down_to_forty_columns_and_up_again(self):
        with holder() as process, self.started(process, "python3") as session:
            session.resize(40, 12)
            shown = session.until(lambda now: "NAME" in now and "LIMIT" not in now and str(process.pid) in now, "the narrow picture")
            self.assertLessEqual(max(map(len, shown.split("\n"))), 40)
            session.resize(132, 30)
            session.shows("CONTAINER", "RND/s", str(process.pid))
            session.type("q")
            self.assertEqual(session.end(), 0)

    def test_ctrl_z_gives_the_terminal_back_and_fg_takes_it_again(self):
        with holder() as process, Session(["bash", "--norc", "--noprofile", "-i"], kind="xterm-256color", PS1="ready> ") as session:
            session.until(lambda _: "ready> " in session.output, "the shell")
            plain = session.attributes()
            session.type(" ".join(TOP) + "\n")
            session.until(lambda _: str(process.pid) in session.output, "the process")
            session.type("\x1a")
            session.until(lambda _: "Stopped" in session.output and session.output.endswith("ready> "), "the shell's word")
            self.assertGreater(session.output.rfind("\x1b[?1049l"), session.output.rfind("\x1b[?1049h"))
            self.assertGreater(session.output.rfind("\x1b[?25h"), session.output.rfind("\x1b[?25l"))
            self.assertEqual(session.attributes()[3], plain[3])
            stopped = len(session.output)
            session.type("fg\n")
            session.until(lambda _: str(process.pid) in session.output[stopped:], "the picture after fg")
            self.assertIn("\x1b[?1049h", session.output[stopped:])
            session.type("q")
            session.until(lambda _: session.output.endswith("ready> ") and "\x1b[?1049l" in session.output[stopped:], "the prompt")
            session.type("exit\n")
            self.assertEqual(session.end(), 0)

    def test_the_keys_reach_every_page(self):
        with holder(first="import threading\n") as process, self.started(process, str(process.pid), columns=120) as session:
            session.type("h")
            session.shows("memlimit top: keys", "any key goes back")
            session.type("x")
            session.shows("Enter page")
            session.type("\r")
            session.shows("1 figures", "HeapAlloc", "Paced")
            session.type("2")
            session.shows("HOOK", "cpython")
            session.type("\t")
            session.shows("CLASS", "large", "THREAD")
            session.type("4")
            session.type("l24MiB\r")
            session.shows("limit 64 MiB -> 24MiB?", "y/n")
            session.type("y")
            session.shows("limit            from=64 MiB to=24 MiB", "the limit is 24 MiB now")
            session.type("5")
            session.shows("below its limit")
            session.type("\x1b")
            session.shows("Enter page")
            self.assertEqual(processes.find_pid(process.pid).stat()["limit"], 24 * MIB)
            session.type("q")
            self.assertEqual(session.end(), 0)

    def test_a_stopped_process_does_not_hold_up_the_keys(self):
        with holder() as process, holder() as other, self.started(other) as session:
            with stopped(process):
                session.shows(str(process.pid), "it is stopped")
                # The other goes on being shown.
                hold_more(other, 100)
                session.until(lambda shown: any(
                    str(other.pid) in line and int(line.split("%")[0].split()[-1]) > 40 for line in shown.split("\n") if "%" in line
                ), "its growth")
                session.type("q")
                self.assertEqual(session.end(), 0)

    def test_a_terminal_that_nothing_is_known_of_gets_plain_pictures(self):
        with Session(TOP, kind="no-such-terminal") as session:
            self.assertEqual(session.end(), 0)
            self.assertIn("cannot be drawn on", session.output)
            self.assertIn("memlimit top", session.output)

    def test_a_count_ends_it(self):
        with Session([*TOP, "-n", "2"], kind="xterm-256color") as session:
            self.assertEqual(session.end(), 0)
            self.check_clean(session)


if __name__ == "__main__":
    unittest.main()
