#!/usr/bin/env python3
"""Litmus tests: the memory orders of what is shared without a lock, on a machine that is weaker than any.

x86-64 keeps stores in order and loads in order, and qemu runs arm64 by the same rules. So a release that is missing breaks
nothing on a machine that tests run on, and everything now and then on arm64. Here each pattern is written down once more, in a
few steps a thread, with the orders that the source has, and every execution is explored: all interleavings, and for each load
all values that C++'s memory model lets it see: views that release and acquire pass on, RMWs carry and fences collect; a load
that is seq_cst sees the last store that is and comes before it; none is satisfied by a store that comes after it. A pattern
must hold in all of them, and must not any more when one of its orders is weakened: an order that nothing needs, or a model that
sees nothing, fails too.

The lines that a pattern stands for are looked up in the source: who changes one there has to change it here.
"""

import pathlib
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent

RELAXED, ACQUIRE, RELEASE, ACQ_REL, SEQ_CST = 'relaxed', 'acquire', 'release', 'acq_rel', 'seq_cst'
ACQUIRES = {ACQUIRE, ACQ_REL, SEQ_CST}
RELEASES = {RELEASE, ACQ_REL, SEQ_CST}


def load(place, order=RELAXED):
    return 'load', place, order, None


def store(place, value, order=RELAXED):
    """Where several threads store plainly to a place, in the order of execution."""
    return 'store', place, order, value


def rmw(place, change, order):
    """The value before; `change` makes the new one of it, None: it stays (a compare-exchange that fails is a load)."""
    return 'rmw', place, order, change


def fence(order):
    return 'fence', None, order, None


class Thread:
    def __init__(self, steps):
        self.steps = steps
        self.view = {}       # place -> the oldest message that it may still see
        self.pending = {}    # what an acquire fence would add
        self.fenced = {}     # its view at the last release fence
        self.next = next(steps, None)


def join(view, other):
    for place, time in other.items():
        if view.get(place, 0) < time:
            view[place] = time


class Machine:
    """One execution; `choose(n)` is asked for each choice among n > 1."""

    def __init__(self, threads, start, choose):
        self.messages = {place: [(value, {})] for place, value in start.items()}
        self.last = {}  # place -> the newest message of a store that is seq_cst: the execution's order is the one of all these
        self.threads = [Thread(thread) for thread in threads]
        self.choose = choose

    def run(self):
        while waiting := [thread for thread in self.threads if thread.next is not None]:
            thread = waiting[self.choose(len(waiting))]
            result = self.step(thread, *thread.next)
            try:
                thread.next = thread.steps.send(result)
            except StopIteration:
                thread.next = None
        return {place: messages[-1][0] for place, messages in self.messages.items()}

    def step(self, thread, kind, place, order, what):
        # Of one place each: a load is no fence for the stores before it.
        if order == SEQ_CST and place in self.last:
            join(thread.view, {place: self.last[place]})
        before = len(self.messages.get(place, ()))
        result = getattr(self, kind)(thread, place, order, what)
        if order == SEQ_CST and len(self.messages[place]) > before:
            self.last[place] = before
        return result

    def fence(self, thread, _place, order, _what):
        if order in ACQUIRES:
            join(thread.view, thread.pending)
        if order in RELEASES:
            thread.fenced = dict(thread.view)

    def load(self, thread, place, order, _what):
        messages = self.messages[place]
        oldest = thread.view.get(place, 0)
        return self.see(thread, place, order, oldest + self.choose(len(messages) - oldest))

    def see(self, thread, place, order, time):
        value, view = self.messages[place][time]
        join(thread.view, {place: time})
        join(thread.pending, view)
        if order in ACQUIRES:
            join(thread.view, view)
        return value

    def store(self, thread, place, order, value, inherited=None):
        time = len(self.messages[place])
        join(thread.view, {place: time})
        view = dict(inherited or {})
        join(view, thread.view if order in RELEASES else {**thread.fenced, place: time})
        self.messages[place].append((value, view))

    def rmw(self, thread, place, order, change):
        latest = len(self.messages[place]) - 1
        before = self.see(thread, place, order, latest)
        after = change(before)
        if after is not None:
            self.store(thread, place, order, after, self.messages[place][latest][1])
        return before


