"""Bad input: each is named by its line or its place, nothing after it is committed, no traceback.

Everything goes through the command line; what lies in a topic was put there beside it, through the
port, as another producer would.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

import oracle
from playhead.adapters.kafka import KafkaLog
from playhead.adapters.local_log import LocalLog
from playhead.cli.main import cli
from playhead.core.records import Outgoing
from playhead.ports import Log
from story import COMMAND, TIME, Done, Trip, add_partition, delete_topic, headers, in_full, wait_for

MakeTrip = Callable[[str, int], Trip]
LOGS = ["local", "kafka"]
T0 = 1_400_000_000_000
HEADER = "id,latitude,longitude,track_id,time\n"
ROW = "{},-10.5,-37.0,1,9/13/2014 7:24\n"


@pytest.fixture(params=in_full(LOGS, but=["local"]))
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> Trip:
    """Give the example project with nothing ingested, on each log."""
    url = None
    if request.param == "kafka":
        url = f"kafka://{request.getfixturevalue('kafka').bootstrap}"
    return Trip.make(tmp_path / "bare", url)


@pytest.fixture
def local(tmp_path: Path) -> Trip:
    """Give the example project on the local log, its points ingested."""
    trip = Trip.make(tmp_path / "local")
    trip.ingest()
    return trip


def open_log(trip: Trip) -> Log:
    if trip.log.startswith("kafka://"):
        return KafkaLog(trip.log.removeprefix("kafka://"))
    return LocalLog(trip.folder / trip.log.removeprefix("local:"))


def point(number: int, track: int = 1) -> bytes:
    row = {"id": number, "latitude": -10 - number / 1000, "longitude": -37.0, "track_id": track}
    return json.dumps({**row, "time": "9/13/2014 7:24"}).encode()


Message = tuple[bytes | None, bytes | None]


def good(number: int) -> Message:
    return b"1", point(number)


def fill(trip: Trip, *messages: Message, topic: str = "", partitions: Sequence[int] = ()) -> None:
    """Append messages to the source topic in one transaction, as another producer would."""
    topic = topic or trip.topic
    with closing(open_log(trip)) as log:
        if log.topic(topic) is None:
            log.create_topic(topic, max(partitions, default=0) + 1, {"retention.ms": "-1"})
        outgoing = Outgoing(topic)
        for i, (key, value) in enumerate(messages):
            outgoing.add(partitions[i] if partitions else 0, key, value, T0 + i)
        with closing(log.appender(f"another producer of {trip.topic}")) as appender:
            appender.append(outgoing)
            appender.commit()


def refused(done: Done, code: int, *said: str) -> None:
    """Check how a command ended, what it said, and that it is for people."""
    assert done.code == code, done
    assert "Traceback" not in done.err + done.out, done
    for text in said:
        assert text in done.err, done.err


def ingest(trip: Trip, file: str, *more: str, stdin: bytes | None = None) -> Done:
    return trip.cli("ingest", file, "--topic", trip.topic, *more, stdin=stdin)


def count(trip: Trip) -> int:
    """Return how many records the source topic holds; 0 where it does not exist."""
    listed = trip.json("topics", "list")["topics"]
    if trip.topic not in {t["topic"] for t in listed}:
        return 0
    return len(trip.records("raw_trackpoints"))


def batches_of(trip: Trip, size: int) -> None:
    with (trip.folder / "playhead.toml").open("a") as file:
        file.write(f"\n[run]\nbatch_records = {size}\n")


def stored(trip: Trip) -> list[tuple[int, float, int]]:
    """Return track, distance and source offset of each row of the live version's table."""
    with closing(sqlite3.connect(trip.folder / ".playhead/store.db")) as store:
        return store.execute(
            "SELECT track_id, distance, _offset FROM dist_calc__miles ORDER BY 1"
        ).fetchall()


def group_at(trip: Trip) -> int:
    described = trip.json("groups", "describe", "--group", trip.group)["groups"][0]
    offsets: list[int] = [p["current_offset"] for p in described["partitions"]]
    return sum(offsets)


def nothing_ran(trip: Trip) -> None:
    """Check that no record was processed: no cursor moved, and no row or record was written."""
    assert trip.cursor() == 0
    topics = {t["topic"] for t in trip.json("topics", "list")["topics"]}
    if f"{trip.prefix}distance_calcs.miles" in topics:
        assert trip.records("distance_calcs.miles") == []


# ------------------------------------------------------------------------------------- ingest


