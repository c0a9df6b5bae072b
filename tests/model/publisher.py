"""An explicit-state model of the publisher of public topics: every interleaving, breadth first.

A physical topic has one record per source offset (or none, where a version emits nothing), so that
positions and source offsets are one number. Two processes run the publisher; each may be frozen at
any point (the other goes on), and one may crash. Live goes on, and is promoted away in between.

An epoch of the pointer is one or two units, in this order: the difference (``changed`` alone), and
what is forwarded. A unit is *live*, *ending* (it runs to where its topic ended at the swap),
*stopping* (the next epoch appends the whole history) or *over*. A unit begins when all before it
are over.

Each field of `Rules` is one rule of the design; switched off, the search finds what it is for
(``test_publisher.py``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

KEYS = "xy"  # the key of each source offset
N = len(KEYS)
LIVE, ENDING, STOPPING, OVER = "live", "ending", "stopping", "over"


@dataclass(frozen=True)
class Rules:
    """The rules; all of them hold in the design.

    Attributes:
        in_turn: A unit begins when all before it are over.
        settled: A unit that is stopped is over only after its own start sequence.
        leased: It is over only by a compare-and-set on its lease.
        lease_after_fence: A session looks at its lease once more after it has fenced others.
        stage_after_fence: A session looks at the stage after it has fenced others.
        stage_after_read: What was read is published only if the stage, looked at after reading,
            is still the same: a version that was promoted away may write again, as a shadow.
        witness: A batch that was published and not stored is found by its witness.
        fence: The log refuses who was fenced.
        skip: ``none`` and ``changed`` forward nothing below the swap.
        ends: A unit that is ending stops where its topic ended at the swap.
        kept: The difference is computed once, and stored before it is published.
        from_public: It is taken against what the public topic says, not against base's topic.
        one_swap: Pointer and epoch change in one transaction.
    """

    in_turn: bool = True
    settled: bool = True
    leased: bool = True
    lease_after_fence: bool = True
    stage_after_fence: bool = True
    stage_after_read: bool = True
    witness: bool = True
    fence: bool = True
    skip: bool = True
    ends: bool = True
    kept: bool = True
    from_public: bool = True
    one_swap: bool = True


@dataclass(frozen=True)
class Story:
    """What happens around the publisher.

    Attributes:
        labels: The version that each epoch names.
        policies: How each epoch but the first follows the one before.
        processes: How many run the publisher.
        crashes: How many times one of them is killed.
    """

    labels: str
    policies: tuple[str, ...]
    processes: int = 2
    crashes: int = 1


class Unit(NamedTuple):
    """One unit: its stage, its bounds, and what the log and the store hold of it."""

    epoch: int
    label: str
    diff: bool
    stage: str
    begin: int  # nothing below it is forwarded
    end: int | None  # where its topic ended at the swap
    lease: int = -1
    producer: int = -1
    witness: tuple[int, int] = (0, 0)  # position, batch
    cursor: tuple[int, int] = (0, 0)
    kept: tuple[tuple[str, str], ...] | None = None  # the difference: key, value ("-": tombstone)


class Process(NamedTuple):
    """One process: where it is, in which unit, and what it remembers."""

    at: str = "idle"
    unit: int = -1
    cursor: tuple[int, int] = (0, 0)
    stage: str = ""
    diff: tuple[tuple[str, str], ...] | None = None


class Record(NamedTuple):
    """A record of the public topic."""

    epoch: int
    source: int  # -1: of the difference
    key: str
    value: str


class State(NamedTuple):
    """Everything."""

    physical: tuple[tuple[str, int], ...]  # how far each version has come
    pointer: int
    swapping: bool  # the pointer has moved and the epoch has not (only without one_swap)
    units: tuple[Unit, ...]
    out: tuple[Record, ...]
    processes: tuple[Process, ...]
    crashes: int


def value(label: str, source: int) -> str | None:
    """Return what a version makes of a source offset: K loses key y; Z says what K says."""
    if label == "K" and KEYS[source] == "y":
        return None
    return f"{'K' if label == 'Z' else label}{source}"


def newest(label: str, to: int) -> dict[str, str]:
    """Return the last value of each key, as a version has it before an offset."""
    found = {KEYS[s]: value(label, s) for s in range(to) if value(label, s) is not None}
    return {k: v for k, v in found.items() if v is not None}


def shown(out: tuple[Record, ...]) -> dict[str, str]:
    """Return what a reader who keeps the last value of each key has."""
    found: dict[str, str] = {}
    for record in out:
        found[record.key] = record.value
    return {k: v for k, v in found.items() if v != "-"}


def initial(story: Story) -> State:
    """Return the beginning: the first version has run, and its epoch has begun."""
    physical = tuple((label, N - 1 if label == story.labels[0] else 0) for label in "KMZ")
    first = Unit(1, story.labels[0], diff=False, stage=LIVE, begin=0, end=None)
    processes = (Process(),) * story.processes
    return State(physical, 1, False, (first,), (), processes, story.crashes)


def with_unit(s: State, i: int, unit: Unit) -> State:
    """Return the state with another unit in place of the i-th."""
    return s._replace(units=(*s.units[:i], unit, *s.units[i + 1 :]))


def with_process(s: State, w: int, process: Process) -> State:
    """Return the state with another process in place of the w-th."""
    return s._replace(processes=(*s.processes[:w], process, *s.processes[w + 1 :]))


def around(s: State, story: Story, rules: Rules) -> Iterator[tuple[str, State]]:
    """Yield what live, shadow and promotion may do."""
    at = dict(s.physical)
    label = story.labels[s.pointer - 1]
    if at[label] < N:
        yield f"live {label} goes on", _written(s, label, at[label] + 1)
    if s.pointer < len(story.labels):
        head = story.labels[s.pointer]
        if at[head] < at[label]:
            yield f"shadow {head} catches up", _written(s, head, at[label])
        elif rules.one_swap:
            yield f"swap to {head}", begun(s._replace(pointer=s.pointer + 1), story)
        elif not s.swapping:
            yield f"pointer to {head}", s._replace(pointer=s.pointer + 1, swapping=True)
    if s.swapping:
        yield "the epoch follows", begun(s._replace(swapping=False), story)
        yield "promote dies: the epoch never follows", s._replace(swapping=False)


def _written(s: State, label: str, to: int) -> State:
    return s._replace(physical=tuple((n, to if n == label else at) for n, at in s.physical))


def begun(s: State, story: Story) -> State:
    """Return the state after the swap's transaction: earlier units end or stop, a new one is."""
    policy, label = story.policies[s.pointer - 2], story.labels[s.pointer - 1]
    at = dict(s.physical)
    units = []
    for unit in s.units:
        changed = unit
        if unit.stage in {LIVE, ENDING} and policy == "append":
            changed = unit._replace(stage=STOPPING)
        elif unit.stage == LIVE and not unit.diff:
            changed = unit._replace(stage=ENDING, end=at[unit.label])
        units.append(changed)
    begin = 0 if policy == "append" else at[label]
    if policy == "changed":
        units.append(Unit(s.pointer, label, diff=True, stage=LIVE, begin=0, end=begin))
    units.append(Unit(s.pointer, label, diff=False, stage=LIVE, begin=begin, end=None))
    return s._replace(units=tuple(units))