def explore(litmus, orders):
    """(executions, the first that breaks the pattern or None)."""
    choices, count = [], 0
    while True:
        position = 0

        def choose(among):
            nonlocal position
            if among == 1:
                return 0
            if position == len(choices):
                choices.append([0, among])
            position += 1
            return choices[position - 1][0]

        seen = {}
        final = Machine(litmus.threads(orders, seen), litmus.start, choose).run()
        count += 1
        if not litmus.holds(seen, final):
            return count, (seen, final)
        while choices and choices[-1][0] + 1 == choices[-1][1]:
            choices.pop()
        if not choices:
            return count, None
        choices[-1][0] += 1


class Pattern:
    """`orders` are those of the source, `weaker` what each is changed to, one at a time, `lines` what they stand in."""

    start, orders, weaker, lines = {}, {}, {}, {}

    def threads(self, orders, seen):
        raise NotImplementedError

    def holds(self, seen, final):
        raise NotImplementedError


class FarPlaces(Pattern):
    """Whoever sees a stack's top in its far place sees where that lies."""

    start = {'far_begin': 0, 'top': 8}
    orders = {'owner': RELEASE, 'reader': ACQUIRE}
    weaker = {'owner': RELAXED, 'reader': RELAXED}
    lines = {
        'lib/heap/cache_life.cc': ['far_begin.store(begin, std::memory_order_relaxed);', 'std::atomic_thread_fence(std::memory_order_release);'],
        'lib/heap/thread_cache.h': [
            'std::atomic_thread_fence(std::memory_order_acquire); return far_begin.load(std::memory_order_relaxed)'],
        'lib/heap/heap.h': ['cache.tops[class_index].store(top, std::memory_order_relaxed);'],
    }

    def threads(self, orders, seen):
        def owner():
            yield store('far_begin', 1)
            yield fence(orders['owner'])
            yield store('top', 1000)
            yield store('top', 1008)  # the fast path goes on from there

        def reader():
            seen['top'] = yield load('top')
            yield fence(orders['reader'])
            seen['far_begin'] = yield load('far_begin')

        return owner(), reader()

    def holds(self, seen, final):
        return seen['top'] < 1000 or seen['far_begin'] == 1


class ListOfCaches(Pattern):
    """Whoever finds a cache sees what was written to it, and those behind it."""

    start = {'first': 0, 'content': 0, 'content 2': 0}
    orders = {'make': RELEASE, 'all': ACQUIRE}
    weaker = {'make': RELAXED, 'all': RELAXED}
    lines = {'lib/heap/cache_life.cc': [
        'all_caches.compare_exchange_weak(first, cache, std::memory_order_release, std::memory_order_relaxed)',
        'return all_caches.load(std::memory_order_acquire);']}

    def threads(self, orders, seen):
        def make(number, content):
            yield store(content, 1)
            yield rmw('first', lambda first: first + number, orders['make'])

        def walk():
            seen['first'] = yield load('first', orders['all'])
            seen['content'] = yield load('content')
            seen['content 2'] = yield load('content 2')

        return make(1, 'content'), make(2, 'content 2'), walk()

    def holds(self, seen, final):
        return (seen['first'] & 1 <= seen['content']) and (seen['first'] >> 1 <= seen['content 2'])


class StackOfCaches(Pattern):
    """Who pops a record sees what its last owner wrote."""

    start = {'head': 0, 'content': 0}
    orders = {'push': RELEASE, 'pop': ACQUIRE}
    weaker = {'push': RELAXED, 'pop': RELAXED}
    lines = {'lib/heap/tagged_stack.h': [
        'head_.compare_exchange_weak(head, pack(node, head), std::memory_order_release, std::memory_order_relaxed)',
        'head_.compare_exchange_weak(head, pack(next, head), std::memory_order_acquire)']}

    def threads(self, orders, seen):
        def leave():
            yield store('content', 1)
            yield rmw('head', lambda head: 1, orders['push'])

        def adopt():
            seen['head'] = yield rmw('head', lambda head: 0 if head else None, orders['pop'])
            seen['content'] = yield load('content')

        return leave(), adopt()

    def holds(self, seen, final):
        return seen['head'] == 0 or seen['content'] == 1