def test_bad_rows_of_a_csv_are_named_by_line_and_skipped(bare: Trip) -> None:
    text = (
        HEADER + ROW.format(1) + "2,far,-37.0,1,noon\n" + "\n" + ROW.format(4)
        + "5,-10.5,-37.0,1,caf\xe9\n" + "6,-10.5\n" + "7,-10.5,-37.0,1,noon,more\n"
        + "8.0,-10.5,-37.0,1,noon\n" + "9,nan,-37.0,1,noon\n" + "10,-10.5,-37.0,,noon\n"
        + "99999999999999999999,-10.5,-37.0,1,noon\n" + ROW.format(13)
    )  # fmt: skip
    (bare.folder / "bad.csv").write_bytes(text.encode("latin-1"))
    done = ingest(bare, "bad.csv")
    refused(done, 6)
    told = [line.removeprefix("bad.csv: ") for line in done.err.splitlines()]
    assert told == [
        "line 3: latitude is 'far', not float",
        "line 4: the line is blank",
        "line 6: not UTF-8 text",
        "line 7: 2 columns where the header names 5",
        "line 8: 6 columns where the header names 5",
        "line 9: id is '8.0', not int",
        "line 10: latitude is 'nan', not float",
        "line 11: track_id is '', not int",
        "line 12: id is '99999999999999999999', not int",
    ]
    assert "3 records" in done.out
    assert "9 rows rejected" in done.out
    payloads = [json.loads(r["payload"]) for r in bare.records("raw_trackpoints")]
    assert [p["id"] for p in payloads] == [1, 4, 13]
    again = ingest(bare, "bad.csv", "-o", "json")
    refused(again, 6)
    assert (again.json["records"], again.json["rejected"]) == (3, 9)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            b"id,latitude,track_id,time\n1,-10.5,1,noon\n",
            "points.csv:1: has no column longitude; it has id, latitude, track_id, time",
        ),
        (HEADER.replace("time", "id").encode(), "points.csv:1: names a column twice"),
        (b"", "points.csv: is empty: the first line names the columns"),
        (None, "points.csv: cannot be read: No such file or directory"),
    ],
    ids=["missing column", "column twice", "empty", "missing file"],
)
def test_a_file_that_cannot_be_points_is_refused_whole(
    bare: Trip, content: bytes | None, said: str
) -> None:
    if content is not None:
        (bare.folder / "points.csv").write_bytes(content)
    refused(ingest(bare, "points.csv"), 2, said)
    assert count(bare) == 0


def test_a_folder_is_no_file(bare: Trip) -> None:
    refused(ingest(bare, "."), 2, "cannot be read: Is a directory")
    assert count(bare) == 0


def test_a_timestamp_column_that_is_not_there_is_named_with_those_that_are(bare: Trip) -> None:
    done = ingest(bare, "trackpoints.csv", "--timestamp", "tim")
    refused(done, 2, "trackpoints.csv:1", "tim", "it has id, latitude, longitude, track_id, time")
    assert count(bare) == 0


def test_a_key_column_that_is_not_there_is_named_with_those_that_are(bare: Trip) -> None:
    done = ingest(bare, "trackpoints.csv", "--key", "track")
    refused(done, 2, "trackpoints.csv:1", "track", "it has id, latitude, longitude, track_id, time")
    assert count(bare) == 0


def test_a_timestamp_format_without_its_column_is_wrong_usage(bare: Trip) -> None:
    refused(ingest(bare, "trackpoints.csv", "--timestamp-format", "%Y"), 2, "--timestamp")
    assert count(bare) == 0


def test_times_in_another_format_are_named_by_line(bare: Trip) -> None:
    done = ingest(bare, "trackpoints.csv", "--timestamp", "time")
    refused(done, 6, "line 2: '9/13/2014 7:24' is neither ISO-8601 nor an epoch", "and 661 more")
    wrong = ("--timestamp", "time", "--timestamp-format", "%d/%m/%Y %H:%M")
    done = ingest(bare, "trackpoints.csv", *wrong)
    refused(done, 6, "line 2: time data '9/13/2014 7:24' does not match format '%d/%m/%Y %H:%M'")
    some_fit = int(done.out.split()[0])
    assert 0 < some_fit < 681  # months are days, too: that is why the format is asked for
    assert count(bare) == some_fit


def test_a_file_without_one_good_row_writes_nothing(bare: Trip) -> None:
    (bare.folder / "bad.csv").write_text(HEADER + "1,far,-37.0,1,noon\n")
    refused(ingest(bare, "bad.csv"), 6, "bad.csv: line 2: latitude is 'far', not float")
    assert count(bare) == 0
    (bare.folder / "header.csv").write_text(HEADER)
    done = ingest(bare, "header.csv")
    refused(done, 0)
    assert done.out.startswith("0 records")
    assert count(bare) == 0


BAD_LINES = [
    (b'{"id": 2, "latitude": -10.5', "line 2: not a record: Input data was truncated"),
    (b"[1, 2]", "line 3: not a record: Expected `object`, got `array`"),
    (b"", "line 4: the line is blank"),
    (point(5).replace(b"-37.0", b"NaN"), "line 5: not a record: JSON is malformed"),
    (point(6).replace(b'"id": 6', b'"id": "6"'), "line 6: not a record: Expected `int`, got `str`"),
    (b'{"id": 7, "time": "caf\xe9"}', "line 7: not a record: "),
    (b'{"id": 8}', "line 8: not a record: Object missing required field"),
    (
        point(9).replace(b'"track_id": 1', b'"track_id": null'),
        "line 9: not a record: Expected `int`, got `null`",
    ),
]


