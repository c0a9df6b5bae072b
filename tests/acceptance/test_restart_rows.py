"""The restart table of the design, each row brought about for real, on both logs.

``ROWS`` below is the mapping: the design's words for a row, then each way to bring it about, what
a session finds there (checked), and how it ends. ``core/restart.py`` has the table as code,
``tests/unit/test_restart.py`` as a pure function; here the installed command meets it.

- A refusal: exit 3, the message, and nothing is changed: not the table, topic, groups or cursor.
- Going on: what is said, which generation holds which offsets of the source, each once and in
  order, values and table equal to the oracle, group and witness where the cursor is.

How a situation is made is in ``makings.py``: kills, backups of the store that are put back,
offsets that are put back (a log that lost its end). Resets and deletions of groups are done from
outside: with Kafka's own tool there, in the file of the local log. The rules of sessions are in
``test_session_rules.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from makings import (
    Wait,
    before_a_rewind,
    begun,
    forgotten,
    in_doubt,
    k_lost,
    k_lost_a_generation,
    log_lost,
    new,
    one_back,
    rewinding,
    rewinding_ahead,
    settled,
    shared,
    store_gone,
    two_back,
    unadvised,
)
from proof import figures
from servers import KafkaServer
from situations import GONE, UNTIL, Scene, points, totals, touch

# --- the rows ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One way to bring a row about.

    Attributes:
        made: How store and log came to be.
        seen: What the session finds; checked.
        says: What it says.
        group: Where the group is put from outside: "C+4" and the like, or `GONE`; "": it is not.
        witness: The same for the witness.
        refused: Whether it is refused. Else it goes on to the end:
        again: Where generation g+1 begins; "" for the same generation.
        first: Where a first start begins.
        redone: Refused after a redo that stands: nothing else may change.
        outputs: Whether there are topic outputs.
        kafka: Whether to try it there, too.
        flags: Further options of the run.
    """

    made: Callable[[Scene], Wait | None]
    seen: str
    says: str = ""
    group: str = ""
    witness: str = ""
    refused: bool = False
    again: str = ""
    first: str = "0"
    redone: bool = False
    outputs: bool = True
    kafka: bool = True
    flags: tuple[str, ...] = ()


def no_outputs(case: Case, *, kafka: bool = False, **changed: Any) -> Case:
    """Return the same case without topic outputs."""
    return replace(case, outputs=False, kafka=kafka, **changed)


OURS = "=C ours (g, b)"
AHEAD = ">C ours (g, b+1)"
NORMAL = Case(settled, f"C, K {OURS}, W {OURS}")
NOTHING = Case(new, "C none, K none, W none")
CHOSEN = Case(new, "C none, K foreign, W none", "first start where the group", "7", first="7")
LOST = Case(store_gone, "C none, K another's, W another's", "by another store", refused=True)
FORGOTTEN = Case(forgotten, "C none, K ours, W ours", "The store is gone, or this is another one",
                 refused=True)  # fmt: skip
REDO = "was published but not stored: redo [10, "
DOUBT = Case(in_doubt, f"C, K {AHEAD}, W {AHEAD}", REDO)
EXPIRED = Case(settled, f"C, K none, W {OURS}", "the group had no offset", GONE)
BEGUN = Case(rewinding, f"C, K <C ours (g+1, 0), W {OURS}", "a rewind was begun", again="5")
SAME = Case(settled, f"C, K =C foreign, W {OURS}", "the group was reset to where it was", "C")
BACK = Case(settled, f"C, K <C foreign, W {OURS}", "somebody moved the playhead back", "3",
            again="3")  # fmt: skip
SKIP = Case(settled, f"C, K >C foreign, W {OURS}", "would be skipped", "C+4", refused=True)
SHARED = Case(shared, "C, K =C another's, W =C another's", "two apps share the group",
              refused=True)  # fmt: skip

