"""What a function returned, on its way out: the paragraph "Output" of the design."""

import hashlib
from datetime import UTC, date, datetime

import polars as pl
import pytest

import playhead as ph
from playhead.core import outputs
from playhead.core.codec import columns_schema
from playhead.core.offsets import TopicPartition
from playhead.core.outputs import Target
from playhead.core.records import Origins, Outgoing, Records, partition_of
from playhead.core.schema import schema_of
from playhead.errors import FunctionFailed

PLACE = TopicPartition("points", 2)
NAN, INF = float("nan"), float("inf")
MAX = 2**63 - 1


def records(n=3, at=10):
    keys = [b"k%d" % i for i in range(n)]
    times = [1_400_000_000_000 + i for i in range(n)]
    return Records(PLACE, range(at, at + n), times, keys, [b"{}"] * n, at + n)


def frame(offsets=(10, 11, 12), partition=2, **columns):
    origin = {
        "_partition": pl.Series([partition] * len(offsets), dtype=pl.Int32),
        "_offset": pl.Series(offsets, dtype=pl.Int64),
    }
    return pl.DataFrame({**columns, **origin})


def table(**columns):
    output = ph.App("vehicles").table("dist_calc", key=next(iter(columns)), columns=columns)
    return Target(output, "dist_calc__km", schema_of(columns, ""))


def topic(key="k", partitions=5, **columns):
    output = ph.App("vehicles").topic("distances", key=key, value=columns)
    return Target(output, "distances.km", schema_of(columns, ""), partitions)


def version_of(target):
    app = ph.App("vehicles")
    source = app.topic("points", value={"k": int})
    made = app.pipeline(source, to=[target.output], version="km", name="distance")
    return made.versions["km"]


def failure(call, *words):
    with pytest.raises(FunctionFailed) as e:
        call()
    missing = [word for word in words if word not in str(e.value)]
    assert missing == [], str(e.value)
    return e.value


def taken(annotation, values, dtype=None, offsets=None):
    """What a table with a column ``x`` of the given type takes of the values."""
    offsets = offsets or list(range(10, 10 + len(values)))
    rows = frame(offsets, k=[1] * len(values), x=pl.Series(values, dtype=dtype))
    return outputs.take(rows, table(k=int, x=annotation), PLACE)


# --- origin and order --------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [["_partition"], ["_offset"], ["_partition", "_offset"]])
def test_every_row_says_which_record_it_comes_from(lost):
    error = failure(
        lambda: outputs.in_log_order(frame().drop(lost), "distance@km", records()),
        "distance@km",
        *lost,
        "ph.origin",
    )
    assert "select" in error.cure


@pytest.mark.parametrize(
    "wrong",
    [
        {"offsets": (10, 11, 13)},  # not read
        {"offsets": (9,)},
        {"offsets": (10, None, 12)},
        {"partition": 3},
        {"partition": None},
    ],
    ids=str,
)
def test_a_row_names_a_record_of_the_batch(wrong):
    bad = frame(**wrong)
    error = failure(lambda: outputs.in_log_order(bad, "distance@km", records()), "not those of")
    assert error.where == "points[2]"


@pytest.mark.parametrize("dtype", [pl.Float64, pl.String])
def test_an_offset_of_another_type_names_no_record(dtype):
    bad = frame().with_columns(pl.col("_offset").cast(dtype))
    failure(lambda: outputs.in_log_order(bad, "distance@km", records()), "not those of")


def test_rows_are_sorted_by_offset_and_rows_of_one_input_stay_in_their_order():
    mixed = frame((12, 10, 12, 11, 10), x=["c1", "a1", "c2", "b", "a2"])
    rows = outputs.in_log_order(mixed, "distance@km", records())
    assert rows["x"].to_list() == ["a1", "a2", "b", "c1", "c2"]