@pytest.mark.parametrize("file", ["points.jsonl", "-"])
def test_bad_json_lines_are_named_by_line_and_skipped(bare: Trip, file: str) -> None:
    lines = b"\n".join([point(1), *(line for line, _ in BAD_LINES), point(10)]) + b"\n"
    (bare.folder / "points.jsonl").write_bytes(lines)
    bare.spawn = True  # standard input as it really is
    done = ingest(bare, file, stdin=lines)
    refused(done, 6, *(said for _, said in BAD_LINES))
    assert len(done.err.splitlines()) == len(BAD_LINES)
    assert [r["payload"] for r in bare.records("raw_trackpoints")] == [
        point(1).decode(),
        point(10).decode(),
    ]


def test_csv_on_standard_input_names_its_lines(bare: Trip) -> None:
    text = HEADER + ROW.format(1) + "2,far,-37.0,1,noon\n" + ROW.format(3)
    done = ingest(bare, "-", stdin=text.encode())
    refused(done, 6, "line 3: latitude is 'far', not float")
    assert count(bare) == 2
    refused(ingest(bare, "-", stdin=b""), 2, "standard input: is empty")
    assert count(bare) == 2


def test_what_came_on_standard_input_is_not_lost_when_nothing_follows(bare: Trip) -> None:
    argv = [COMMAND, "ingest", "-", "--topic", bare.topic, "--log", bare.log]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, cwd=bare.folder, stdin=pipe, stdout=pipe, stderr=pipe) as feeding:
        try:
            assert feeding.stdin is not None
            feeding.stdin.write((HEADER + ROW.format(1) + ROW.format(2)).encode())
            feeding.stdin.flush()
            wait_for(lambda: count(bare) == 2, "two rows to be flushed", 10)
        finally:
            feeding.kill()
            feeding.communicate()


def test_a_time_that_the_log_cannot_keep_is_a_bad_row(bare: Trip) -> None:
    row = ROW.replace("9/13/2014 7:24", "{}")
    rows = [row.format(1, "2014-09-13"), row.format(2, "1960-09-13"), row.format(3, "2014-09-14")]
    (bare.folder / "old.csv").write_text(HEADER + "".join(rows))
    done = ingest(bare, "old.csv", "--timestamp", "time")
    if bare.log.startswith("kafka:"):  # librdkafka would write the current time instead
        refused(done, 6, "old.csv: line 3: ")
        assert count(bare) == 2
    else:
        assert [r["ts"] < 0 for r in bare.records("raw_trackpoints")] == [False, True, False]


def test_a_topic_keeps_its_partitions(bare: Trip) -> None:
    bare.ingest(2)
    done = ingest(bare, "trackpoints.csv", "--partitions", "3")
    refused(done, 3, f"topic {bare.topic} has 2 partitions, not 3", "Nothing was written")
    assert count(bare) == 681
    bare.ingest(2)
    assert count(bare) == 1362


def test_a_topic_that_nobody_declared_is_not_made_by_a_slip(bare: Trip) -> None:
    slip = bare.topic + "s"
    done = bare.cli("ingest", "trackpoints.csv", "--topic", slip)
    refused(done, 3, f"topic {slip} does not exist and is not declared", "--partitions N")
    assert slip not in {t["topic"] for t in bare.json("topics", "list")["topics"]}
    bare.ok("ingest", "trackpoints.csv", "--topic", slip, "--partitions", "2")
    assert len(bare.records("raw_trackpointss")) == 681


def test_a_name_that_no_topic_can_have_is_refused(bare: Trip) -> None:
    for name in ("raw points", "..", "straße", "a/b", "x" * 250):
        done = bare.cli("ingest", "trackpoints.csv", "--topic", name, "--partitions", "1")
        refused(done, 2, name)
        refused(bare.cli("topics", "create", name), 2, name)
        assert name not in {t["topic"] for t in bare.json("topics", "list")["topics"]}


# ---------------------------------------------------------------------------- bad messages


BAD_MESSAGES: dict[str, tuple[Message, str]] = {
    "truncated": (
        (b"1", b'{"id": 9, "lati'),
        "cannot be decoded as JSON: Input data was truncated",
    ),
    "NaN": ((b"1", point(9).replace(b"-37.0", b"NaN")), "cannot be decoded as JSON"),
    "null value": ((b"1", None), "the value is null"),
    "wrong type": (
        (b"1", point(9).replace(b'"id": 9', b'"id": "nine"')),
        "Expected `int`, got `str` - at `$.id`",
    ),
    "float for an int": ((b"1", point(9).replace(b'"id": 9', b'"id": 9.0')), "`$.id`"),
    "past 64 bits": ((b"1", point(9).replace(b'"id": 9', b'"id": 9223372036854775808')), "`$.id`"),
    "missing column": ((b"1", b'{"id": 9}'), "missing required field"),
    "null column": (
        (b"1", point(9).replace(b'"track_id": 1', b'"track_id": null')),
        "Expected `int`, got `null` - at `$.track_id`",
    ),
    "not UTF-8": ((b"1", b'{"id": 9, "time": "\xe9"}'), "cannot be decoded as JSON"),
    "null key": ((None, point(9)), "the record has no key"),
    "no JSON": ((b"1", b""), "cannot be decoded as JSON"),
}