class HeldBytes(Pattern):
    """What is seen as returned was taken before: what a thread holds is never negative."""

    start = {'taken': 0, 'returned': 0}
    orders = {'owner': RELEASE, 'reader': ACQUIRE}
    weaker = {'owner': RELAXED, 'reader': RELAXED}
    lines = {
        'lib/heap/transfer.cc': ['counter.store(counter.load(std::memory_order_relaxed) + bytes, std::memory_order_release);'],
        'lib/heap/thread_cache.h': [
            'const uint64_t returned = returned_bytes.load(std::memory_order_acquire);',
            'static_cast<int64_t>(taken_bytes.load(std::memory_order_relaxed) - returned)'],
    }

    def threads(self, orders, seen):
        def owner():
            for turn in (1, 2):
                yield store('taken', turn, orders['owner'])
                yield store('returned', turn, orders['owner'])

        def reader():
            seen['returned'] = yield load('returned', orders['reader'])
            seen['taken'] = yield load('taken')

        return owner(), reader()

    def holds(self, seen, final):
        return seen['taken'] >= seen['returned']


class PublishedUsage(Pattern):
    """Of the sums over all threads, too: what one thread took another may have returned."""

    start = {'taken': 0, 'returned': 0, 'block': 0}
    orders = {'add': ACQ_REL, 'reader': ACQUIRE}
    weaker = {'add': RELAXED, 'reader': RELAXED}
    lines = {'lib/engine/account.cc': [
        'return sum.fetch_add(bytes, std::memory_order_acq_rel) + bytes;',
        'const int64_t returned = published.returned.load(std::memory_order_acquire);']}

    def threads(self, orders, seen):
        def takes():
            yield rmw('taken', lambda sum: sum + 1, orders['add'])
            yield store('block', 1, RELEASE)  # handed over by the program, in its own way

        def returns():
            if (yield load('block', ACQUIRE)):
                yield rmw('returned', lambda sum: sum + 1, orders['add'])

        def reader():
            seen['returned'] = yield load('returned', orders['reader'])
            seen['taken'] = yield load('taken')

        return takes(), returns(), reader()

    def holds(self, seen, final):
        return seen['taken'] >= seen['returned']


class Hints(Pattern):
    """A bit is never missing while the thing is there, though it is not written where it is set already."""

    start = {'thing': 0, 'bit': 1}
    orders = {'thing is made': SEQ_CST, 'bit is looked at': SEQ_CST, 'bit is cleared': SEQ_CST, 'thing is looked for': SEQ_CST}
    weaker = {'thing is made': RELEASE, 'bit is looked at': ACQUIRE, 'bit is cleared': ACQ_REL, 'thing is looked for': ACQUIRE}
    lines = {'lib/heap/hints.cc': ['if ((word.load() & bit(index)) == 0) word.fetch_or(bit(index));',
                                   'word.fetch_and(~bit(group)); if (group_at(group)->words[kind].load() != 0) set_bit(word, group);']}

    def threads(self, orders, seen):
        def makes():
            yield store('thing', 1, orders['thing is made'])
            if (yield load('bit', orders['bit is looked at'])) == 0:
                yield rmw('bit', lambda _: 1, SEQ_CST)

        def clears():
            yield rmw('bit', lambda _: 0, orders['bit is cleared'])
            if (yield load('thing', orders['thing is looked for'])) == 1:
                yield rmw('bit', lambda _: 1, SEQ_CST)

        return makes(), clears()

    def holds(self, seen, final):
        return final['bit'] == 1


