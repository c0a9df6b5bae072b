"""The hold and the swap, as a search over everything that may happen in between.

An explicit-state model in the manner of the one from which the restart table came: breadth first
over all interleavings of two processes that run what is live, two promotions, a shadow, kills, and
processes that stand still while what they hold lapses. Each rule of `RULES` is what the product
does; switched off, the search finds a trace to something that must never be.

What is modelled, for one partition of ``RECORDS`` records:

- base: ``cursor`` (what the store holds), ``published`` (what its topic holds, a batch ahead
  between the two commits), ``epoch`` of its lease, ``fence`` (the session that may publish);
- head: ``head``, its cursor; how its own batches are committed is the restart table's model;
- ``hold``: its epoch and whether it is in force; ``said``: the hold and the lease epoch that were
  acknowledged last;
- ``live``: base (0) or head (1); ``runs``: who has base's ``worker/`` lease.

Two things that the product does are not among the rules, for nothing is found without them: that
an acknowledgement names its hold, and that the swap compares live's cursors. Both follow from the
leases, which are taken only from the very session that acknowledged.

``python tests/model/hold.py`` prints one trace a rule.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

RECORDS = 1
RULES = {
    "acknowledged": "leases are taken only after live has said that it stands still",
    "between batches": "live says so only when nothing that it published is not stored",
    "leases": "the promotion takes live's leases, so what live computed is refused",
    "leases as said": "it takes them only from the session that has said that it stands still",
    "swap checks leases": "the swap compares live's lease epochs",
    "swap checks head": "the swap compares head's cursors",
    "new session": "after a hold live begins a new session before it publishes anything",
    "stage after lease": "a session reads its version's stage after it has the leases",
    "expires": "a hold whose promotion is gone ends by itself",
    "cap": "a shadow never passes live",
    "settled": "where nobody runs live, what is pending is finished before it is compared",
}
NOBODY = 9


class Worker(NamedTuple):
    """A process that runs what is live."""

    at: str = "off"
    epoch: int = 0
    end: int = 0
    hold: int = 0


class Promotion(NamedTuple):
    """A process that promotes head."""

    at: str = "off"
    hold: int = 0
    epoch: int = 0
    said: int = 0
    barrier: int = 0


class State(NamedTuple):
    """Everything at one moment; ``kills``, ``lapses``, ``rewinds`` are what may still happen."""

    cursor: int = 0
    published: int = 0
    epoch: int = 0
    fence: int = 0
    head: int = 0
    hold: tuple[int, bool] = (0, False)
    said: tuple[int, int] = (0, 0)
    live: int = 0
    runs: int = NOBODY
    workers: tuple[Worker, ...] = (Worker(), Worker())
    promotions: tuple[Promotion, ...] = (Promotion(), Promotion())
    kills: int = 1
    lapses: int = 1
    rewinds: int = 1


Found = tuple[str, State]


class Model:
    """The protocol with some rules switched off."""

    def __init__(self, without: tuple[str, ...] = ()) -> None:
        unknown = set(without) - set(RULES)
        if unknown:
            raise ValueError(f"no such rules: {unknown}")
        self._without = set(without)

    def has(self, rule: str) -> bool:
        return rule not in self._without

    def next(self, s: State) -> Iterator[Found]:
        """Every step that may come next, with its name."""
        for i, worker in enumerate(s.workers):
            for name, after in self._worker(s, i, worker):
                yield f"worker {i} {name}", after
        for i, promotion in enumerate(s.promotions):
            for name, after in self._promotion(s, i, promotion):
                yield f"promotion {i} {name}", after
        yield from self._shadow(s)
        yield from self._accidents(s)

    # ------------------------------------------------------------------ what runs live

    def _worker(  # noqa: C901, PLR0912  a case a step
        self, s: State, i: int, w: Worker
    ) -> Iterator[Found]:
        def to(at: str, state: State = s, **more: int) -> State:
            changed = w._replace(at=at, **more)
            return state._replace(workers=put(state.workers, i, changed))

        match w.at:
            case "off" if s.runs == NOBODY:
                yield "starts", to("start", s._replace(runs=i))
            case "start" if s.runs != i:
                yield "finds another in its place", to("off")
            case "start" if not self.has("stage after lease"):
                yield "reads the stage", to("stage read" if s.live == 0 else "head")
            case "start" | "stage read":
                yield "takes the lease and finishes what is pending", self._begun(s, to)
            case "begun":
                yield "reads the stage", to("run" if s.live == 0 else "head")
            case "run":
                yield from self._run(s, i, w, to)
            case "published":
                yield self._stored(s, w, to)
                if not self.has("between batches") and s.hold[1]:
                    said = (s.hold[0], w.epoch)
                    yield "acknowledges in the middle of a batch", s._replace(said=said)
            case "held":
                if s.hold == (w.hold, True):
                    yield "acknowledges", to("waits", s._replace(said=(w.hold, w.epoch)))
                else:
                    yield "finds the hold gone", to("run")
            case "waits" if s.live == 1:
                yield "finds head live", to("head")
            case "waits" if s.hold != (w.hold, True):
                yield "goes on", to("start" if self.has("new session") else "run")

    def _begun(self, s: State, to: Callable[..., State]) -> State:
        epoch = s.epoch + 1
        begun = s._replace(epoch=epoch, fence=epoch, cursor=s.published)
        ready = "begun" if self.has("stage after lease") else "run"
        return to(ready, begun, epoch=epoch)

    def _run(self, s: State, i: int, w: Worker, to: Callable[..., State]) -> Iterator[Found]:
        if s.hold[1] and s.live == 0:
            yield "sees the hold", to("held", hold=s.hold[0])
        if s.fence != w.epoch:
            yield "is fenced", to("start")
            return
        for end in range(s.published + 1, RECORDS + 1):
            yield (
                f"publishes [{s.published}, {end})",
                to("published", s._replace(published=end), end=end),
            )

    def _stored(self, s: State, w: Worker, to: Callable[..., State]) -> Found:
        if s.epoch != w.epoch:
            return "stores nothing: the lease is another's", to("start")
        stored = s._replace(cursor=w.end)
        if s.live == 1:
            return "stores, and is retired", to("head", stored)
        if s.hold[1]:
            return "stores, and sees the hold", to("held", stored, hold=s.hold[0])
        return "stores", to("run", stored)

    # ------------------------------------------------------------------ what promotes

    def _promotion(  # noqa: C901, PLR0912  a case a step
        self, s: State, i: int, p: Promotion
    ) -> Iterator[Found]:
        def to(at: str, state: State = s, **more: int) -> State:
            changed = p._replace(at=at, **more)
            return state._replace(promotions=put(state.promotions, i, changed))

        number, in_force = s.hold
        match p.at:
            case "off" if not in_force and s.live == 0 and (i == 0 or s.promotions[0].at != "off"):
                asked = s._replace(hold=(number + 1, True))
                yield "asks live to hold", to("asked", asked, hold=number + 1)
            case "asked":
                if s.said[0] == p.hold or not self.has("acknowledged"):
                    said = s.said[1] if self.has("acknowledged") else s.epoch
                    yield "goes on to the leases", to("heard", said=said)
                if s.runs == NOBODY:
                    yield "finds nobody running live", to("settles", s._replace(runs=10 + i))
                yield "has waited long enough", to("over", self._released(s, p))
            case "heard":
                if p.said != s.epoch and self.has("leases as said"):
                    yield "finds a newer session of live", to("asked")
                else:
                    yield "takes the lease", self._leased(s, to)
            case "settles":
                after = self._leased(s, to)
                if self.has("settled"):
                    after = after._replace(fence=after.epoch, cursor=s.published)
                    after = put_barrier(after, i, s.published)
                yield "settles what nobody runs", after
            case "leased":
                if s.head == p.barrier:
                    yield "finds head where live stands", to("ready")
                yield "has waited long enough for head", to("over", self._released(s, p))
            case "ready":
                yield self._swap(s, p, to)
            case "swapped":
                yield "gives the hold back", to("over", self._released(s, p))

    def _leased(self, s: State, to: Callable[..., State]) -> State:
        epoch = s.epoch + 1 if self.has("leases") else s.epoch
        return to("leased", s._replace(epoch=epoch), epoch=epoch, barrier=s.cursor)

    def _swap(self, s: State, p: Promotion, to: Callable[..., State]) -> Found:
        wrong = (
            s.live == 1
            or (self.has("swap checks leases") and s.epoch != p.epoch)
            or s.cursor != p.barrier
            or (self.has("swap checks head") and s.head != p.barrier)
        )
        if wrong:
            return "is refused the swap", to("over", self._released(s, p))
        return "swaps", to("swapped", s._replace(live=1))

    @staticmethod
    def _released(s: State, p: Promotion) -> State:
        runs = NOBODY if s.runs >= 10 else s.runs
        if s.hold[0] != p.hold:
            return s._replace(runs=runs)
        return s._replace(hold=(s.hold[0], False), runs=runs)

    # ------------------------------------------------------------------ the rest

    def _shadow(self, s: State) -> Iterator[Found]:
        """Head: capped while it is a shadow; whoever runs it, it is one process's at a time."""
        bound = s.cursor if s.live == 0 and self.has("cap") else RECORDS
        if s.head < bound:
            yield f"head comes to {s.head + 1}", s._replace(head=s.head + 1)
        if s.rewinds and s.live == 0 and s.head:
            yield "somebody rewinds head", s._replace(head=0, rewinds=0)

    def _accidents(self, s: State) -> Iterator[Found]:
        number, in_force = s.hold
        asking = [p for p in s.promotions if p.hold == number and p.at not in {"off", "over"}]
        if in_force and (not asking and self.has("expires")):
            yield "the hold of a dead promotion ends", s._replace(hold=(number, False))
        if in_force and asking and s.lapses:
            lapsed = s._replace(hold=(number, False), lapses=0)
            yield "the hold of a promotion that stands still expires", lapsed
        if s.lapses and s.runs != NOBODY:
            yield "a worker lease expires", s._replace(runs=NOBODY, lapses=0)
        if not s.kills:
            return
        for i, worker in enumerate(s.workers):
            if worker.at != "off":
                gone = s._replace(workers=put(s.workers, i, Worker()), kills=0)
                yield f"worker {i} is killed", gone._replace(runs=NOBODY if s.runs == i else s.runs)
        for i, promotion in enumerate(s.promotions):
            if promotion.at not in {"off", "over"}:
                dead = promotion._replace(at="over")
                gone = s._replace(promotions=put(s.promotions, i, dead), kills=0)
                runs = NOBODY if s.runs == 10 + i else s.runs
                yield f"promotion {i} is killed", gone._replace(runs=runs)