@pytest.mark.parametrize("kind", BAD_MESSAGES)
def test_a_bad_message_stops_the_pipeline_at_its_place(bare: Trip, kind: str) -> None:
    message, said = BAD_MESSAGES[kind]
    fill(bare, good(1), good(2), good(3))
    bare.run()
    assert [(track, at) for track, _, at in stored(bare)] == [(1, 2)]

    fill(bare, good(4), message, good(6))
    at = bare.records("raw_trackpoints")[4]["offset"]
    done = bare.cli("run", "--until-caught-up")
    refused(done, 1, f"{bare.topic}[0]@{at}: ", said, "--skip")
    assert done.out == ""
    for _ in range(2):  # the good record before it is committed, and a second try changes nothing
        refused(bare.cli("run", "--until-caught-up"), 1, f"{bare.topic}[0]@{at}: ", said)
        assert bare.cursor() == at
        assert group_at(bare) == at
        assert [(track, offset) for track, _, offset in stored(bare)] == [(1, at - 1)]
        told = [headers(r)["playhead-source"] for r in bare.records("distance_calcs.miles")]
        assert len(told) == 4
        assert told[-1] == f"{bare.topic}[0]@{at - 1}"


@pytest.mark.parametrize("kind", ["truncated", "null key"])
def test_the_cure_for_a_bad_message_is_to_step_over_it(bare: Trip, kind: str) -> None:
    fill(bare, good(1), BAD_MESSAGES[kind][0], good(3))
    at = bare.records("raw_trackpoints")[1]["offset"]
    batches_of(bare, 1)
    done = bare.cli("run", "--until-caught-up")
    refused(done, 1, "start the pipeline's group after this offset")
    reset = ("groups", "reset", "--group", bare.group, "--to-offset", str(at + 1))
    bare.ok(*reset, "--execute")
    refused(bare.cli("run", "--until-caught-up"), 3, f"[{at}, {at + 1})", "--accept-gap")
    assert bare.cursor() == at
    ran = bare.json("run", "--until-caught-up", "--accept-gap")
    assert [p["records"] for p in ran["pipelines"]] == [1]
    ids = [json.loads(r["payload"])["id"] for r in bare.records("distance_calcs.miles")]
    assert ids == [1, 3]
    assert [p["records"] for p in bare.run()["pipelines"]] == [0]


def test_a_bad_message_stops_a_replay_and_leaves_live_alone(local: Trip) -> None:
    local.run()
    miles = local.totals()
    local.edit(
        'return points.with_columns(distance=pl.col("total") * KM_PER_METRE)',
        'return points.with_columns(distance=pl.col("total") / pl.lit(0.0))',
    )
    done = local.cli("replay", "distance@km")
    refused(done, 1, f"{local.topic}[0]@0", "NaN or infinite")
    assert local.totals() == miles
    assert local.cursor("km") == 0
    assert local.records("distance_calcs.km") == []


def test_a_key_on_two_partitions_is_named_with_the_way_out(bare: Trip) -> None:
    fill(bare, good(1), (b"2", point(2, 2)), good(3), partitions=(0, 1, 0))
    bare.run()
    before = (stored(bare), bare.cursor(), len(bare.records("distance_calcs.miles")))
    fill(bare, good(4), partitions=(1,))
    done = bare.cli("run", "--until-caught-up")
    refused(
        done, 1, f"{bare.topic}[1]: key 1 was seen in {bare.topic}[0]",
        "app.pipeline(topic, to=[keyed]",
    )  # fmt: skip
    assert (stored(bare), bare.cursor(), len(bare.records("distance_calcs.miles"))) == before


def test_a_key_on_two_partitions_is_found_within_one_batch(local: Trip) -> None:
    local.topic = "raw_trackpoints"
    (local.folder / ".playhead/log.db").unlink()
    fill(local, good(1), good(2), partitions=(0, 1))
    refused(local.cli("run", "--until-caught-up"), 1, "key 1 was seen in raw_trackpoints[0]")
    nothing_ran(local)


def test_a_key_on_two_partitions_is_found_whichever_operator_remembers_it(local: Trip) -> None:
    local.topic = "raw_trackpoints"
    (local.folder / ".playhead/log.db").unlink()
    local.edit(
        'points = state.previous(points, lat0="latitude", lon0="longitude")',
        'points = points.with_columns(lat0="latitude", lon0="longitude")',
    )
    local.edit(
        'return state.running_sum(points.with_columns(metres=metres), total="metres")',
        'state.running_count(points.filter(pl.col("id") < 10), few="id")\n'
        '    state.running_count(points, many="id")\n'
        "    return points.with_columns(total=metres)",
    )
    # Of the second partition both have key 1, of the first only one.
    fill(local, good(11), good(2), partitions=(0, 1))
    refused(local.cli("run", "--until-caught-up"), 1, "key 1 was seen in raw_trackpoints[0]")
    nothing_ran(local)


# ------------------------------------------------------------------------ the user's function


MILES = 'return points.with_columns(distance=pl.col("total") * MILES_PER_METRE)'