class Parking(Pattern):
    """The relief thread does not go to sleep on an absence that has begun: one of the two sees what the other wrote."""

    start = {'turn': 0, 'parked': 0}
    orders = {'turn': SEQ_CST, 'looks at parked': SEQ_CST, 'parks': SEQ_CST, 'looks at turn': SEQ_CST}
    weaker = {'turn': RELEASE, 'looks at parked': ACQUIRE, 'parks': RELEASE, 'looks at turn': ACQUIRE}
    lines = {'lib/engine/relief.cc': [
        'state.parked.store(1, std::memory_order_seq_cst);', 'state.turn.load(std::memory_order_seq_cst) != kNobody',
        'state.turn.store(kNobody, std::memory_order_seq_cst);', 'state.parked.load(std::memory_order_seq_cst) == 0']}

    def threads(self, orders, seen):
        def leave():
            yield store('turn', 1, orders['turn'])
            seen['wakes'] = yield load('parked', orders['looks at parked'])

        def park():
            yield store('parked', 1, orders['parks'])
            seen['stays awake'] = yield load('turn', orders['looks at turn'])

        return leave(), park()

    def holds(self, seen, final):
        return seen['wakes'] == 1 or seen['stays awake'] == 1


class Countdown(Pattern):
    """The number of blocks handed out is read while its owner moves it from one count to another: 10 blocks, always."""

    start = {'base': 0, 'count': 10}
    orders = {'odd base': RELEASE, 'count': RELEASE, 'even base': RELEASE, 'base is read': ACQUIRE, 'count is read': ACQUIRE}
    weaker = {'count': RELAXED, 'even base': RELAXED, 'base is read': RELAXED, 'count is read': RELAXED}
    lines = {
        'lib/heap/sampling.cc': [
            'base.store(total << 1 | 1, std::memory_order_release); count.store(gap == 0 ? total : -gap, std::memory_order_release); '
            'base.store(gap == 0 ? 0 : (total + gap) << 1, std::memory_order_release);'],
        'lib/heap/cache_life.cc': [
            'uint64_t base = pop_bases[class_index].load(std::memory_order_acquire);',
            'const uint64_t count = pops[class_index].load(std::memory_order_acquire);',
            'const uint64_t again = pop_bases[class_index].load(std::memory_order_acquire);'],
    }

    def threads(self, orders, seen):
        def owner():
            yield store('base', 10 << 1 | 1, orders['odd base'])
            yield store('count', -3, orders['count'])
            yield store('base', (10 + 3) << 1, orders['even base'])

        def reader():
            base = yield load('base', orders['base is read'])
            for _ in range(3):
                if base & 1:
                    seen['total'] = base >> 1
                    return
                count = yield load('count', orders['count is read'])
                again = yield load('base', orders['base is read'])
                if again == base:
                    seen['total'] = (base >> 1) + count
                    return
                base = again

        return owner(), reader()

    def holds(self, seen, final):
        return seen.get('total', 10) == 10


class EventRing(Pattern):
    """Who takes an event from a slot gets it whole. (That nobody writes there while it is read needs the other two orders, and
    a machine that lets a load wait for a later store: not this one.)"""

    start = {'turn': 0, 'event': 0}
    orders = {'put': RELEASE, 'sees full': ACQUIRE, 'taken': RELEASE, 'sees empty': ACQUIRE}
    weaker = {'put': RELAXED, 'sees full': RELAXED}
    lines = {'lib/observe/event_ring.cc': [
        'const uint64_t turn = slot.turn.load(std::memory_order_acquire);', 'slot.turn.store(empty + 1, std::memory_order_release);',
        'slot.turn.store(full + 1, std::memory_order_release);']}

    def threads(self, orders, seen):
        def puts():
            for number in (1, 2):
                if (yield load('turn', orders['sees empty'])) != 2 * number - 2:
                    return
                yield store('event', number)
                yield store('turn', 2 * number - 1, orders['put'])

        def takes():
            turn = yield load('turn', orders['sees full'])
            if turn & 1:
                seen['turn'] = turn
                seen['event'] = yield load('event')
                yield store('turn', turn + 1, orders['taken'])

        return puts(), takes()

    def holds(self, seen, final):
        return 'event' not in seen or seen['event'] == (seen['turn'] + 1) // 2