def steps(s: State, w: int, rules: Rules) -> Iterator[tuple[str, State]]:
    """Yield what the w-th process may do next."""
    yield from ACTS[s.processes[w].at](s, w, rules)


def _idle(s: State, w: int, rules: Rules) -> Iterator[tuple[str, State]]:
    """Turn to the first unit that is not over."""
    for i, unit in enumerate(s.units):
        if unit.stage != OVER:
            yield f"{w} turns to {named(unit)}", with_process(s, w, Process("lease", i))
            if rules.in_turn:
                return


def _lease(s: State, w: int, rules: Rules) -> Iterator[tuple[str, State]]:
    p = s.processes[w]
    unit = s.units[p.unit]
    if unit.stage == STOPPING and not rules.settled:
        yield f"{w} closes {named(unit)}", over(s, w, p.unit)
        return
    taken = with_unit(s, p.unit, unit._replace(lease=w))
    yield f"{w} takes the lease of {named(unit)}", with_process(taken, w, p._replace(at="fence"))


def _fence(s: State, w: int, _rules: Rules) -> Iterator[tuple[str, State]]:
    p = s.processes[w]
    unit = s.units[p.unit]
    fenced = with_unit(s, p.unit, unit._replace(producer=w))
    yield f"{w} fences others of {named(unit)}", with_process(fenced, w, p._replace(at="read"))


