"""Message keys: one text for the values of a key, whoever writes it, and back."""

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import playhead as ph
from playhead.core.codec import encode_keys
from playhead.core.keys import key_reader, message_key
from playhead.core.records import Outgoing, partition_of
from playhead.core.schema import schema_of
from playhead.ops.ingest import Ingested, Request, _Feed
from playhead.ops.rows import Row
from playhead.ports import TopicInfo

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
TYPES = {"int": int, "str": str, "bool": bool, "date": date, "datetime": datetime}
VALUES = {
    "int": st.integers(-(2**63), 2**63 - 1),
    "str": st.text(),
    "bool": st.booleans(),
    "date": st.dates(),
    "datetime": st.datetimes(timezones=st.just(UTC)),
}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([7], b"7"),
        (["7"], b"7"),
        (['a"b'], b'a"b'),
        (["é"], "é".encode()),
        ([""], b""),
        ([True], b"true"),
        ([date(2026, 11, 1)], b"2026-11-01"),
        ([NOON], b"2026-11-01T12:00:00Z"),
        ([NOON.replace(tzinfo=None)], b"2026-11-01T12:00:00Z"),
        ([NOON.astimezone(timezone(timedelta(hours=2)))], b"2026-11-01T12:00:00Z"),
        ([1, "b", True], b'[1,"b",true]'),
        ([NOON, date(2026, 11, 1)], b'["2026-11-01T12:00:00Z","2026-11-01"]'),
    ],
)
def test_the_text_of_a_key(values, text):
    assert message_key(values) == text


@settings(derandomize=True, database=None, max_examples=200)
@given(data=st.data())
def test_a_key_is_read_back(data):
    names = data.draw(st.lists(st.sampled_from(sorted(TYPES)), min_size=1, max_size=3))
    columns = schema_of({f"k{i}": TYPES[name] for i, name in enumerate(names)}, "test")
    values = [data.draw(VALUES[name]) for name in names]
    assert key_reader(columns)(message_key(values)) == values


@pytest.mark.parametrize(
    ("types", "text"),
    [
        ([int], b"a"),
        ([int], b"1.0"),
        ([int], b"9223372036854775808"),
        ([bool], b"1"),
        ([date], b"yesterday"),
        ([str], b"\xff"),
        ([int, str], b'["1","b"]'),
        ([int, str], b"[1]"),
        ([int, str], b"1"),
    ],
)
def test_text_that_is_no_such_key_is_an_error(types, text):
    columns = schema_of({f"k{i}": kind for i, kind in enumerate(types)}, "test")
    with pytest.raises((msgspec.MsgspecError, UnicodeDecodeError)):
        key_reader(columns)(text)


ROW = {"car": 7, "name": "é", "day": date(2026, 11, 1), "at": NOON, "on": True}
DECLARED = {"car": int, "name": str, "day": date, "at": datetime, "on": bool}


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("key", [["car"], ["at"], ["day"], ["on"], ["name", "car"], list(ROW)])
def test_ingest_and_outputs_give_a_key_one_text_and_one_partition(key, as_json):
    app = ph.App("vehicles")
    topic = app.topic("points", key=key, value=DECLARED)
    request = Request("points.jsonl", "points")
    feed = _Feed(request, TopicInfo("points", "id", 13, {}), key, Ingested("points"))
    feed.take_times(topic)
    values = msgspec.json.decode(msgspec.json.encode(ROW)) if as_json else ROW
    outgoing = Outgoing("points")
    feed.add(Row(1, values), outgoing)
    (text,) = encode_keys(pl.DataFrame([ROW]), key)
    assert outgoing.keys == [text]
    assert outgoing.partitions == [partition_of(text, 13)]


def test_ingest_names_a_key_that_is_not_of_its_type():
    app = ph.App("vehicles")
    topic = app.topic("points", key="at", value=DECLARED)
    result = Ingested("points")
    feed = _Feed(Request("f", "points"), TopicInfo("points", "id", 1, {}), ["at"], result)
    feed.take_times(topic)
    feed.add(Row(3, {"at": "noon"}), Outgoing("points"))
    assert result.rejected_count == 1
    assert result.rejected[0].startswith("line 3: ")


def test_there_is_one_function_for_the_text_of_a_key():
    source = Path(ph.__file__).parent
    users = {
        str(path.relative_to(source))
        for path in source.rglob("*.py")
        if "message_key(" in path.read_text(encoding="utf-8")
    }
    assert users == {"core/keys.py", "core/codec.py", "ops/ingest.py", "testing.py"}
