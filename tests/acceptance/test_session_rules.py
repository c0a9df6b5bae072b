"""The session rules of the design through the installed command, on both logs.

Nothing is moved beside a member; one worker a version; what an ended assignment computed is
dropped; a redo that cannot be, and what is done after a refusal. The rows of the restart table:
``test_restart_rows.py``.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer

from forked import Command
from servers import KafkaServer
from situations import GONE, GROUPS, UNTIL, Scene, points, totals, touch
from story import Done, in_full, wait_for

MakeScene = Callable[..., Scene]
LOGS = pytest.mark.parametrize("log", in_full(["local", "kafka"], but=["local"]))


@pytest.fixture
def make_scene(request: pytest.FixtureRequest, tmp_path: Path) -> MakeScene:
    def make(log: str, *, outputs: bool = True) -> Scene:
        url = None
        if log == "kafka":
            url = f"kafka://{request.getfixturevalue('kafka').bootstrap}"
        return Scene.make(tmp_path / "trip", url, outputs=outputs)

    return make


def tool(request: pytest.FixtureRequest, log: str) -> KafkaServer | None:
    return request.getfixturevalue("kafka") if log == "kafka" else None


def refused(done: Done, *said: str) -> None:
    assert done.code == 3, (done.code, done.out, done.err)
    assert [text for text in said if text not in done.err] == [], done.err


def generations(scene: Scene) -> dict[int, list[int]]:
    return {g: [offset for offset, _ in found] for g, found in scene.published().items()}


def right(scene: Scene, skipped: range = range(0)) -> None:
    """Compare the table with the oracle; the points of ``skipped`` offsets were not read."""
    read = [p for at, p in zip(scene.source(), points(), strict=False) if at not in skipped]
    found = {car: miles for car, miles, *_ in scene.table()}
    assert found == pytest.approx(totals(read), rel=1e-9, abs=1e-12)


# --- nothing is moved beside a member ------------------------------------------------------------


@LOGS
def test_beside_a_running_worker_nothing_is_moved_and_no_second_one_runs(
    make_scene: MakeScene, request: pytest.FixtureRequest, log: str
) -> None:
    scene = make_scene(log)
    with scene.trip.running() as worker:
        wait_for(lambda: scene.trip.cursor() > scene.source()[-1], "the worker to catch up")
        before = scene.everything()
        target = ("--to-offset", "3", "--execute")
        refused(
            scene.trip.cli("groups", "reset", "--group", scene.group, *target),
            f"group {scene.group}", "No offset was changed", "Stop them",
        )  # fmt: skip
        if log == "kafka":
            told = request.getfixturevalue("kafka").tool(
                GROUPS, "--group", scene.group, "--topic", scene.trip.topic, "--reset-offsets",
                *target,
            )  # fmt: skip
            assert "inactive" in told
        refused(scene.trip.cli("rewind", "distance", *target), "has members", "Nothing was changed")
        who = f"pid {worker.pid} on {socket.gethostname()}"
        refused(scene.trip.cli(*UNTIL), "distance@miles", who)
        assert scene.everything() == before
        scene.ingest("second")
        wait_for(lambda: scene.trip.cursor() > scene.source()[-1], "the worker to go on")
    assert generations(scene) == {1: scene.source()}
    right(scene)


@contextmanager
def member(scene: Scene) -> Iterator[str]:
    """Have a member in the group that is no worker of ours; give a name that it is listed by."""
    if scene.bootstrap is None:
        with closing(scene.open_log()) as log, closing(log.join(scene.group, scene.trip.topic)):
            yield f"pid {os.getpid()}"
        return
    settings = {
        "bootstrap.servers": scene.bootstrap,
        "group.id": scene.group,
        "client.id": "theirs",
        "enable.auto.commit": False,
    }
    assigned: list[object] = []
    consumer = Consumer(settings)
    try:
        consumer.subscribe([scene.trip.topic], on_assign=lambda _, places: assigned.extend(places))
        wait_for(lambda: consumer.poll(0.1) and bool(assigned), "the member to be assigned")
        yield "theirs"
    finally:
        consumer.close()


@LOGS
def test_a_rewind_is_refused_while_the_group_has_members(make_scene: MakeScene, log: str) -> None:
    scene = make_scene(log)
    scene.settle()
    before = scene.cursor(), scene.table(), scene.published()
    scene.put(scene.group, 3)
    with member(scene) as name:
        for command in (
            ("rewind", "distance", "--to-offset", "3", "--execute"),
            ("groups", "reset", "--group", scene.group, "--to-offset", "5", "--execute"),
        ):
            refused(scene.trip.cli(*command), scene.group, name, "changed")
        assert (scene.cursor(), scene.table(), scene.published()) == before
    scene.trip.ok("rewind", "distance", "--to-offset", "2", "--execute")
    # Somebody had put the group at 3; what is asked for now takes its place.
    assert scene.cursor() == (2, 2, 0)
    scene.settle()
    assert generations(scene) == {1: scene.source(), 2: scene.source()[2:]}
    right(scene)


def test_a_rewind_takes_the_place_of_one_that_was_begun(make_scene: MakeScene) -> None:
    scene = make_scene("local")
    scene.settle()
    scene.begin_to_die("rewind intent", "rewind", "distance", "--to-offset", "5", "--execute")()
    assert scene.told() == "C, K <C ours (g+1, 0), W =C ours (g, b)"
    scene.trip.ok("rewind", "distance", "--to-offset", "8", "--execute")
    assert scene.cursor() == (8, 2, 0)
    scene.settle()
    assert generations(scene) == {1: scene.source(), 2: scene.source()[8:]}
    right(scene)


@LOGS
def test_a_witness_is_not_reset(make_scene: MakeScene, log: str) -> None:
    scene = make_scene(log)
    scene.settle()
    before = scene.everything()
    for more in ((), ("--execute",)):
        done = scene.trip.cli(
            "groups", "reset", "--group", scene.witness, "--to-offset", "3", *more
        )
        refused(
            done, scene.witness, "is a witness", "No offset was changed", f"Reset {scene.group}"
        )
    assert scene.everything() == before
    shown = scene.trip.json("groups", "describe", "--group", scene.witness)["groups"][0]
    assert [p["current_offset"] for p in shown["partitions"]] == [before[0][0]]
    assert shown["members"] == []


# --- what an ended assignment computed -----------------------------------------------------------


def frozen(process: Command) -> bool:
    assert process.poll() is None, "the worker ended"
    asked = ["ps", "-o", "stat=", "-p", str(process.pid)]
    return subprocess.run(asked, capture_output=True, check=True).stdout.startswith(b"T")


def test_group_metadata_of_the_assignment_is_used_unchanged(
    make_scene: MakeScene, kafka: KafkaServer
) -> None:
    """A worker is frozen with a batch computed; its membership lapses, and the group is reset.

    Awake it is assigned anew, with metadata that Kafka would accept; the old ones it refuses.
    """
    scene = make_scene("kafka")
    # Without threads, so that the batch before it is stored when this one is computed.
    told = {"PLAYHEAD_CRASH": "computed:3:SIGSTOP", "PLAYHEAD_THREADS": "false"}
    worker = scene.trip.start(*UNTIL, **told)
    try:
        wait_for(lambda: frozen(worker), "the worker to freeze", timeout_s=90)
        assert scene.cursor() == (10, 1, 2)
        touch(kafka, [(scene, {scene.group: 3})])
        worker.send_signal(signal.SIGCONT)
        said = scene.trip.folder / "background.log"
        assert worker.wait(60) == 0, said.read_text()
    finally:
        worker.kill()
        worker.wait()
    assert "session over, starting again" in said.read_text()
    assert "somebody moved the playhead back" in said.read_text()
    assert generations(scene) == {1: scene.source()[:10], 2: scene.source()[3:]}
    right(scene)


# --- a redo that cannot be -----------------------------------------------------------------------


@LOGS
def test_a_redo_with_another_digest_is_refused_with_both(make_scene: MakeScene, log: str) -> None:
    scene = make_scene(log)
    scene.trip.edit("import polars as pl", "import os\n\nimport polars as pl")
    scene.trip.edit(
        'pl.col("total") * MILES_PER_METRE',
        'pl.col("total") * MILES_PER_METRE * float(os.environ.get("FACTOR", "1"))',
    )
    scene.begin_to_die("after log commit:3")()
    before = scene.everything()
    w = before[1][1]
    assert w.checkpoint is not None
    for _ in range(2):
        done = scene.trip.cli(*UNTIL, FACTOR="2")
        published = f"published {w.checkpoint.digest}"
        place = f"{scene.trip.topic}[0]: batch [10, {w.offset})"
        refused(done, place, published, "Nothing was changed.", "Restore the code")
        (computed,) = re.findall(r"digest ([0-9a-f]{16}),", done.err)
        assert computed != w.checkpoint.digest
        assert scene.everything() == before
    scene.trip.ok(*UNTIL, FACTOR="1")
    assert generations(scene) == {1: scene.source()}
    right(scene)


@LOGS
def test_a_redo_of_what_is_no_longer_retained_is_refused(make_scene: MakeScene, log: str) -> None:
    scene = make_scene(log)
    scene.begin_to_die("after log commit:3")()
    scene.ingest("second")
    before = scene.everything()
    end = before[1][1].offset
    with closing(scene.open_log()) as opened:
        opened.delete_records(scene.trip.topic, {0: 11})
        held = opened.retained(scene.trip.topic)[0]
    for _ in range(2):
        refused(
            scene.trip.cli(*UNTIL),
            f"{scene.trip.topic}[0]: the unfinished batch [10, {end}) is no longer retained",
            f"the topic holds [11, {held.end})", "Nothing was changed", "Restore the topic",
        )  # fmt: skip
        assert scene.everything() == before


# --- after a refusal -----------------------------------------------------------------------------


@LOGS
@pytest.mark.parametrize("outputs", [True, False], ids=["topic", "table only"])
def test_a_skip_is_accepted_in_so_many_words(
    make_scene: MakeScene, request: pytest.FixtureRequest, log: str, *, outputs: bool
) -> None:
    scene = make_scene(log, outputs=outputs)
    scene.settle()
    scene.ingest("second", "third")
    at = (scene.cursor() or (0,))[0]
    table = scene.table()
    touch(tool(request, log), [(scene, {scene.group: at + 4})])
    refused(
        scene.trip.cli(*UNTIL),
        f"{scene.trip.topic}[0]", f"[{at}, {at + 4})", "--accept-gap", f"Reset the group to {at}",
    )  # fmt: skip
    assert scene.table() == table
    done = scene.trip.ok(*UNTIL, "--accept-gap")
    assert f"the skip of [{at}, {at + 4}) was accepted" in done.err
    source = scene.source()
    right(scene, range(at, at + 4))
    if outputs:
        late = [offset for offset in source if offset >= at + 4]
        assert generations(scene) == {1: [o for o in source if o < at], 2: late}
    gaps = scene.trip.sql(
        "SELECT number, gap_from, start FROM playhead__generation "
        "WHERE version = 'distance@miles' ORDER BY 1"
    )
    assert gaps[1:] == [(2, at, at + 4)]
    assert scene.told().startswith("C, K =C ours (g, b)")
    audit = scene.trip.sql("SELECT detail FROM playhead__audit WHERE kind = 'restart'")
    assert "accept gap" in str(audit[-1])


@LOGS
@pytest.mark.parametrize("witness", ["kept", GONE])
def test_the_cure_of_a_skip_is_one(
    make_scene: MakeScene, request: pytest.FixtureRequest, log: str, witness: str
) -> None:
    scene = make_scene(log)
    scene.settle()
    scene.ingest("second", "third")
    at = (scene.cursor() or (0,))[0]
    targets: dict[str, int | str] = {scene.group: at + 4}
    if witness == GONE:
        targets[scene.witness] = GONE
    touch(tool(request, log), [(scene, targets)])
    refused(scene.trip.cli(*UNTIL), f"Reset the group to {at}")
    to = ("--to-offset", str(at), "--execute")
    scene.trip.ok("groups", "reset", "--group", scene.group, *to)
    scene.trip.ok(*UNTIL)
    source = scene.source()
    right(scene)
    if witness == GONE:
        late = [offset for offset in source if offset >= at]
        assert generations(scene) == {1: [o for o in source if o < at], 2: late}
    else:
        assert generations(scene) == {1: source}
