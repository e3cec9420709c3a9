"""`memlimit top`: the processes under the library, live on a terminal, and as plain pictures anywhere else."""

import curses
import os
import signal
import sys
import time

from . import app, listing, rows, sampler, terminal

PLAIN_WIDTH = 80
HUNG_UP = 129  # as the shell has it of a process that SIGHUP ended
NAMES = {
    curses.KEY_UP: "UP", curses.KEY_DOWN: "DOWN", curses.KEY_LEFT: "LEFT", curses.KEY_RIGHT: "RIGHT",
    curses.KEY_PPAGE: "PPAGE", curses.KEY_NPAGE: "NPAGE", curses.KEY_HOME: "HOME", curses.KEY_END: "END",
    curses.KEY_ENTER: "\n", curses.KEY_BACKSPACE: "BACKSPACE", curses.KEY_F1: "F1", curses.KEY_BTAB: "BTAB",
}


def plain_pictures(interval_s, count, which):
    """One below the other, one unless more were asked for."""
    blocks = app.blocks_can_be_shown(sys.stdout.encoding)
    looker = sampler.Sampler(interval_s, which)
    for number in range(count or 1):
        if number:
            time.sleep(interval_s)
            print()
        looker.look()
        found = rows.ordered(looker.rows)
        print("\n".join(map(listing.plain, listing.picture(found, PLAIN_WIDTH, blocks=blocks))), flush=True)
    return 0


def live(screen, interval_s, count, which):
    looker = sampler.Sampler(interval_s, which, screen.wake)
    shown = app.App(looker, screen.wake, app.blocks_can_be_shown(sys.stdout.encoding))
    looker.start()
    while True:
        width, height = screen.size()
        screen.draw(shown.picture(width, height), shown.cursor(width, height))
        if count and looker.looks >= count:
            return 0
        for key in screen.wait(interval_s):
            if not shown.key(NAMES.get(key, "") if isinstance(key, int) else key):
                return 0
        if looker.error is not None:
            raise looker.error


def top(interval_s, count, which):
    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        return plain_pictures(interval_s, count, which)
    try:
        with terminal.Terminal() as screen:
            return live(screen, interval_s, count, which)
    except curses.error as error:
        kind = os.environ.get("TERM", "")
        print(f"memlimit: this terminal cannot be drawn on (TERM={kind}: {error}); one picture:", file=sys.stderr)
        return plain_pictures(interval_s, count, which)
    except terminal.Ended as ended:
        if ended.number is None:
            return HUNG_UP
        # The terminal is as it was: now it ends as it would have.
        signal.signal(ended.number, signal.SIG_DFL)
        os.kill(os.getpid(), ended.number)
        return 128 + ended.number
