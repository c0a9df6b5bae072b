"""Seeded bugs: each is put into a copy of the tree, and the test that it names turns red.

``python tests/proof/seeded.py [NAME…]`` runs them, or those that are named. A bug is a pair of
texts, old and new, in one file; a text that is no longer there is an error: the bug then has to be
seeded anew, for it proves nothing any more. Red means that the test ran and failed; a copy that
does not even import is no proof.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from proof import figures  # noqa: E402  a script finds its neighbours itself

COPIED = ("src", "tests", "pyproject.toml", "README.md", "CHANGELOG.md", "docs")
MATRIX = "tests/crash/test_matrix.py::test_a_process_killed_there_leaves_no_trace"
TABLE = "tests/acceptance/test_rewind_table.py::test_a_rewind_to_every_offset_equals_a_fresh_pass"
PROGRAMS = "tests/property/test_programs.py::"
PUBLIC = "tests/acceptance/test_public.py::test_"
ALONE = f"{PROGRAMS}test_a_replay_leaves_live_alone_and_a_topic_made_again_is_refused"


@dataclass(frozen=True)
class Bug:
    """One bug.

    Attributes:
        name: What it is.
        file: Where it is put, below ``src/playhead``.
        pairs: Texts there, each once, and what takes their place.
        test: The test that must turn red.
    """

    name: str
    file: str
    pairs: tuple[tuple[str, str], ...]
    test: str


OUTGOING = "_together([part.outcome for part in batch.parts])"
PUBLISH = f"    member.append({OUTGOING})\n    return lambda: member.finish(batch.offsets)\n"
LATE = f"    if session.task.publishes:\n        member.publish({OUTGOING}, batch.offsets)\n"
STORE = "    orders = session.store.ledger.commit(session.name, moves)\n"
EARLY = "    if not session.task.publishes:\n        member.commit(batch.offsets)\n"
BUGS = (
    Bug(
        "commit the offset before the store",
        "engine/batch.py",
        ((STORE, EARLY + STORE),),
        f"{MATRIX}[local-sqlite-advised-after_compare-and-set-3]",
    ),
    Bug(
        "drop the compare-and-set",
        "adapters/sql_ledger.py",
        (
            (
                "if changed != 1:\n            raise _conflict(version, move.place, f",
                "if changed > 1:\n            raise _conflict(version, move.place, f",
            ),
        ),
        f"{PROGRAMS}test_a_process_that_wakes_up_at_a_step_commits_nothing"
        "[quiet-before store commit]",
    ),
    Bug(
        "resume from the group's offset alone",
        "engine/resolve.py",
        (
            (
                "                case Act.GO_ON:\n",
                "                case Act.GO_ON:\n"
                "                    if group and group.offset != seat.cursor.next:\n"
                '                        self._begin(seat, group.offset, None, why="")\n',
            ),
        ),
        f"{MATRIX}[local-sqlite-advised-after_store_commit-3]",
    ),
    Bug(
        "auto.offset.reset=earliest",
        "adapters/kafka_client.py",
        (('"auto.offset.reset": "error"', '"auto.offset.reset": "earliest"'),),
        "tests/contract/test_log.py::test_a_position_that_is_not_retained_is_an_error[kafka-99]",
    ),
    Bug(
        "keep state and table rows on a rewind",
        "engine/resolve.py",
        (
            (
                "restored = None if to == seat.cursor.next else self._restorer(seat).as_of(to)",
                "restored = None",
            ),
        ),
        f"{TABLE}[3-3]",
    ),
    Bug(
        "keep table rows on a rewind",
        "adapters/sql_tables.py",
        (
            (
                'f"DELETE FROM {sql.dialect.quoted(table)} WHERE _partition = {sql.dialect.mark}"',
                'f"SELECT {sql.dialect.mark}"',
            ),
        ),
        f"{TABLE}[3-3]",
    ),
    Bug(
        "no witness",
        "adapters/local_session.py",
        (("            self._commit(witness_of(self._group), offsets)\n", ""),),
        f"{TABLE}[3-3]",
    ),
    Bug(
        "end a bounded read when the record before the end was seen",
        "adapters/kafka_reader.py",
        (
            ("next=max(offsets[-1] + 1, end)", "next=offsets[-1] + 1"),
            ("if partition not in records and end >", "if partition < 0 and end >"),
        ),
        "tests/contract/test_kafka.py::test_the_position_passes_markers_and_aborted_records",
    ),
    Bug(
        "fold keeps the first row",
        "core/outputs.py",
        (("rows.filter(is_last(key))", "rows.unique(key, keep='first', maintain_order=True)"),),
        f"{TABLE}[3-100]",
    ),
    Bug(
        "publish after the store's commit, without suppression",
        "engine/batch.py",
        ((PUBLISH, "    return lambda: None\n"), (STORE, STORE + LATE)),
        f"{MATRIX}[local-sqlite-batches-before_log_commit-3]",
    ),
    Bug(
        "no topic-id check",
        "engine/preconditions.py",
        (("    if set(source_ids) - {topic.id}:\n", "    if not topic.id:\n"),),
        ALONE,
    ),
    Bug(
        "the live group's id in a replay",
        "engine/session.py",
        (
            (
                "self.log.join(self.task.version.group, topic)",
                'self.log.join(self.task.version.group.replace(".two", ".one"), topic)',
            ),
        ),
        ALONE,
    ),
    Bug(
        "forward what lies before the swap",
        "engine/publisher.py",
        (("(found.offset >= begins) == late", "(late or found.offset >= begins) == late"),),
        f"{PUBLIC}an_epoch_shows_what_its_version_had_made_beyond_where_live_stood",
    ),
    Bug(
        "forward what a rewind superseded",
        "ops/publish.py",
        (("writers=(epoch.writer,) if not epoch.difference else ()", "writers=()"),),
        f"{PUBLIC}a_rewind_of_live_shows_its_new_generation",
    ),
    Bug(
        "an epoch ends where its topic ends by now",
        "ops/publish.py",
        (
            (
                "epoch.ends if epoch.stage == ENDING else epoch.sizes",
                "(\n                ends(log.retained(task.topic.name)) if epoch.stage == ENDING "
                "else epoch.sizes\n            )",
            ),
        ),
        f"{PUBLIC}an_epoch_ends_where_its_topic_ended_whatever_is_written_to_it_later",
    ),
    Bug(
        "no tombstones for keys that a version lacks",
        "engine/publisher.py",
        (("sorted(base.keys() - head.keys())", "()"),),
        f"{PUBLIC}a_promotion_may_publish_only_what_changes[local-1]",
    ),
    Bug(
        "an epoch is over without its start sequence",
        "ops/publish.py",
        (
            (
                "                self._end(log, store, epoch, task)\n                return True\n",
                "                store.publications.over(epoch, {})\n                return True\n",
            ),
        ),
        "tests/crash/test_fencing.py::test_a_frozen_publisher_says_nothing_behind_the_next_epoch",
    ),
)


class Outdated(Exception):
    """The text that a bug replaces is not there, or there more than once."""


def copy(folder: Path) -> None:
    """Copy the tree; the servers' files are shared."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    cache = ROOT / ".cache"
    cache.mkdir(exist_ok=True)
    (folder / ".cache").symlink_to(cache)