def put(items: tuple, i: int, item: object) -> tuple:  # type: ignore[type-arg]
    return (*items[:i], item, *items[i + 1 :])


def put_barrier(s: State, i: int, barrier: int) -> State:
    return s._replace(promotions=put(s.promotions, i, s.promotions[i]._replace(barrier=barrier)))


def renamed(s: State) -> State:
    """Return the same state without what nobody will look at, its epochs counted anew."""
    s = s._replace(
        workers=tuple(map(_worker_now, s.workers)),
        promotions=tuple(map(_promotion_now, s.promotions)),
    )
    epochs = {s.epoch, s.fence, s.said[1], *(w.epoch for w in s.workers)}
    epochs |= {e for p in s.promotions for e in (p.epoch, p.said)}
    new = {old: i for i, old in enumerate(sorted(epochs | {0}))}
    return s._replace(
        epoch=new[s.epoch],
        fence=new[s.fence],
        said=(s.said[0], new[s.said[1]]),
        workers=tuple(w._replace(epoch=new[w.epoch]) for w in s.workers),
        promotions=tuple(p._replace(epoch=new[p.epoch], said=new[p.said]) for p in s.promotions),
    )


def _worker_now(w: Worker) -> Worker:
    return Worker(
        w.at,
        epoch=0 if w.at in {"off", "start", "stage read", "head"} else w.epoch,
        end=w.end if w.at == "published" else 0,
        hold=w.hold if w.at in {"held", "waits"} else 0,
    )