def line_of(trip: Trip, text: str) -> int:
    lines = (trip.folder / "vehicles.py").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def test_a_function_that_raises_names_the_record_and_the_line(bare: Trip) -> None:
    bare.ingest()
    bare.edit(MILES, 'assert (points["id"] < 889).all(), "too far"\n    ' + MILES)
    done = bare.cli("run", "--until-caught-up")
    line = line_of(bare, "too far")
    refused(done, 1, "distance@miles raised AssertionError: too far", f"(vehicles.py:{line})")
    last = bare.records("raw_trackpoints")[-1]["offset"]
    assert f"{bare.topic}[0]@{last}: " in done.err
    assert "What comes before it is committed" in done.err
    assert bare.cursor() == last
    assert len(bare.records("distance_calcs.miles")) == 680


def test_a_line_in_a_helper_of_the_users_is_the_one_that_is_named(local: Trip) -> None:
    local.edit(
        "    start = points.select(",
        '    points["nope"] if len(points) else None\n    start = points.select(',
    )
    line = line_of(local, 'points["nope"]')
    done = local.cli("run", "--until-caught-up")
    refused(done, 1, "raw_trackpoints[0]@0: ", "nope", f"(vehicles.py:{line})")
    nothing_ran(local)


@pytest.mark.parametrize(
    ("value", "name"),
    [('float("nan")', "NaN"), ('float("inf")', "infinite")],
)
def test_nan_is_not_an_output_value(bare: Trip, value: str, name: str) -> None:
    fill(bare, good(1), good(2), good(3))
    at = bare.records("raw_trackpoints")[1]["offset"]
    bad = f'pl.when(pl.col("id") == 2).then(pl.lit({value})).otherwise(pl.col("total"))'
    bare.edit(MILES, f"return points.with_columns(distance={bad})")
    batches_of(bare, 1)
    done = bare.cli("run", "--until-caught-up")
    refused(done, 1, f"{bare.topic}[0]@{at}: ", ".distance is", name, "fill_nan(None)")
    assert bare.cursor() == at
    assert len(bare.records("distance_calcs.miles")) == 1


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ('points.select("id", "track_id", distance="total")', "points.select(ph.origin, …)"),
        ('points.select("id", "track_id", distance="total").to_dicts()', "returned list"),
        ("None", "returned NoneType"),
        ("points", "distance"),
        ('points.with_columns(distance=pl.lit("far"))', "column 'distance' of distance_calcs"),
        (
            "points.with_columns(distance=pl.lit(1.0), _offset=pl.lit(10**6))",
            "_partition and _offset are not those of its input",
        ),
        (
            "points.with_columns(distance=pl.lit(None, dtype=pl.Float64))",
            "raw_trackpoints[0]@0: distance_calcs.distance is null",
        ),
    ],
    ids=["select", "list", "None", "no column", "text", "origin", "null"],
)
def test_what_a_function_must_not_return_is_named(local: Trip, result: str, said: str) -> None:
    local.edit(MILES, f"return {result}")
    done = local.cli("run", "--until-caught-up")
    assert done.code in {1, 2}, done
    refused(done, done.code, said)
    nothing_ran(local)


def test_nan_that_enters_the_state_is_named_by_its_record(local: Trip) -> None:
    local.edit(
        "points.with_columns(metres=metres)",
        'points.with_columns(metres=pl.when(pl.col("id") == 3).then(float("nan")).otherwise(1.0))',
    )
    refused(local.cli("run", "--until-caught-up"), 1, "raw_trackpoints[0]@2", "NaN")
    assert local.cursor() == 2, "what comes before it is committed"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("app = ph.App", "app = = ph.App", "SyntaxError"),
        ("import pyproj", "import pyproj_of_mars", "vehicles imports 'pyproj_of_mars'"),
        ('app = ph.App("vehicles")', "app = 1 / 0", "ZeroDivisionError"),
        ('key="track_id", columns', 'key="track", columns', "table dist_calc"),
        ('("km", expect', '("miles", expect', "version distance@miles is declared twice"),
        ('version="miles"', 'version="miles", startt="latest"', "start"),
        ('App("vehicles")', 'App("My Vehicles")', "My Vehicles"),
    ],
)
def test_a_module_that_cannot_be_is_named_with_its_line(
    local: Trip, before: str, after: str, said: str
) -> None:
    local.edit(before, after)
    line = line_of(local, after)
    for command in (("run", "--until-caught-up"), ("ingest", "trackpoints.csv", "--topic", "x")):
        done = local.cli(*command)
        refused(done, 2, f"vehicles.py:{line}", said)
    nothing_ran(local)


def test_a_module_without_an_app_is_named(local: Trip) -> None:
    (local.folder / "vehicles.py").write_text("import playhead as ph\n")
    refused(local.cli("run"), 2, "vehicles has no App named 'app'")
    refused(local.cli("run", "--app", "cars:app"), 2, "module 'cars' is not in")
    (local.folder / "playhead.toml").unlink()
    refused(local.cli("run"), 2, "no app is named", 'app = "module:name"', "playhead init")
    nothing_ran(local)


def test_a_module_that_leaves_the_program_is_an_error_like_any_other(local: Trip) -> None:
    local.edit("app = ph.App", 'raise SystemExit("bye")\napp = ph.App')
    refused(local.cli("run"), 2, f"vehicles.py:{line_of(local, 'bye')}")


