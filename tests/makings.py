"""How a small project came to stand where a session finds it: each brings a `Scene` there.

A function that starts a process which kills itself returns what waits for that: several of them
may die side by side.
"""

from __future__ import annotations

from collections.abc import Callable

from situations import UNTIL, Scene
from story import Trip

Wait = Callable[[], None]


def new(_scene: Scene) -> None:
    """Nothing has run."""


def settled(scene: Scene) -> None:
    """It has processed everything, and there is more to come."""
    scene.settle()
    scene.ingest("second", "third")


def in_doubt(scene: Scene) -> Wait:
    """The third batch was published, and the process killed before it was stored."""
    return scene.begin_to_die("after log commit:3")


def begun(scene: Scene) -> Wait:
    """It was killed before its first transaction was committed."""
    return scene.begin_to_die("before log commit:1")


def unadvised(scene: Scene) -> Wait:
    """The third batch was stored, and the process killed before the group was told."""
    return scene.begin_to_die("after store commit:3")


def rewinding(scene: Scene) -> Wait:
    """A rewind to 5 was killed when the group held its intent."""
    scene.settle()
    return scene.begin_to_die(
        "rewind intent", "rewind", "distance", "--to-offset", "5", "--execute"
    )


def one_back(scene: Scene) -> Wait:
    """The store was restored from a backup that lacks the last batch."""
    scene.settle()
    scene.back_up()
    scene.ingest("second", "third")
    wait = scene.begin_to_die(
        "after store commit:1" if scene.outputs else "after advisory commit:1"
    )

    def then() -> None:
        wait()
        scene.restore()

    return then


def two_back(scene: Scene) -> None:
    """The store was restored from a backup that lacks more."""
    scene.settle()
    scene.back_up()
    scene.ingest("second", "third")
    scene.settle()
    scene.restore()


def before_a_rewind(scene: Scene) -> None:
    """The store was restored from a backup of before a rewind."""
    scene.settle()
    scene.back_up()
    scene.trip.ok("rewind", "distance", "--to-offset", "5", "--execute")
    scene.settle()
    scene.restore()


def rewinding_ahead(scene: Scene) -> Wait:
    """A rewind to 14 was killed at its intent, and then an older store was put back."""
    scene.settle()
    scene.back_up()
    scene.ingest("second")
    scene.settle()
    wait = scene.begin_to_die(
        "rewind intent", "rewind", "distance", "--to-offset", "14", "--execute"
    )

    def then() -> None:
        wait()
        scene.restore()

    return then


def forgotten(scene: Scene) -> None:
    """The store was restored from a backup of before the first start."""
    for group in (scene.group, scene.witness):
        scene.put(group, 7)
    assert scene.trip.cli(*UNTIL).code == 3
    scene.back_up()
    for group in (scene.group, scene.witness):
        scene.put(group, None)
    scene.settle()
    scene.restore()


def store_gone(scene: Scene) -> None:
    """The store was deleted."""
    scene.settle()
    scene.lose_store()


def k_lost(scene: Scene) -> None:
    """The log has the group's offset of a batch before."""
    scene.settle()
    k, _ = scene.committed()
    scene.ingest("second")
    scene.settle()
    scene.put(scene.group, k)
    scene.ingest("third")


def k_lost_a_generation(scene: Scene) -> None:
    """The log has the group's offset of before a rewind."""
    scene.settle()
    k, _ = scene.committed()
    scene.trip.ok("rewind", "distance", "--to-offset", "5", "--execute")
    scene.settle()
    scene.put(scene.group, k)
    scene.ingest("second", "third")


def log_lost(scene: Scene) -> None:
    """The log has group and witness of a batch before: it lost the last transaction."""
    scene.settle()
    k, w = scene.committed()
    scene.ingest("second")
    scene.settle()
    scene.put(scene.group, k)
    scene.put(scene.witness, w)


def shared(scene: Scene) -> None:
    """The groups expired; then another app with another store took the group's name."""
    scene.settle()
    for group in (scene.group, scene.witness)[: 2 if scene.outputs else 1]:
        scene.put(group, None)
    log = scene.trip.log
    if scene.bootstrap is None:
        log = f"local:{scene.trip.folder / '.playhead/log.db'}"
    other = Trip(scene.trip.folder / "other", log, scene.trip.topic)
    other.folder.mkdir()
    for name in ("vehicles.py", "playhead.toml"):
        (other.folder / name).write_text((scene.trip.folder / name).read_text())
    group = f'group="{scene.group}"'
    other.edit('version="miles"', 'version="theirs"' + ("" if scene.bootstrap else f", {group}"))
    other.ok(*UNTIL)