ROWS: dict[str, list[Case]] = {
    "no cursor row, K and W none": [
        NOTHING,
        no_outputs(NOTHING),
        Case(begun, f"C, K {OURS}, W none"),  # the row is there before the first transaction
    ],
    "no cursor row, K foreign, W none": [CHOSEN, no_outputs(CHOSEN, kafka=True)],
    "no cursor row, anything else": [
        Case(new, "C none, K foreign, W foreign", "The store is gone", "7", "7", refused=True),
        FORGOTTEN,
        no_outputs(FORGOTTEN, seen="C none, K ours, W none"),
        LOST,
        no_outputs(LOST, seen="C none, K another's, W none"),
    ],
    "W ours = (g, b+1) and W > C": [
        DOUBT,
        replace(DOUBT, seen=f"C, K none, W {AHEAD}", group=GONE),
        replace(DOUBT, seen=f"C, K <C foreign, W {AHEAD}", group="3", again="3"),
        replace(DOUBT, seen=f"C, K =C foreign, W {AHEAD}", group="C", again="10", kafka=False),
        replace(DOUBT, seen=f"C, K >C foreign, W {AHEAD}", group="W", kafka=False),
        replace(DOUBT, seen=f"C, K >C foreign, W {AHEAD}", group="W+4", says="would be skipped",
                refused=True, redone=True, kafka=False),
        Case(one_back, f"C, K {AHEAD}, W {AHEAD}", "was published but not stored"),
    ],
    "W none or foreign, K ours = (g, b+1), K > C": [
        replace(DOUBT, seen=f"C, K {AHEAD}, W none", witness=GONE),
        replace(DOUBT, seen=f"C, K {AHEAD}, W <C foreign", witness="3"),
        Case(one_back, f"C, K {AHEAD}, W none", "redo", outputs=False, kafka=False),
    ],
    "W ours, more than one batch ahead, or of a newer generation": [
        Case(two_back, "C, K >C ours (g, more), W >C ours (g, more)",
             "restored from an older backup", refused=True),
        Case(before_a_rewind, "C, K =C ours (g+1, n), W =C ours (g+1, n)",
             "restored from an older backup", refused=True),
    ],
    "topic outputs, b > 0, W ours and older than (g, b)": [
        Case(log_lost, "C, K <C ours (g, less), W <C ours (g, less)",
             "the log has lost a transaction that the ledger holds", refused=True),
    ],
    "K none": [
        EXPIRED,
        no_outputs(EXPIRED, seen="C, K none, W none"),
        Case(settled, "C, K none, W none", "group and witness are gone: a new generation",
             GONE, GONE, again="C"),
    ],
    "K = C, ours (g, b)": [NORMAL, no_outputs(NORMAL, seen=f"C, K {OURS}, W none", kafka=True)],
    "K = (g+1, 0), K <= C": [
        BEGUN,
        no_outputs(BEGUN, seen="C, K <C ours (g+1, 0), W none"),
    ],
    "K ours, older batch or generation": [
        Case(unadvised, "C, K <C ours (g, less), W none", outputs=False),
        Case(k_lost, f"C, K <C ours (g, less), W {OURS}"),
        Case(k_lost_a_generation, f"C, K =C ours (g-1, n), W {OURS}", kafka=False, again="5"),
    ],
    "K = C, foreign; W ours, or no topic outputs": [
        SAME,
        no_outputs(SAME, seen="C, K =C foreign, W none", kafka=True),
    ],
    "K = C, foreign; W none or foreign, topic outputs": [
        replace(SAME, seen="C, K =C foreign, W none", says="the witness was reset too",
                witness=GONE, again="C"),
        replace(SAME, seen="C, K =C foreign, W =C foreign", says="the witness was reset too",
                witness="C", again="C"),
    ],
    "K < C, foreign": [
        BACK,
        no_outputs(BACK, seen="C, K <C foreign, W none", kafka=True),
        replace(BACK, seen="C, K <C foreign, W none", witness=GONE, kafka=False),
    ],
    "K > C, foreign; W none or foreign, topic outputs": [
        replace(SKIP, seen="C, K >C foreign, W none", says="Cannot tell", witness=GONE),
        replace(SKIP, seen="C, K >C foreign, W none", says="Cannot tell", witness=GONE,
                flags=("--accept-gap",), kafka=False),
        replace(SKIP, seen="C, K >C foreign, W =C foreign", says="Cannot tell", witness="C",
                kafka=False),
        Case(in_doubt, "C, K >C foreign, W none", "Cannot tell", "W", GONE, refused=True),
    ],
    "K > C, foreign": [SKIP, no_outputs(SKIP, seen="C, K >C foreign, W none")],
    "anything else, also another's": [
        SHARED,
        no_outputs(SHARED, seen="C, K =C another's, W none"),
        Case(two_back, "C, K >C ours (g, more), W none", "disagree", refused=True, outputs=False,
             kafka=False),
        Case(rewinding_ahead, "C, K >C ours (g+1, 0), W none", "disagree", refused=True,
             outputs=False, kafka=False),
    ],
}  # fmt: skip
CASES = {
    f"{row} #{i}": case for row, cases in ROWS.items() for i, case in enumerate(cases, start=1)
}


def resolved(scene: Scene, text: str) -> int | str:
    """Return the offset that "C+4", "W" or "3" means here."""
    if text == GONE:
        return text
    name, _, more = text.partition("+")
    if name == "C":
        at = (scene.cursor() or (0,))[0]
    elif name == "W":
        w = scene.committed()[1]
        assert w is not None
        at = w.offset
    else:
        at = int(name)
    return at + int(more or 0)


Stage = Mapping[str, Scene]