def seeded(bug: Bug, text: str) -> str:
    """Return a file's text with the bug in it."""
    for old, new in bug.pairs:
        if text.count(old) != 1:
            raise Outdated(f"{bug.name}: {bug.file} has this {text.count(old)} times:\n{old}")
        text = text.replace(old, new)
    return text


def seed(bug: Bug, folder: Path) -> None:
    """Put the bug into the copy."""
    path = folder / "src/playhead" / bug.file
    path.write_text(seeded(bug, path.read_text(encoding="utf-8")), encoding="utf-8")


def run(folder: Path, test: str) -> tuple[int, str]:
    """Run one test in the copy; return pytest's exit code and what it said."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=120"]
    env = {**os.environ, "PYTHONPATH": str(folder / "src")}
    for name in ("PLAYHEAD_PROOF", "PLAYHEAD_PROOF_FIGURES"):
        env.pop(name, None)
    done = subprocess.run(
        [*command, test], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def red(bug: Bug) -> bool:
    """Say whether the bug turns its test red, and print what happened."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="playhead-seeded-") as scratch:
        folder = Path(scratch)
        copy(folder)
        seed(bug, folder)
        code, said = run(folder, bug.test)
    failed = code == 1 and "1 failed" in said
    verdict = "red" if failed else f"NOT RED (pytest ended with {code})"
    print(f"{verdict:4} {time.monotonic() - begun:5.1f} s  {bug.name}", flush=True)
    if not failed:
        print(said[-3000:])
    return failed


def main(names: list[str]) -> int:
    """Seed the bugs that are named, or all; return 0 if every test turned red."""
    bugs = [bug for bug in BUGS if not names or bug.name in names]
    for bug in bugs:  # before the first minute is spent
        seeded(bug, (ROOT / "src/playhead" / bug.file).read_text(encoding="utf-8"))
    found = sum(red(bug) for bug in bugs)
    print(f"{found} of {len(bugs)} red")
    figures.count("seeded bugs", "seeded", len(bugs))
    figures.count("seeded bugs", "found by the test that they name", found)
    return 0 if found == len(bugs) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