def _look(s: State, w: int, rules: Rules) -> Iterator[tuple[str, State]]:
    """Look at the stage once more, now that something was read."""
    p = s.processes[w]
    unit = s.units[p.unit]
    if unit.stage != p.stage and rules.stage_after_read:
        yield f"{w} sees another stage of {named(unit)}", with_process(s, w, Process())
    else:
        yield f"{w} looks at {named(unit)}", with_process(s, w, p._replace(at="publish"))


def _close(s: State, w: int, rules: Rules) -> Iterator[tuple[str, State]]:
    p = s.processes[w]
    unit = s.units[p.unit]
    if unit.lease == w or not rules.leased:
        yield f"{w} closes {named(unit)}", over(s, w, p.unit)
    else:
        yield f"{w} may not close {named(unit)}", with_process(s, w, Process())


def named(unit: Unit) -> str:
    """Return a unit's name."""
    return f"e{unit.epoch}{'.changed' if unit.diff else ''}"


def over(s: State, w: int, i: int) -> State:
    """Return the state with a unit that is over; its process looks for the next."""
    return with_process(with_unit(s, i, s.units[i]._replace(stage=OVER)), w, Process())


def _read(s: State, w: int, rules: Rules) -> Iterator[tuple[str, State]]:
    """Look at the lease again, finish what was published and not stored."""
    p = s.processes[w]
    unit = s.units[p.unit]
    if unit.lease != w and rules.lease_after_fence:
        yield f"{w} has lost the lease of {named(unit)}", with_process(s, w, Process())
        return
    if rules.witness and unit.witness[1] == unit.cursor[1] + 1:
        if unit.lease == w:
            unit = unit._replace(cursor=unit.witness)
            s = with_unit(s, p.unit, unit)
        else:
            yield f"{w} cannot redo in {named(unit)}", with_process(s, w, Process())
            return
    read = p._replace(at="stage", cursor=unit.cursor)
    yield f"{w} reads where {named(unit)} stands", with_process(s, w, read)


def _stage(s: State, w: int, rules: Rules) -> Iterator[tuple[str, State]]:
    """Look at the stage: may this unit still run, and how far?"""
    p = s.processes[w]
    unit = s.units[p.unit]
    stage = unit.stage
    if stage == OVER and rules.stage_after_fence:
        yield f"{w} sees that {named(unit)} is over", with_process(s, w, Process())
        return
    if stage == STOPPING:
        yield f"{w} has settled {named(unit)}", with_process(s, w, p._replace(at="close"))
        return
    if unit.diff:
        diff = unit.kept if rules.kept and unit.kept is not None else difference(s, unit, rules)
        if rules.kept and unit.kept is None:
            if unit.lease != w:
                yield f"{w} may not keep a difference", with_process(s, w, Process())
                return
            s = with_unit(s, p.unit, unit._replace(kept=diff))
        p = p._replace(diff=diff)
    running = p._replace(at="run", stage=stage)
    yield f"{w} may run {named(unit)} ({stage})", with_process(s, w, running)