def staged(folder: Path, kafka: KafkaServer | None, names: Sequence[str]) -> Stage:
    """Bring cases about: the kills side by side, and Kafka's own tool started once."""
    url = f"kafka://{kafka.bootstrap}" if kafka else None
    scenes, waits = {}, []
    for i, name in enumerate(names):
        case = CASES[name]
        scene = scenes[name] = Scene.make(folder / f"trip{i}", url, outputs=case.outputs)
        if (wait := case.made(scene)) is not None:
            waits.append((scene, wait))
        if len(waits) == 4:  # no more side by side than a small machine bears
            _finish(waits)
    _finish(waits)
    touched = []
    for name, scene in scenes.items():
        wanted = {scene.group: CASES[name].group, scene.witness: CASES[name].witness}
        targets = {group: resolved(scene, to) for group, to in wanted.items() if to}
        touched.append((scene, targets))
        scene.kept["again"] = resolved(scene, CASES[name].again) if CASES[name].again else None
    touch(kafka, touched)
    return scenes


def _finish(waits: list[tuple[Scene, Wait]]) -> None:
    for scene, wait in waits:
        wait()
        scene.ingest("second", "third") if len(scene.source()) == 12 else None
    waits.clear()


def chosen(request: pytest.FixtureRequest) -> list[str]:
    """Return the cases of the tests that are about to run."""
    items = [i for i in request.session.items if isinstance(i, pytest.Function)]
    mine = [i for i in items if request.fixturename in i.fixturenames]
    return [i.callspec.params["name"] for i in mine]


@pytest.fixture(scope="module")
def on_local(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return staged(tmp_path_factory.mktemp("local"), None, chosen(request))


@pytest.fixture(scope="module")
def on_kafka(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, kafka: KafkaServer
) -> Stage:
    return staged(tmp_path_factory.mktemp("kafka"), kafka, chosen(request))


@pytest.mark.parametrize("name", CASES)
def test_a_row_on_the_local_log(on_local: Stage, name: str) -> None:
    check(on_local[name], CASES[name])


KAFKA = [n for n, case in CASES.items() if case.kafka and (figures.LONG or n.endswith("#1"))]


@pytest.mark.parametrize("name", KAFKA)
def test_a_row_on_kafka(on_kafka: Stage, name: str) -> None:
    check(on_kafka[name], CASES[name])


def check(scene: Scene, case: Case) -> None:
    """Run what the case is about, and judge what came of it."""
    assert scene.told() == case.seen, scene.committed()
    before = scene.everything()
    done = scene.trip.cli(*UNTIL, *case.flags)
    assert case.says in done.err
    if not case.refused:
        assert done.code == 0, done.err
        check_end(scene, case, before[3])
        return
    assert done.code == 3, done.err
    check_refusal(scene, case, before, done.err)


def check_refusal(scene: Scene, case: Case, before: tuple[Any, ...], said: str) -> None:
    """Nothing was changed; the message names the place, the positions and a cure."""
    place = f"{scene.trip.topic}[0]: "
    assert place in said
    assert "Nothing was changed." in said
    after = scene.everything()
    if case.redone:
        (next_, generation, batch), (k, w), *_ = before
        assert after[0] == (w.offset, generation, batch + 1)
        assert next_ < w.offset
        assert after[1] == (k, w)
        assert after[3] == before[3]
    else:
        assert after == before
    if scene.bootstrap is None:  # there it takes long, and is no different
        assert scene.trip.cli(*UNTIL, *case.flags).code == 3, "asked again, the answer is the same"
        assert scene.everything() == after
    k, w = after[1]
    if after[0] is not None:
        assert str(after[0][0]) in said
    if k is not None:
        assert str(k.offset) in said


def check_end(scene: Scene, case: Case, before: Mapping[int, list[tuple[int, str]]]) -> None:
    """Everything is there once in its generation, and equals the oracle."""
    source, rows = scene.source(), points()
    first = int(case.first)
    again = scene.kept["again"]
    read = [i for i, offset in enumerate(source) if offset >= first]
    expected = totals(rows[i] for i in read)
    table = scene.table()
    assert [row[0] for row in table] == sorted(expected)
    for car, miles, _, offset in table:
        assert miles == pytest.approx(expected[car], rel=1e-9, abs=1e-12)
        assert offset == max(source[i] for i in read if int(rows[i]["track_id"]) == car)
    cursor = scene.cursor()
    assert cursor is not None
    assert cursor[0] >= source[-1] + 1
    assert cursor[1] == (1 if again is None else 2)
    k, w = scene.committed()
    assert scene.told() == f"C, K {OURS}, W {OURS if scene.outputs else 'none'}"
    assert k is not None
    published = scene.published()
    if not scene.outputs:
        assert published == {}
        return
    assert w is not None
    for generation, records in before.items():
        assert published[generation][: len(records)] == records, "what was published stays"
    everything = [offset for offset in source if offset >= first]
    if again is None:
        wanted = {1: everything}
    else:
        wanted = {1: [o for o, _ in before[1]], 2: [o for o in everything if o >= again]}
    assert {g: [o for o, _ in records] for g, records in published.items()} == wanted
    for offset, payload in (record for records in published.values() for record in records):
        at = source.index(offset)
        value = json.loads(payload)
        so_far = totals(rows[i] for i in read if i <= at)[value["track_id"]]
        assert value["id"] == int(rows[at]["id"])
        assert value["distance"] == pytest.approx(so_far, rel=1e-9, abs=1e-12)