def _promotion_now(p: Promotion) -> Promotion:
    match p.at:
        case "off" | "over":
            return Promotion(p.at)
        case "asked" | "settles":
            return Promotion(p.at, hold=p.hold)
        case "heard":
            return p._replace(epoch=0)
        case _:
            return p._replace(said=0)


def broken(before: State, after: State) -> str | None:
    """Say what must never be, where a step leads to it."""
    if before.live == 0 and after.live == 1:
        if after.head != after.cursor:
            return f"the swap leaves a gap: live at {after.cursor}, head at {after.head}"
        if after.published != after.cursor:
            return f"live had published up to {after.published}, and head goes on at {after.head}"
    if before.live == 1 and before[:2] != after[:2]:
        return f"a retired version moved: {before[:2]} → {after[:2]}"
    if after.live == 0 and after.head > after.cursor:
        return f"the shadow is ahead of live: {after.head} > {after.cursor}"
    return None


def done(s: State) -> bool:
    """Say whether everything was processed."""
    return s.head == RECORDS if s.live else s.cursor == s.published == RECORDS


def begin(
    workers: int = 1, promotions: int = 1, kills: int = 1, lapses: int = 1, rewinds: int = 0
) -> State:
    """Return where a search begins: how many processes there are, and what may befall them."""
    return State(
        workers=(Worker(),) * workers,
        promotions=(Promotion(),) * promotions,
        kills=kills,
        lapses=lapses,
        rewinds=rewinds,
    )


