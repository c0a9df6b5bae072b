"""Reading up to a bound that moves: in order, each record once, never one beyond it."""

from __future__ import annotations

import random
import time

import pytest

from playhead.core.offsets import TopicPartition
from playhead.core.records import Records
from playhead.engine.capped import Capped, Pace


class Tape:
    """A log of one topic: offsets by partition; a reader gives a few of them at a time."""

    def __init__(self, offsets, chance):
        self.offsets, self.chance, self.readers = offsets, chance, 0

    def reader(self, positions):
        self.readers += 1
        return Head(self, dict(positions))


class Head:
    def __init__(self, tape, at):
        self.tape, self.at, self.open = tape, at, True

    def read(self, max_records, _timeout_s):
        assert self.open
        found = []
        for p in sorted(self.at):
            rest = [o for o in self.tape.offsets[p] if o >= self.at[p]]
            some = rest[: self.tape.chance.randint(0, min(max_records, 5))]
            max_records -= len(some)
            if not some:
                continue
            self.at[p] = some[-1] + 1
            none = [None] * len(some)
            place = TopicPartition("t", p)
            found.append(Records(place, some, [0] * len(some), none, none, self.at[p]))
        return found

    def close(self):
        self.open = False


def read_on(capped, bound, seen, position):
    """Read until every partition stands at the bound; nothing beyond it may come."""
    for _ in range(1000):
        if all(position[p] >= bound.get(p, position[p]) for p in position):
            return
        for records in capped.read(7, 0):
            p = records.source.partition
            assert all(position[p] <= o < bound[p] for o in records.offsets)
            assert position[p] < records.next <= bound[p]
            seen[p] += records.offsets
            position[p] = records.next
    pytest.fail(f"it stands at {position}, and the bound is {bound}")


@pytest.mark.parametrize("seed", range(20))
def test_a_bound_that_moves_is_followed_record_by_record(seed):
    chance = random.Random(seed)
    offsets = {p: sorted(chance.sample(range(200), 90)) for p in range(3)}
    tape = Tape(offsets, chance)
    bound = dict.fromkeys(offsets, 0)
    position, seen = dict.fromkeys(offsets, 0), {p: [] for p in offsets}
    capped = Capped(tape.reader, position, lambda: bound, lambda _s: None)
    while any(at < offsets[p][-1] + 1 for p, at in position.items()):
        for p in chance.sample(sorted(bound), chance.randint(1, 3)):
            bound[p] = min(offsets[p][-1] + 1, bound[p] + chance.randint(0, 40))
        read_on(capped, bound, seen, position)
        assert all(seen[p] == [o for o in offsets[p] if o < bound[p]] for p in seen)
    assert seen == offsets
    capped.close()


def test_a_bound_in_a_gap_is_reached_though_no_record_lies_before_it():
    tape = Tape({0: [0, 1, 9]}, random.Random(0))
    position, seen, bound = {0: 0}, {0: []}, {0: 2}
    capped = Capped(tape.reader, position, lambda: bound, lambda _s: None)
    read_on(capped, bound, seen, position)
    bound[0] = 7
    read_on(capped, bound, seen, position)
    assert (seen, position) == ({0: [0, 1]}, {0: 7})
    bound[0] = 10
    read_on(capped, bound, seen, position)
    assert seen == {0: [0, 1, 9]}


def test_a_partition_that_the_bound_does_not_name_is_not_read():
    tape = Tape({0: [0, 1], 1: [0, 1]}, random.Random(0))
    position, seen = {0: 0, 1: 0}, {0: [], 1: []}
    capped = Capped(tape.reader, position, lambda: {1: 2}, lambda _s: None)
    read_on(capped, {1: 2}, seen, position)
    assert seen == {0: [], 1: [0, 1]}


def test_what_was_read_ahead_stays_bounded_however_far_the_log_goes_on():
    tape = Tape({0: list(range(5000)), 1: list(range(5000))}, random.Random(0))
    bound = {0: 1, 1: 2000}
    position, seen = {0: 0, 1: 0}, {0: [], 1: []}
    capped = Capped(tape.reader, position, lambda: bound, lambda _s: None)
    read_on(capped, bound, seen, position)
    assert sum(map(len, capped._ahead.values())) <= 14
    assert tape.readers < 10


def test_a_pace_is_kept_and_nothing_is_saved_up():
    pace = Pace(1000)
    assert pace.batch(50_000) == 1000
    begun = time.monotonic()
    wait_s = sum(pace.spend(100) for _ in range(5))  # nobody waits meanwhile: it adds up
    assert 1.4 <= wait_s + (time.monotonic() - begun) * 5 <= 1.6
    assert Pace(0.5).batch(10) == 1


def test_a_bound_that_stays_is_not_read_beyond():
    tape = Tape({0: list(range(50)), 1: list(range(5000))}, random.Random(0))
    bound = {0: 3, 1: 2000}
    position, seen = {0: 0, 1: 0}, {0: [], 1: []}
    capped = Capped(tape.reader, position, lambda: bound, lambda _s: None, moves=False)
    read_on(capped, bound, seen, position)
    assert seen == {0: [0, 1, 2], 1: list(range(2000))}
    assert tape.readers < 4