# ---------------------------------------------------------------------------------- wrong usage


def test_unknown_words_are_answered_with_the_closest(local: Trip) -> None:
    local.run()
    for command, said in (
        (("qurey", "SELECT 1"), "'query'"),
        (("run", "--untill-caught-up"), "--until-caught-up"),
        (("run", "distanze"), "Did you mean distance?"),
        (("plan", "distanze"), "Did you mean distance?"),
        (("replay", "distance@kms"), "distance@km"),
        (("replay", "distance"), "distance@km"),
        (("promote", "distance@kilometres"), "distance@km"),
        (("rollback", "distanze"), "Did you mean distance?"),
        (("diff", "distanze"), "Did you mean distance?"),
    ):
        refused(local.cli(*command), 2, said)


def test_before_anything_ran_every_question_says_so(bare: Trip) -> None:
    for command in (
        ("query", "SELECT * FROM dist_calc"),
        ("status",),
        ("plan",),
        ("diff", "distance"),
        ("promote", "distance@km"),
        ("rollback", "distance"),
    ):
        refused(bare.cli(*command), 1, "nothing has run here yet; next: playhead run")
    assert not (bare.folder / "warehouse.duckdb").exists()
    assert not (bare.folder / ".playhead/store.db").exists()


def test_a_run_that_could_not_begin_is_no_run(bare: Trip) -> None:
    refused(bare.cli("run", "--until-caught-up"), 1, f"topic {bare.topic} does not exist")
    query = bare.cli("query", "SELECT * FROM dist_calc")
    refused(query, 1, "nothing has run here yet; next: playhead run")
    assert not (bare.folder / "warehouse.duckdb").exists()


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("SELECT nope FROM dist_calc", "nope"),
        ("SELECT * FROM dist_cal", "dist_calc"),
        ("DROP TABLE dist_calc__miles", "read-only"),
        ("SELECT * FROM read_csv('trackpoints.csv')", "file system operations are disabled"),
        ("", "query"),
        (" ; ", "query"),
        ("-- nothing", "query"),
    ],
)
def test_bad_sql_is_refused_in_duckdbs_words(local: Trip, sql: str, said: str) -> None:
    local.run()
    done = local.cli("query", "--", sql)
    assert done.code in {1, 2}, done
    refused(done, done.code, said)
    assert {k: round(v, 6) for k, v in local.totals().items()} == oracle.KNOWN_MILES


@pytest.mark.parametrize("command", [("run", "--until-caught-up"), ("topics", "list")])
def test_a_broker_that_is_not_there_is_said_soon_and_once(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    trip = Trip.make(tmp_path / "trip")
    trip.log, trip.spawn = "kafka://127.0.0.1:1", True
    begun = time.monotonic()
    done = trip.cli(*command)
    assert time.monotonic() - begun < 8
    refused(done, 5, "Kafka at 127.0.0.1:1 did not answer", "Connection refused")
    assert len(done.err.splitlines()) <= 4, done.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('ap = "vehicles:app"', "playhead.toml: unknown setting 'ap'; did you mean app?"),
        ("[run]\nbatch_size = 3", "playhead.toml [run]: unknown setting 'batch_size'"),
        ("[run]\nbatch_records = 0", "batch_records = 0 is not a positive number"),
        ('app = "vehicles:app', "playhead.toml: cannot be read"),
        ('run = "fast"', "[run] is a table"),
        ('log = "redis:1"', "log 'redis:1' is neither local:PATH nor kafka://HOST:PORT"),
        ('store = "mysql:1"', "store 'mysql:1' is neither sqlite:PATH nor postgresql"),
    ],
)
def test_a_setting_that_cannot_be_is_named(local: Trip, text: str, said: str) -> None:
    (local.folder / "playhead.toml").write_text(text + "\n")
    argv = ["run", "--until-caught-up"]
    if not text.startswith(("app", "ap ")):
        argv += ["--app", "vehicles:app"]
    local.log = "local:.playhead/log.db"
    done = CliRunner().invoke(cli, ["-C", str(local.folder), *argv])
    refused(Done(done.exit_code, done.stdout, done.stderr), 2, said)
    assert not (local.folder / ".playhead/store.db").exists()


def test_an_unknown_kafka_property_is_answered_with_the_closest(bare: Trip) -> None:
    if bare.log.startswith("local:"):
        bare.log = "kafka://127.0.0.1:1"  # refused before anybody is asked
    for given, close in (
        ("auto.ofset.reset=error", "auto.offset.reset"),
        ("sasl.user=me", "sasl.username"),
    ):
        done = bare.cli("topics", "list", "-X", given)
        refused(done, 2, f"'{given.partition('=')[0]}'", close)
        assert "error" not in done.err.removeprefix("error: ")  # the value may be a secret
    refused(bare.cli("topics", "list", "-X", "client.id"), 2, "name=value")


# --------------------------------------------------------------------------------------- groups