SCENES = (begin(rewinds=1), begin(workers=2), begin(promotions=2))


def search(model: Model, first: State) -> tuple[int, str | None, list[str]]:
    """Return how many states there are, what is wrong, and the shortest trace to it."""
    found: dict[State, int] = {first: 0}
    states, came = [first], [(-1, "")]
    backwards: list[list[int]] = [[]]
    at = 0
    while at < len(states):
        for name, after in model.next(states[at]):
            why = broken(states[at], after)
            if why:
                return len(states), why, [*_trace(came, at), name]
            same = renamed(after)
            if same not in found:
                found[same] = len(states)
                states.append(same)
                came.append((at, name))
                backwards.append([])
            backwards[found[same]].append(at)
        at += 1
    stuck = _stuck(states, backwards)
    if stuck is None:
        return len(states), None, []
    return len(states), "nothing goes on any more", _trace(came, stuck)


def _trace(came: list[tuple[int, str]], at: int) -> list[str]:
    steps = []
    while at:
        at, name = came[at]
        steps.append(name)
    return steps[::-1]


def _stuck(states: list[State], backwards: list[list[int]]) -> int | None:
    """Return the first state from which the end cannot be reached, or None."""
    reaches = {i for i, state in enumerate(states) if done(state)}
    waiting = deque(reaches)
    while waiting:
        for before in backwards[waiting.popleft()]:
            if before not in reaches:
                reaches.add(before)
                waiting.append(before)
    return next((i for i in range(len(states)) if i not in reaches), None)


def find(without: tuple[str, ...] = ()) -> tuple[int, str | None, list[str]]:
    """Search every scene; return the states in all, and the first thing that is wrong."""
    total = 0
    for first in SCENES:
        states, why, trace = search(Model(without), first)
        total += states
        if why:
            return total, why, trace
    return total, None, []


if __name__ == "__main__":
    for without in ((), *((rule,) for rule in RULES)):
        states, why, trace = find(without)
        print(f"without {without or 'nothing'}: {states} states: {why or 'holds'}")
        for step in trace:
            print(f"        {step}")