def test_a_large_batch_keeps_the_order_of_rows_of_one_input():
    n = 5000
    mixed = frame([n - i // 2 for i in range(n)], x=range(n))
    rows = outputs.in_log_order(mixed, "distance@km", records(n, at=n // 2 + 1))
    expected = sorted(zip(mixed["_offset"], mixed["x"], strict=True))
    assert list(zip(rows["_offset"], rows["x"], strict=True)) == expected


def test_no_rows_at_all_are_fine():
    assert len(outputs.in_log_order(frame(()), "distance@km", records(0))) == 0


# --- declared columns, and only those ----------------------------------------------------------


def test_outputs_take_the_columns_they_declare_in_their_order():
    rows = frame(b=[1, 2, 3], k=[1, 2, 3], more=[0, 0, 0], _key=[b"", b"", b""])
    assert outputs.take(rows, table(k=int, b=int), PLACE).columns == [
        "k",
        "b",
        "_partition",
        "_offset",
    ]


def test_a_declared_column_that_is_not_there_is_named():
    failure(
        lambda: outputs.take(frame(k=[1, 2, 3]), table(k=int, distance=float), PLACE),
        "'distance'",
        "dist_calc",
        "it returned k",
    )


UTC_US = pl.Datetime("us", "UTC")
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("annotation", "values", "dtype", "expected"),
    [
        (int, [1, 2], pl.Int8, [1, 2]),
        (int, [MAX], pl.UInt64, [MAX]),
        (float, [1, 2], pl.Int64, [1.0, 2.0]),
        (float, [1.5], pl.Float32, [1.5]),
        (str, ["a"], pl.Categorical, ["a"]),
        (str, ["a"], pl.Enum(["a"]), ["a"]),
        (int | None, [None, 1], pl.Int64, [None, 1]),
        (int | None, [None], pl.Null, [None]),
        (datetime, [NOON.replace(tzinfo=None)], pl.Datetime("ms"), [NOON]),
        (datetime, [NOON], pl.Datetime("ns", "Europe/Berlin"), [NOON]),
        (list[float], [[1, 2], []], pl.List(pl.Int64), [[1.0, 2.0], []]),
        ({"a": int}, [{"a": 1}], pl.Struct({"a": pl.Int64}), [{"a": 1}]),
        (bytes, [b"\xff"], pl.Binary, [b"\xff"]),
        (date, [NOON.date()], pl.Date, [NOON.date()]),
    ],
)
def test_what_a_declared_type_takes(annotation, values, dtype, expected):
    rows = taken(annotation, values, dtype)
    assert rows["x"].to_list() == expected
    (column,) = schema_of({"x": annotation}, "")
    assert rows.schema["x"] == columns_schema((column,))["x"]


@pytest.mark.parametrize(
    ("annotation", "values", "dtype"),
    [
        (int, [1.0], pl.Float64),
        (int, [True], pl.Boolean),
        (int, ["1"], pl.String),
        (float, ["1"], pl.String),
        (float, [True], pl.Boolean),
        (bool, [1], pl.Int64),
        (str, [1], pl.Int64),
        (bytes, ["a"], pl.String),
        (date, [NOON], UTC_US),
        (datetime, [NOON.date()], pl.Date),
        (list[int], [1], pl.Int64),
        (list[int], [["1"]], pl.List(pl.String)),
        ({"a": int}, [{"b": 1}], pl.Struct({"b": pl.Int64})),
        ({"a": int}, [{"a": "1"}], pl.Struct({"a": pl.String})),
    ],
)
def test_a_returned_type_that_is_not_the_declared_one_is_named(annotation, values, dtype):
    failure(lambda: taken(annotation, values, dtype), "'x'", "dist_calc", "is declared as")


# --- values that are no output values ----------------------------------------------------------


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize(
    ("annotation", "wrap"),
    [
        (float, lambda v: v),
        (float | None, lambda v: v),
        (list[float], lambda v: [1.0, v]),
        ({"a": float}, lambda v: {"a": v}),
        ({"a": {"b": list[float]}}, lambda v: {"a": {"b": [v]}}),
        (list[list[float]], lambda v: [[], [v]]),
    ],
    ids=["float", "nullable", "list", "dict", "deep", "list of lists"],
)
def test_nan_and_infinity_are_refused_at_their_row_with_the_cure(annotation, wrap, value):
    error = failure(lambda: taken(annotation, [wrap(1.5), wrap(value), wrap(NAN)]), "dist_calc.x")
    assert error.where == "points[2]@11"
    assert "fill_nan(None)" in error.cure
    assert error.safe


def test_nul_in_a_table_s_text_is_refused_at_its_row_and_a_topic_takes_it():
    error = failure(lambda: taken(str | None, ["a", None, "b\0", "\0"]), "dist_calc.x", "NUL")
    assert error.where == "points[2]@12"
    assert "str.replace_all" in error.cure
    rows = frame(k=[1, 2, 3], x=["a", "\0", ""])
    assert outputs.take(rows, topic(k=int, x=str), PLACE)["x"].to_list() == ["a", "\0", ""]
    nested = taken(list[str], [["\0"], []])  # stored as JSON, which has a way to write it
    assert nested["x"].to_list() == [["\0"], []]


@pytest.mark.parametrize(
    ("annotation", "value", "dtype"),
    [
        (int, MAX + 1, pl.UInt64),
        (int, 2**100, pl.Int128),
        (int | None, MAX + 1, pl.UInt64),
        (list[int], [MAX + 1], pl.List(pl.UInt64)),
        ({"a": int}, {"a": MAX + 1}, pl.Struct({"a": pl.UInt64})),
    ],
)
def test_integers_past_64_bits_are_refused_at_their_row(annotation, value, dtype):
    small = {list: [1], dict: {"a": 1}}.get(type(value), 1)
    error = failure(lambda: taken(annotation, [small, value], dtype), "dist_calc.x", "int")
    assert error.where == "points[2]@11"


@pytest.mark.parametrize(
    ("annotation", "good", "null", "dtype"),
    [
        (int, 1, None, pl.Int64),
        (float, 1.0, None, pl.Float64),
        (list[int], [1], None, pl.List(pl.Int64)),
        (list[int], [1], [1, None], pl.List(pl.Int64)),
        ({"a": int}, {"a": 1}, None, pl.Struct({"a": pl.Int64})),
        ({"a": int}, {"a": 1}, {"a": None}, pl.Struct({"a": pl.Int64})),
    ],
)
def test_null_is_refused_at_its_row_where_it_is_not_declared(annotation, good, null, dtype):
    error = failure(lambda: taken(annotation, [good, null], dtype), "dist_calc.x", "null")
    assert error.where == "points[2]@11"
    assert null is not None or "| None" in error.cure


@pytest.mark.parametrize(
    ("annotation", "value", "of"),
    [
        (float, -0.0, lambda x: x),
        (list[float], [-0.0], lambda x: x[0]),
        ({"a": float}, {"a": -0.0}, lambda x: x["a"]),
        ({"a": {"b": list[float]}}, {"a": {"b": [-0.0]}}, lambda x: x["a"]["b"][0]),
    ],
    ids=["float", "list", "dict", "deep"],
)
def test_minus_zero_is_written_as_zero(annotation, value, of):
    assert str(of(taken(annotation, [value])["x"][0])) == "0.0"


def test_the_first_bad_row_is_named_also_when_the_batch_has_gaps():
    error = failure(lambda: taken(float, [1.0, NAN, NAN], offsets=[10, 700, 701]))
    assert error.where == "points[2]@700"


# --- fold --------------------------------------------------------------------------------------


def test_a_table_keeps_the_last_row_of_each_key_in_the_order_of_writing():
    rows = frame((10, 11, 11, 12), a=[1, 2, 1, 3], b=["x"] * 4, v=[1, 2, 3, 4])
    folded = outputs.fold(rows, ["a", "b"])
    assert folded.select("a", "v").rows() == [(2, 2), (1, 3), (3, 4)]
    assert outputs.fold(rows, ["b"])["v"].to_list() == [4]


def test_a_fold_of_many_rows_keeps_the_last():
    n = 20_000
    rows = pl.DataFrame({"a": [i % 977 for i in range(n)], "v": range(n)})
    last = {i % 977: i for i in range(n)}
    assert dict(outputs.fold(rows, ["a"]).rows()) == last


# --- records of a topic ------------------------------------------------------------------------


def published(target, rows, generation=4):
    return outputs.outgoing_of(rows, target, version_of(target), records(), generation)


def test_a_record_carries_its_inputs_time_and_says_who_made_it_from_what():
    target = topic(k=int, x=float)
    out = published(
        target, outputs.take(frame((10, 12, 12), k=[1, 2, 3], x=[1, 2, 3]), target, PLACE)
    )
    assert out.topic == "distances.km"
    assert out.values == [b'{"k":1,"x":1.0}', b'{"k":2,"x":2.0}', b'{"k":3,"x":3.0}']
    assert out.timestamps_ms == [1_400_000_000_000, 1_400_000_000_002, 1_400_000_000_002]
    assert out.headers[1] == (
        ("playhead-pipeline", b"distance"),
        ("playhead-version", b"km"),
        ("playhead-generation", b"4"),
        ("playhead-source", b"points[2]@12"),
    )
    assert len(out) == 3


@pytest.mark.parametrize("key", ["k", ["k", "s"]])
def test_a_record_is_placed_by_murmur2_of_its_key(key):
    target = topic(key, k=int, s=str)
    rows = frame(k=[1, 22, 333], s=["a", "b", "c"])
    out = published(target, rows)
    texts = [b"1", b"22", b"333"] if key == "k" else [b'[1,"a"]', b'[22,"b"]', b'[333,"c"]']
    assert out.keys == texts
    assert out.partitions == [partition_of(text, 5) for text in texts]
    assert len(set(out.partitions)) > 1


def test_without_a_declared_key_a_record_keeps_its_inputs_key_and_partition():
    target = topic(None, k=int)
    out = published(target, frame((10, 12), k=[1, 2]))
    assert (out.keys, out.partitions) == ([b"k0", b"k2"], [2, 2])


# --- the digest --------------------------------------------------------------------------------


def outgoing(*changes, topic="distances.km"):
    """Two records, some fields of the first changed."""
    out = Outgoing(topic)
    first = {"key": b"k", "value": b"v", "timestamp_ms": 1, "headers": (("h", b"x"),)}
    for change in changes:
        first |= change
    out.add(0, **first)
    out.add(0, b"k2", b"v2", 2, (("h", b"y"),))
    return out


def test_the_digest_is_frozen():
    """A redo after an upgrade has to find the digest that was written before it."""
    topic = b"\xac" + b"distances.km"  # MessagePack: text of 12 bytes; then arrays of 2
    keys = b"\x92" + b"\xc4\x01k" + b"\xc4\x02k2"
    values = b"\x92" + b"\xc4\x01v" + b"\xc4\x02v2"
    headers = b"\x92" + b"\x91\x92\xa1h\xc4\x01x" + b"\x91\x92\xa1h\xc4\x01y"
    times = b"\x92" + b"\x01" + b"\x02"
    written = topic + keys + values + headers + times
    assert outputs.digest([outgoing()]) == hashlib.sha256(written).hexdigest()[:16]
    assert outputs.digest([outgoing()]) == "b2eee3eb3b8249f1"
    assert outputs.digest([]) == hashlib.sha256().hexdigest()[:16]


@pytest.mark.parametrize(
    "change",
    [
        {"key": None},
        {"key": b""},
        {"key": b"kv", "value": b""},  # lengths come first: no two fields run together
        {"key": b"", "value": b"kv"},
        {"value": None},
        {"value": b"-"},
        {"timestamp_ms": 11},
        {"headers": ()},
        {"headers": (("hx", b""),)},
        {"headers": (("h", b"x"), ("h", b"x"))},
    ],
    ids=str,
)
def test_the_digest_tells_every_field_and_every_boundary(change):
    assert outputs.digest([outgoing(change)]) != outputs.digest([outgoing()])


def test_headers_that_are_written_when_asked_for_are_what_was_made_from_which_input():
    common = (("playhead-version", b"km"),)
    made = Origins(common, TopicPartition("points", 2), [4, 5, 9])
    listed = [(*common, ("playhead-source", b"points[2]@%d" % o)) for o in (4, 5, 9)]
    assert list(made) == listed
    assert [made[0], made[-1], made[1:]] == [listed[0], listed[2], listed[1:]]
    assert len(made) == 3
    digests = set()
    for one in (
        made,
        Origins((("playhead-version", b"miles"),), TopicPartition("points", 2), [4, 5, 9]),
        Origins(common, TopicPartition("points", 3), [4, 5, 9]),
        Origins(common, TopicPartition("points", 2), [4, 5, 10]),
    ):
        out = Outgoing("t", [0] * 3, [None] * 3, [b"v"] * 3, [1] * 3, one)
        digests.add(outputs.digest([out]))
    assert len(digests) == 4


def test_the_digest_tells_topics_and_order():
    one, two = outgoing(), outgoing(topic="distances.miles")
    assert outputs.digest([one]) != outputs.digest([two])
    assert outputs.digest([one, two]) != outputs.digest([two, one])
    assert outputs.digest([one, Outgoing("empty")]) == outputs.digest([one])