def difference(s: State, unit: Unit, rules: Rules) -> tuple[tuple[str, str], ...]:
    """Return what has to be said so that readers have what the head says: key, value."""
    head = newest(unit.label, unit.end or 0)
    base = shown(s.out)
    if not rules.from_public:
        before = next(u for u in reversed(s.units) if u.epoch < unit.epoch and not u.diff)
        base = newest(before.label, unit.end or 0)
    gone = [(key, "-") for key in sorted(base.keys() - head.keys())]
    return (*gone, *((k, v) for k, v in sorted(head.items()) if base.get(k) != v))


def _run(s: State, w: int, rules: Rules) -> Iterator[tuple[str, State]]:
    """Read the next batch of one record; or see that there is none, or another stage."""
    p = s.processes[w]
    unit = s.units[p.unit]
    position = p.cursor[0]
    end = _end(s, unit, p, rules)
    if end is not None and position >= end:
        yield (
            f"{w} has reached the end of {named(unit)}",
            with_process(s, w, p._replace(at="close")),
        )
    elif unit.diff or position < dict(s.physical)[unit.label]:
        yield f"{w} reads {position} of {named(unit)}", with_process(s, w, p._replace(at="look"))
    elif unit.stage != p.stage:
        yield f"{w} sees another stage of {named(unit)}", with_process(s, w, Process())


def _publish(s: State, w: int, rules: Rules) -> Iterator[tuple[str, State]]:
    """Append the record and move the witness, in one transaction of the log."""
    p = s.processes[w]
    unit = s.units[p.unit]
    position, batch = p.cursor
    if unit.producer != w and rules.fence:
        yield f"{w} is fenced in {named(unit)}", with_process(s, w, Process())
        return
    published = s.out
    record = _record(unit, position, p)
    if record is not None and (unit.diff or position >= unit.begin or not rules.skip):
        published = (*s.out, record)
    after = unit._replace(witness=(position + 1, batch + 1))
    s = with_unit(s._replace(out=published), p.unit, after)
    yield f"{w} publishes {position} of {named(unit)}", with_process(s, w, p._replace(at="store"))


def _end(s: State, unit: Unit, p: Process, rules: Rules) -> int | None:
    if unit.diff:
        return len(p.diff or ())
    if p.stage != ENDING:
        return None
    return unit.end if rules.ends else dict(s.physical)[unit.label]


def _record(unit: Unit, position: int, p: Process) -> Record | None:
    if unit.diff:
        key, text = (p.diff or ())[position]
        return Record(unit.epoch, -1, key, text)
    made = value(unit.label, position)
    return None if made is None else Record(unit.epoch, position, KEYS[position], made)


def _store(s: State, w: int, _rules: Rules) -> Iterator[tuple[str, State]]:
    """Move the cursor, by compare-and-set; the same transaction reads the stage."""
    p = s.processes[w]
    unit = s.units[p.unit]
    if unit.lease != w or unit.cursor != p.cursor:
        yield f"{w} may not store in {named(unit)}", with_process(s, w, Process())
        return
    moved = (p.cursor[0] + 1, p.cursor[1] + 1)
    s = with_unit(s, p.unit, unit._replace(cursor=moved))
    goes_on = p._replace(at="run", cursor=moved) if unit.stage == p.stage else Process()
    yield f"{w} stores {moved[0]} of {named(unit)}", with_process(s, w, goes_on)


ACTS: dict[str, Callable[[State, int, Rules], Iterator[tuple[str, State]]]] = {
    "idle": _idle,
    "lease": _lease,
    "fence": _fence,
    "read": _read,
    "stage": _stage,
    "run": _run,
    "look": _look,
    "publish": _publish,
    "store": _store,
    "close": _close,
}


def successors(s: State, story: Story, rules: Rules) -> Iterator[tuple[str, State]]:
    """Yield everything that may happen next."""
    yield from around(s, story, rules)
    for w, process in enumerate(s.processes):
        yield from steps(s, w, rules)
        if s.crashes and process.at != "idle":
            killed = with_process(s, w, Process())
            yield f"{w} is killed", killed._replace(crashes=s.crashes - 1)


