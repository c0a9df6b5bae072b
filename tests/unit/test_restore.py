"""State and rows as of any offset: from snapshots and deltas, and the log where they end."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import playhead as ph
from playhead.adapters.local_log import LocalLog
from playhead.adapters.sqlite_store import SqliteStore
from playhead.core.offsets import OffsetRange, TopicPartition
from playhead.core.past import Rules
from playhead.core.records import Outgoing
from playhead.core.schema import schema_of
from playhead.engine.call import Caller
from playhead.engine.events import Warned
from playhead.engine.hold import settled
from playhead.engine.reading import read_all, read_one
from playhead.engine.restore import Restorer
from playhead.engine.task import Task
from playhead.engine.worker import Worker
from playhead.errors import OffsetOutOfRange
from playhead.ports import TableRow, VersionRow

PLACE = TopicPartition("points", 0)
N = 20


def total(points, state):
    return state.running_sum(points, total="x")


def add_up():
    app = ph.App("vehicles")
    points = app.topic("points", key="car", value={"car": int, "x": int})
    table = app.table("totals", key="car", columns={"car": int, "total": int})
    return app.pipeline(points, to=[table], version="v1")(total).versions["v1"]


class Bench:
    """Twenty records, x = 1, 2, 4, 8, …: every sum tells what it was made of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = []
        with closing(self.log()) as log, closing(self.store()) as store:
            topic = log.create_topic("points", 1, {})
            out = Outgoing("points")
            for i in range(N):
                value = b'{"car": %d, "x": %d}' % (i % 2, 2**i)
                out.add(0, b"%d" % (i % 2), value, 1_400_000_000_000 + i)
            with closing(log.appender("points")) as appender:
                appender.append(out)
                appender.commit()
            version = add_up()
            columns = schema_of({"car": int, "total": int}, "totals")
            store.catalog.record(
                VersionRow(
                    pipeline="total", label="v1", stage="live", fingerprint="f", app="vehicles",
                    source="points", partitions=1, group="total.v1",
                    tables=(TableRow("totals", "totals__v1", ("car",), columns),), topics=(),
                    environment={},
                )
            )  # fmt: skip
            self.task = Task("vehicles", version, Caller(version, {}), topic, 1, 1000)

    def log(self) -> LocalLog:
        return LocalLog(self.folder / "log.db")

    def store(self) -> SqliteStore:
        return SqliteStore(self.folder / "store.db")

    def run(self, to: int, batch: int = 3, every: int = 10**9) -> None:
        task = replace(self.task, batch_records=batch, rules=Rules(snapshot_records=every))
        Worker(task, self.log, self.store, self.said.append).run({0: to})

    def rewind(self, to: int) -> None:
        task = replace(self.task, rewind={0: to}, why="a test")
        with closing(self.log()) as log, settled(task, log, self.store, self.said.append):
            pass

    def as_of(self, to: int):
        with closing(self.log()) as log, closing(self.store()) as store:
            history = store.ledger.generations("total@v1")[0]
            return Restorer(self.task, log, store, PLACE, history, self.said.append).as_of(to)

    def table(self):
        with closing(self.store()) as store:
            row = store.catalog.versions()[0]
            return sorted(store.catalog.rows(row.tables[0]).rows())

    def counts(self) -> int:
        with closing(self.store()) as store:
            return store.ledger.standings("total@v1")[0].counts.records

    def sql(self, text: str) -> None:
        import sqlite3

        with closing(sqlite3.connect(self.folder / "store.db", isolation_level=None)) as db:
            db.execute(text)

    def delete_before(self, offset: int) -> None:
        with closing(self.log()) as log:
            log.delete_records("points", {0: offset})


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def sums(to: int):
    found = {}
    for i in range(to):
        found[i % 2] = (i % 2, found.get(i % 2, (0, 0))[1] + 2**i, 0, i)
    return sorted(found.values())


def check(restored, to: int) -> None:
    assert sorted(restored.rows["totals__v1"].rows()) == sums(to)
    slot = restored.slots.get("running_sum.total")
    kept = {} if slot is None else dict(slot.rows())
    assert kept == {car: value for car, value, *_ in sums(to)}
    assert restored.counts.records == to


@pytest.mark.parametrize("every", [1, 4, 10**9])
@pytest.mark.parametrize("batch", [1, 3, 7, 1000])
def test_every_offset_can_be_had_whatever_the_batches_and_snapshots(bench, batch, every):
    bench.run(N, batch, every)
    for to in range(N + 1):
        check(bench.as_of(to), to)


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_after_any_runs_and_rewinds_every_offset_can_be_had(tmp_path_factory, data):
    bench = Bench(tmp_path_factory.mktemp("bench"))
    at = 0
    for _ in range(data.draw(st.integers(1, 5))):
        if data.draw(st.booleans()):
            to = data.draw(st.integers(at, N))
            bench.run(to, data.draw(st.integers(1, 9)), data.draw(st.sampled_from([1, 3, 8, 999])))
            at = max(at, to)
        else:
            at = data.draw(st.integers(0, at))
            bench.run(0)  # there is a cursor, whatever came before
            bench.rewind(at)
        assert bench.table() == sums(at)
        assert bench.counts() == at
        for to in {0, at, data.draw(st.integers(0, at))}:
            check(bench.as_of(to), to)