def test_a_reset_that_cannot_be_is_refused_and_moves_nothing(bare: Trip) -> None:
    bare.ingest()
    bare.run()
    at = group_at(bare)
    end = bare.json("topics", "describe", bare.topic)["topics"][0]["end_offsets"][0]
    (bare.folder / "empty.csv").write_text("")
    (bare.folder / "words.csv").write_text("distance,zero,none\n")
    (bare.folder / "eight.csv").write_text(f"{bare.topic},8,0\n")
    group = ("--group", bare.group)
    for options, code, said in (
        (("--group", f"{bare.group}.witness", "--to-offset", "0"), 3, "is a witness"),
        (("--group", "nobodys", "--to-earliest"), 3, "consumer group nobodys does not exist"),
        ((*group, "--to-offset", str(end + 1)), 3, f"offset {end + 1} is not retained"),
        ((*group, "--to-earliest", "--to-latest"), 2, "say one of --to-earliest"),
        (group, 2, "say one of --to-earliest"),
        ((*group, "--to-offset", "many"), 2, "'many' is not a valid integer"),
        ((*group, "--to-offset", "-1"), 2, "-1"),
        ((*group, "--to-offset", "0", "--topic", f"{bare.topic}:7"), 2, f"{bare.topic}[7]"),
        ((*group, "--to-offset", "0", "--topic", f"{bare.topic}:x"), 2, "TOPIC or TOPIC:0,1"),
        ((*group, "--from-file", "nowhere.csv"), 2, "nowhere.csv"),
        ((*group, "--from-file", "empty.csv"), 2, "names no partition"),
        ((*group, "--from-file", "words.csv"), 2, "words.csv:1"),
        ((*group, "--from-file", "eight.csv"), 3, f"{bare.topic}[8]"),
    ):
        for execute in ((), ("--execute",)):
            refused(bare.cli("groups", "reset", *options, *execute), code, said)
            assert group_at(bare) == at
    assert not list((bare.folder / ".playhead").glob("offsets-*"))


def test_an_empty_partition_has_an_end_like_any_other(bare: Trip) -> None:
    fill(bare, (b"1", point(1)), (b"1", point(2)), partitions=(1, 1))
    bare.run()
    described = bare.json("groups", "describe", "--group", bare.group)["groups"][0]
    lines = {p["partition"]: p for p in described["partitions"]}
    assert [lines[p]["lag"] for p in (0, 1)] == [0, 0]
    assert lines[0]["log_end_offset"] == 0


def test_a_dry_run_moves_nothing(bare: Trip) -> None:
    bare.ingest()
    bare.run()
    at = group_at(bare)
    done = bare.ok("groups", "reset", "--group", bare.group, "--to-earliest")
    assert "--execute" in done.err
    assert group_at(bare) == at


# ------------------------------------------------------------------------------------- versions


def test_promotions_that_cannot_be_are_refused(local: Trip) -> None:
    local.run()
    refused(local.cli("promote", "distance@km"), 3, "not replayed", "playhead replay distance@km")
    refused(local.cli("promote", "distance@miles"), 3, "distance@miles is live")
    refused(local.cli("promote", "distance"), 2, "names no version")
    refused(local.cli("rollback", "distance"), 3, "nothing to roll back to")
    refused(local.cli("replay", "distance@miles"), 3, "distance@miles is live")
    local.ok("replay", "distance@km")
    refused(local.cli("rollback", "distance"), 3, "nothing to roll back to")
    done = local.cli("promote", "distance@km", "--accept-diff", "0123")
    refused(done, 2, "no diff '0123' was taken here", "playhead diff distance")
    stages = {v["version"]: v["stage"] for v in local.json("status")["pipelines"][0]["versions"]}
    assert stages == {"miles": "live", "km": "shadow"}


def test_changed_code_under_the_live_label_is_refused_by_name(bare: Trip) -> None:
    bare.ingest()
    bare.run()
    bare.ok("replay", "distance@km")
    miles, cursor = bare.totals(), bare.cursor()
    bare.edit("1 / 1609.344", "1 / 1609.0")
    bare.ingest()
    said = (
        "distance@miles: its code has changed",
        "Restore it, or give it a new label with @distance.version",
        "playhead plan distance",
    )
    refused(bare.cli("run", "--until-caught-up"), 3, *said)
    refused(bare.cli("promote", "distance@km"), 3, *said)
    plan = bare.cli("plan", "distance", "-o", "json")
    assert any("changed" in r["reason"] for r in plan.json["refused"]), plan
    assert (bare.totals(), bare.cursor()) == (miles, cursor)
    bare.edit("1 / 1609.0", "1 / 1609.344")
    assert [p["records"] for p in bare.run()["pipelines"]] == [681]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("KM_PER_METRE = 1 / 1000", "KM_PER_METRE = 1 / 1000  # as the BIPM has it"),
        ('    """Total distance of each car so far, in miles: what was shipped."""\n', ""),
        ("points = metres_so_far(points, state)\n    return", "points = metres_so_far(\n"
         "        points, state\n    )\n\n    return"),
    ],
    ids=["comment", "docstring", "layout"],
)  # fmt: skip
def test_a_change_that_does_nothing_is_no_change(local: Trip, before: str, after: str) -> None:
    local.run()
    local.ok("replay", "distance@km")
    local.edit(before, after)
    assert [p["records"] for p in local.run()["pipelines"]] == [0]
    assert local.json("plan", "distance")["steps"] == []
    assert local.json("promote", "distance@km")["version"] == "km"