def violation(s: State) -> str | None:
    """Return what is wrong with what readers have seen."""
    seen = set()
    epoch, source = 0, -2
    for record in s.out:
        if record.epoch < epoch:
            return "a record of an older epoch after one of a newer"
        if record.epoch > epoch:
            epoch, source = record.epoch, -2
        which = (record.epoch, record.source, record.key)
        if which in seen:
            return "a record twice in one epoch"
        seen.add(which)
        if record.source < source:
            return "records of an epoch are out of order"
        source = record.source
    return None


def done(s: State, story: Story) -> bool:
    """Say whether everything has been done, and everybody has caught up."""
    last = s.units[-1]
    return (
        s.pointer == len(story.labels)
        and not s.swapping
        and dict(s.physical)[story.labels[-1]] == N
        and last.epoch == s.pointer
        and all(u.stage == OVER for u in s.units[:-1])
        and last.cursor[0] == N
        and last.witness == last.cursor
    )


def incomplete(s: State, story: Story) -> str | None:
    """Return what readers lack once everything has been done."""
    begins = {u.epoch: u.begin for u in s.units if not u.diff}
    ends = {u.epoch: u.end for u in s.units if not u.diff}
    policies = dict(enumerate(story.policies, 2))
    for epoch, label in enumerate(story.labels, 1):
        found = [r.source for r in s.out if r.epoch == epoch and r.source >= 0]
        end = N if epoch == len(story.labels) else ends[epoch]
        whole = [
            o
            for o in range(begins[epoch], N if end is None else end)
            if value(label, o) is not None
        ]
        stopped = "append" in [policies.get(e) for e in range(epoch + 1, len(story.labels) + 1)]
        if found != whole and not (stopped and found == whole[: len(found)]):
            return f"epoch {epoch} shows {found}, and should show {whole}"
    if "changed" in story.policies[-1:] and shown(s.out) != newest(story.labels[-1], N):
        return f"readers have {shown(s.out)}, the head says {newest(story.labels[-1], N)}"
    return None


@dataclass(frozen=True)
class Found:
    """What a search found: how many states, what is wrong (None: nothing), and the way there."""

    states: int
    wrong: str | None
    way: tuple[str, ...] = ()


def explore(story: Story, rules: Rules = Rules(), most: int = 400_000) -> Found:
    """Search every interleaving of a story, and say the first thing that goes wrong, if any."""
    first = initial(story)
    number = {first: 0}
    states = [first]
    came: list[tuple[int, str]] = [(-1, "")]
    before: list[list[int]] = [[]]

    def found(wrong: str | None, i: int = 0, last: str = "") -> Found:
        way = [last] if last else []
        while i > 0:
            i, label = came[i]
            way.append(label)
        return Found(len(states), wrong, tuple(reversed(way)))

    good = []
    for i in range(most):
        if i == len(states):
            break
        if done(states[i], story):
            wrong = incomplete(states[i], story)
            if wrong is not None:
                return found(wrong, i)
            good.append(i)
        for label, state in successors(states[i], story, rules):
            j = number.get(state)
            if j is None:
                wrong = violation(state)
                if wrong is not None:
                    return found(wrong, i, label)
                j = number[state] = len(states)
                states.append(state)
                came.append((i, label))
                before.append([])
            before[j].append(i)
    else:
        raise AssertionError(f"more than {most} states")
    stuck = _stuck(before, good)
    return found(None) if stuck is None else found("there is no way on", stuck)


def _stuck(before: list[list[int]], good: list[int]) -> int | None:
    """Return the first state from which nothing good can be reached, or None."""
    reach = bytearray(len(before))
    waiting = deque(good)
    for i in good:
        reach[i] = 1
    while waiting:
        for j in before[waiting.popleft()]:
            if not reach[j]:
                reach[j] = 1
                waiting.append(j)
    return next((i for i, ok in enumerate(reach) if not ok), None)
