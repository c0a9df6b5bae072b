"""What happens while batches run, told to one callable.

Progress bars, JSON logs and the crash points of the tests all hang on it. A crash point is
switched on by ``PLAYHEAD_CRASH=<step>[:<nth>]``: the process kills itself (SIGKILL) when the
step is told for the nth time. ``PLAYHEAD_CRASH=<step>:<nth>:SIGSTOP`` freezes it there instead.
Nothing is checked when the variable is not set.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

# Every point between two durable effects: of a batch, a snapshot, a restore, a rewind, a skip, an
# epoch of a public topic, a swap. The crash matrix of the tests kills a process at each of them.
STEPS = (
    "computed",
    "begin",
    "produced",
    "group offsets sent",
    "witness offsets sent",
    "before log commit",
    "after log commit",
    "before store commit",
    "after compare-and-set",
    "between delta and rows",
    "after store commit",
    "after advisory commit",
    "before snapshot",
    "after snapshot",
    "before restore",
    "after restore",
    "rewind intent",
    "rewind stored",
    "group advised",
    "skip intent",
    "before difference kept",
    "after difference kept",
    "before epoch over",
    "after epoch over",
    "hold asked",
    "live stands",
    "head stands",
    "before swap",
    "after swap",
    "hold given back",
    "mirror built",
    "groups removed",
    "topics removed",
)


@dataclass(frozen=True, slots=True)
class Step:
    """A point between two durable effects was reached."""

    name: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something is away; ``why`` says what is waited for. Told once, until `Recovered`."""

    version: str
    why: str


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was waited for is back; ``waited_s`` seconds after it was missed."""

    version: str
    waited_s: float


@dataclass(frozen=True, slots=True)
class Warned:
    """Something is not as it should be, and there is a way on without it."""

    version: str
    why: str


@dataclass(frozen=True, slots=True)
class Restarted:
    """A session decided what to do with a partition, and it was not the normal thing."""

    version: str
    place: str
    why: str


@dataclass(frozen=True, slots=True)
class Reading:
    """A worker's session begins to read; told again whenever the bound it reads up to has moved.

    Attributes:
        version: Who reads.
        positions: Where it stands, by partition.
        bound: Where it ends; nothing where it goes on for ever.
        moves: Whether the bound goes on moving.
    """

    version: str
    positions: dict[int, int]
    bound: dict[int, int]
    moves: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """A worker stands still for a promotion, between two batches, with nothing pending."""

    version: str
    positions: dict[int, int]


@dataclass(frozen=True, slots=True)
class BatchDone:
    """A batch was committed: log and store hold it.

    ``times_ms`` has the newest event time among the batch's records, by partition.
    """

    version: str
    records: int
    positions: dict[int, int]
    times_ms: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SessionOver:
    """The assignment ended; the start sequence follows."""

    version: str
    why: str


Event = Step | Waiting | Recovered | Warned | Restarted | Reading | Held | BatchDone | SessionOver
OnEvent = Callable[[Event], None]


def listener(on_event: OnEvent | None = None) -> OnEvent:
    """Return the callable to tell: ``on_event``, behind the crash point if one is switched on."""
    tell = on_event or (lambda _event: None)
    wanted = os.environ.get("PLAYHEAD_CRASH")
    if not wanted:
        return tell
    name, *more = wanted.split(":")
    nth = int(more[0]) if more else 1
    how = signal.Signals[more[1]] if len(more) > 1 else signal.SIGKILL
    seen = 0

    def crash(event: Event) -> None:
        nonlocal seen
        if isinstance(event, Step) and event.name == name:
            seen += 1
            if seen == nth:
                # To this thread, not to the process: so it takes effect before the next line runs.
                signal.pthread_kill(threading.get_ident(), how)
        tell(event)

    return crash