def test_a_changed_shadow_is_replayed_anew_and_nothing_of_the_old_is_left(bare: Trip) -> None:
    bare.ingest()
    bare.edit("KM_PER_METRE = 1 / 1000", "KM_PER_METRE = 1 / 999")
    bare.run()
    bare.ok("replay", "distance@km")
    wrong = bare.json("diff", "distance", "--expect", "true")
    bare.edit("KM_PER_METRE = 1 / 999", "KM_PER_METRE = 1 / 1000")
    refused(bare.cli("promote", "distance@km"), 3, "distance@km: its code has changed")
    plan = bare.json("plan", "distance")
    assert [s["kind"] for s in plan["steps"]] == ["rewind", "replay"]
    assert "code has changed" in plan["steps"][0]["why"]
    replayed = bare.json("replay", "distance@km")["replays"][0]
    assert replayed["records"] == 681
    versions = {v["version"]: v for v in bare.json("status")["pipelines"][0]["versions"]}
    assert (versions["km"]["generation"], versions["km"]["stage"]) == (2, "shadow")
    assert versions["miles"]["generation"] == 1
    generations = [headers(r)["playhead-generation"] for r in bare.records("distance_calcs.km")]
    assert (generations.count("1"), generations.count("2")) == (681, 681)
    found = bare.json("diff", "distance")
    assert found["unexplained"] == 0
    assert found["digest"] != wrong["digest"]
    done = bare.cli("promote", "distance@km", "--accept-diff", wrong["digest"])
    assert done.code in {0, 3}, done
    if done.code:
        bare.ok("promote", "distance@km")
    assert {k: round(v, 6) for k, v in bare.totals().items()} == oracle.KNOWN_KM


def test_a_live_version_renamed_in_the_code_is_named(local: Trip) -> None:
    local.run()
    miles = local.totals()
    local.edit(module_km(local), "")
    local.edit('version="miles"', 'version="km"')
    done = local.cli("run", "--until-caught-up")
    refused(
        done, 3, "distance@miles is live but not declared here: keep it, and add km with "
        "@distance.version",
    )  # fmt: skip
    assert done.err.count("distance@miles is live but not declared here") == 1, done.err
    assert local.totals() == miles
    status = local.json("status")["pipelines"][0]["versions"]
    assert {v["version"]: v["stage"] for v in status} == {"miles": "live", "km": "declared"}
    assert not [t for t in local.json("topics", "list")["topics"] if t["topic"].endswith(".km")]


def module_km(trip: Trip) -> str:
    """Return the text of the km version in the module."""
    text = (trip.folder / "vehicles.py").read_text()
    return text[text.index("@distance.version") :]


# --------------------------------------------------------------------- topics behind our back


def digest(trip: Trip) -> str:
    """Take the diff of what is live and what is not, and return its digest."""
    found: str = trip.cli("diff", "distance", "-o", "json").json["digest"]
    return found


def unchanged(trip: Trip, *before: object) -> None:
    assert (trip.totals(), trip.cursor(), len(trip.records("distance_calcs.miles"))) == before


def test_a_topic_deleted_and_made_again_is_refused(bare: Trip) -> None:
    bare.ingest()
    bare.run()
    before = (bare.totals(), bare.cursor(), 681)
    delete_topic(bare, bare.topic)
    refused(bare.cli("run", "--until-caught-up"), 3, f"topic {bare.topic} does not exist")
    unchanged(bare, *before)
    bare.ingest()
    done = bare.cli("run", "--until-caught-up")
    refused(done, 3, f"topic {bare.topic} was deleted and created again", "results are unchanged")
    unchanged(bare, *before)
    bare.ok("replay", "distance@km")
    done = bare.cli("promote", "distance@km", "--accept-diff", digest(bare))
    refused(done, 3, f"topic {bare.topic} was deleted and created again")
    unchanged(bare, *before)


def test_a_partition_count_that_changed_is_refused(bare: Trip) -> None:
    bare.ingest()
    bare.run()
    before = (bare.totals(), bare.cursor(), 681)
    add_partition(bare, bare.topic)
    bare.ok("ingest", "trackpoints.csv", "--topic", bare.topic, *TIME)
    done = bare.cli("run", "--until-caught-up")
    refused(done, 3, f"topic {bare.topic} has 2 partitions, and had 1", "keys have moved")
    unchanged(bare, *before)


def test_a_physical_topic_that_the_catalog_does_not_know_is_never_written(bare: Trip) -> None:
    bare.ingest()
    taken = f"{bare.prefix}distance_calcs.miles"
    fill(bare, (b"1", b"theirs"), topic=taken)
    for _ in range(2):
        done = bare.cli("run", "--until-caught-up")
        refused(done, 3, f"topic {taken} exists, but the catalog does not know it")
        assert [r["payload"] for r in bare.records("distance_calcs.miles")] == ["theirs"]
        assert bare.cursor() == 0