def test_inside_the_ledger_nothing_is_read_from_the_log(bench):
    bench.run(N, 5)
    bench.delete_before(N)
    for to in (0, 5, 10, 15, N):
        check(bench.as_of(to), to)


def test_an_offset_inside_a_batch_needs_the_log(bench):
    bench.run(N, 5)
    bench.delete_before(N)
    with pytest.raises(OffsetOutOfRange) as e:
        bench.as_of(13)
    assert e.value.where == "points[0]"
    assert "[10, 13) is needed, and the topic holds [20, 20)" in str(e.value)
    assert e.value.exit_code == 3


DAMAGE = {
    "a changed byte": "content = substr(content, 1, 90) || x'00' || substr(content, 92)",
    "cut short": "content = substr(content, 1, length(content) - 3)",
    "emptied": "content = x''",
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("whole", [0, 1])
def test_what_is_damaged_is_said_and_another_path_taken(bench, how, whole):
    bench.run(N, 5, 10)
    bench.sql(f"UPDATE playhead__past SET {DAMAGE[how]} WHERE whole = {whole} AND batch IN (2, 4)")
    bench.said.clear()
    restored = bench.as_of(N)
    check(restored, N)
    if whole:
        assert restored.healed
        assert any("it is not used" in e.why for e in bench.said if isinstance(e, Warned))


@pytest.mark.parametrize("how", DAMAGE)
def test_where_no_other_path_is_left_it_is_refused(bench, how):
    bench.run(N, 5)
    bench.sql(f"UPDATE playhead__past SET {DAMAGE[how]} WHERE NOT whole AND batch = 2")
    check(bench.as_of(N), N)
    bench.delete_before(N)
    with pytest.raises(OffsetOutOfRange, match=r"\[5, 10\) is needed"):
        bench.as_of(N)
    check(bench.as_of(5), 5)


def test_a_worker_that_met_damage_saves_a_snapshot_and_is_well_again(bench):
    bench.run(10, 5)
    bench.sql(f"UPDATE playhead__past SET {DAMAGE['emptied']} WHERE NOT whole")
    bench.run(15, 5)
    bench.said.clear()
    check(bench.as_of(15), 15)
    assert not [e for e in bench.said if isinstance(e, Warned)]


def test_the_horizon_leaves_what_lies_within_it(bench):
    task = replace(bench.task, batch_records=2)
    rules = Rules(snapshot_records=6, history_s=0.0)
    Worker(replace(task, rules=rules), bench.log, bench.store, bench.said.append).run({0: N})
    with closing(bench.store()) as store:
        saved = store.history.saved("total@v1", 0)
    assert saved[0].whole, "what is left begins with a snapshot"
    begin = saved[0].next
    assert begin > 0
    bench.delete_before(begin)
    for to in range(begin, N + 1, 2):
        check(bench.as_of(to), to)
    with pytest.raises(OffsetOutOfRange, match=r"\[0, "):
        bench.as_of(begin - 2)


def test_a_rewind_that_cannot_be_done_changes_nothing(bench):
    bench.run(N, 5)
    bench.delete_before(12)
    with pytest.raises(OffsetOutOfRange, match="state as of 13"):
        bench.rewind(13)
    assert bench.table() == sums(N)
    with closing(bench.store()) as store:
        assert store.ledger.standings("total@v1")[0].cursor.generation == 1


def test_a_range_is_read_whole_and_no_further(bench):
    with closing(bench.log()) as log:
        records = read_one(log, PLACE, OffsetRange(5, 12))
        assert (list(records.offsets), records.next) == (list(range(5, 12)), 12)
        parts = list(read_all(log, PLACE, OffsetRange(5, 12), 3))
        assert [offset for part in parts for offset in part.offsets] == list(range(5, 12))
        assert max(len(part) for part in parts) == 3


@pytest.mark.parametrize("wanted", [(0, 21), (25, 30)])
def test_a_range_that_is_not_retained_is_refused_by_name(bench, wanted):
    with closing(bench.log()) as log, pytest.raises(OffsetOutOfRange) as e:
        list(read_all(log, PLACE, OffsetRange(*wanted), 100))
    assert e.value.where == "points[0]"
    assert str(OffsetRange(*wanted)) in str(e.value)
    assert "[0, 20)" in str(e.value)