class EventsLost(Pattern):
    """Who tells of lost events has the time of one of them."""

    start = {'last_dropped': 0, 'untold': 0}
    orders = {'drops': RELEASE, 'tells': ACQUIRE}
    weaker = {'drops': RELAXED, 'tells': RELAXED}
    lines = {'lib/observe/event_ring.cc': [
        'last_dropped_.store(event.time_ns, std::memory_order_relaxed);', 'untold_.fetch_add(1, std::memory_order_release);',
        'const uint64_t count = untold_.exchange(0, std::memory_order_acquire);']}

    def threads(self, orders, seen):
        def drops(time):
            yield store('last_dropped', time)
            yield rmw('untold', lambda count: count + 1, orders['drops'])

        def tells():
            seen['count'] = yield rmw('untold', lambda _: 0, orders['tells'])
            seen['time'] = yield load('last_dropped')

        return drops(1), drops(2), tells()

    def holds(self, seen, final):
        return seen['count'] == 0 or seen['time'] > 0


PATTERNS = (FarPlaces, ListOfCaches, StackOfCaches, HeldBytes, PublishedUsage, Hints, Parking, Countdown, EventRing, EventsLost)


def without_comments(text):
    return ' '.join(' '.join(line.partition('//')[0] for line in text.splitlines()).split())


class Orders(unittest.TestCase):
    def test_patterns_hold_and_need_each_of_their_orders(self):
        for pattern in PATTERNS:
            with self.subTest(pattern.__name__):
                count, broken = explore(pattern(), pattern.orders)
                self.assertIsNone(broken, f'{pattern.__doc__} Not so with {pattern.orders}')
                self.assertGreater(count, 5)
            for name, order in pattern.weaker.items():
                with self.subTest(pattern.__name__, weaker=name):
                    _, broken = explore(pattern(), {**pattern.orders, name: order})
                    self.assertIsNotNone(broken, f'{name} may be {order}: the source has more than it needs, or the model less')

    def test_the_source_has_these_orders(self):
        for pattern in PATTERNS:
            for path, lines in pattern.lines.items():
                text = without_comments((ROOT / path).read_text(encoding='utf-8'))
                for line in lines:
                    with self.subTest(pattern.__name__, path=path):
                        self.assertIn(line, text, 'the source has changed, and so must the pattern')


class TheMachine(unittest.TestCase):
    """What it lets happen, and what not: the litmus tests that every paper on memory models begins with."""

    @staticmethod
    def outcomes(threads, start):
        class Any(Pattern):
            def __init__(self):
                self.start, self.all = start, set()

            def threads(self, _orders, seen):
                return threads(seen)

            def holds(self, seen, final):
                self.all.add(tuple(sorted(seen.items())))
                return True

        litmus = Any()
        explore(litmus, {})
        return litmus.all

    def message(self, stored, loaded):
        def threads(seen):
            def sends():
                yield store('data', 1)
                yield store('flag', 1, stored)

            def receives():
                seen['flag'] = yield load('flag', loaded)
                seen['data'] = yield load('data')

            return sends(), receives()

        return (('data', 0), ('flag', 1)) in self.outcomes(threads, {'data': 0, 'flag': 0})

    def test_a_message_passes_by_release_and_acquire_only(self):
        self.assertFalse(self.message(RELEASE, ACQUIRE))
        self.assertTrue(self.message(RELAXED, ACQUIRE))
        self.assertTrue(self.message(RELEASE, RELAXED))

    def both_miss(self, order_of_store, order_of_load):
        def threads(seen):
            def thread(own, other):
                yield store(own, 1, order_of_store)
                seen[other] = yield load(other, order_of_load)

            return thread('a', 'b'), thread('b', 'a')

        return (('a', 0), ('b', 0)) in self.outcomes(threads, {'a': 0, 'b': 0})

    def test_stores_are_buffered_but_for_seq_cst(self):
        self.assertTrue(self.both_miss(RELEASE, ACQUIRE))
        self.assertFalse(self.both_miss(SEQ_CST, SEQ_CST))

    def test_a_place_is_coherent(self):
        def threads(seen):
            def writes():
                yield store('a', 1)
                yield store('a', 2)

            def reads():
                seen['first'] = yield load('a')
                seen['second'] = yield load('a')

            return writes(), reads()

        outcomes = {tuple(value for _, value in outcome) for outcome in self.outcomes(threads, {'a': 0})}
        self.assertEqual(outcomes, {(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)})


if __name__ == '__main__':
    unittest.main()
