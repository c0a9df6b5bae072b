"""Bytes to columns and back: the paragraph "Input" of the design, sentence by sentence."""

import base64
import json
from datetime import UTC, date, datetime, timedelta, timezone
from random import Random

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import playhead as ph
from playhead.core.codec import (
    PIECE,
    Decoder,
    dtype_of,
    encode_keys,
    encode_rows,
    kind_of,
    named_rows,
)
from playhead.core.offsets import TopicPartition
from playhead.core.records import Records, murmur2, partition_of
from playhead.core.schema import Kind, schema_of
from playhead.errors import BadRecord, DeclarationError

PLACE = TopicPartition("points", 2)
META = ["_partition", "_offset", "_timestamp", "_key"]


def decoder(value, key=None):
    return Decoder(ph.App("vehicles").topic("points", value=value, key=key))


def records(*values, keys=None, at=10):
    n = len(values)
    times = [1_400_000_000_000 + i for i in range(n)]
    return Records(PLACE, range(at, at + n), times, keys or [b"k"] * n, values, at + n)


def column(annotation, *texts):
    """What texts of the JSON field ``x`` become, declared as ``annotation``."""
    values = [f'{{"x": {text}}}'.encode() for text in texts]
    return decoder({"x": annotation}).frame(records(*values))["x"].to_list()


def refused(value, *payloads, key=None, keys=None):
    """The error about the last of several records; those before it are good."""
    with pytest.raises(BadRecord) as e:
        decoder(value, key).frame(records(*payloads, keys=keys))
    assert e.value.where == f"points[2]@{10 + len(payloads) - 1}"
    assert str(e.value).startswith(e.value.where)
    assert e.value.safe
    assert e.value.cure
    return e.value.message


# --- the frame ---------------------------------------------------------------------------------


def test_a_frame_has_the_declared_columns_and_where_each_row_comes_from():
    frame = decoder({"b": int, "a": str}).frame(
        records(b'{"a": "x", "b": 1}', b'{"b": 2, "a": "y"}', keys=[None, b"\xff"])
    )
    assert frame.columns == ["b", "a", *META]
    assert frame.rows() == [
        (1, "x", 2, 10, datetime.fromtimestamp(1_400_000_000, UTC), None),
        (2, "y", 2, 11, datetime(2014, 5, 13, 16, 53, 20, 1000, UTC), b"\xff"),
    ]
    assert frame.schema["_timestamp"] == pl.Datetime("ms", "UTC")
    assert frame.schema["_partition"] == pl.Int32


@pytest.mark.parametrize("value", [{"a": int, "b": list[str]}, {"t": datetime | None}, bytes, None])
def test_no_records_give_the_same_columns_and_dtypes_as_some(value):
    decode = decoder(value)
    assert decode.frame(records()).schema == decode.empty().schema
    assert len(decode.empty()) == 0


# --- which values are taken, which are not -----------------------------------------------------

MAX = 2**63 - 1


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (int, "1", 1),
        (int, "-0", 0),
        (int, str(MAX), MAX),
        (int, str(-MAX - 1), -MAX - 1),
        (float, "1", 1.0),
        (float, "1.5", 1.5),
        (float, "1e3", 1000.0),
        (float, "-0.0", 0.0),
        (float, str(10**30), 1e30),
        (bool, "true", True),
        (str, '""', ""),
        (str, r'"\u00e9\u0000"', "é\0"),
        (str, '"naïve 🚗"', "naïve 🚗"),
        (bytes, '"aGk="', b"hi"),
        (bytes, '""', b""),
        (date, '"2026-11-01"', date(2026, 11, 1)),
        (datetime, '"2026-11-01T10:00:00"', datetime(2026, 11, 1, 10, tzinfo=UTC)),
        (datetime, '"2026-11-01T10:00:00Z"', datetime(2026, 11, 1, 10, tzinfo=UTC)),
        (datetime, '"2026-11-01T10:00:00+02:00"', datetime(2026, 11, 1, 8, tzinfo=UTC)),
        (datetime, '"2026-11-01T10:00:00.123456Z"', datetime(2026, 11, 1, 10, 0, 0, 123456, UTC)),
        (list[int], "[]", []),
        (list[int], "[1, 2]", [1, 2]),
        (list[list[str]], '[["a"], []]', [["a"], []]),
        (list[int | None], "[1, null]", [1, None]),
        (list[bytes], '["aGk="]', [b"hi"]),
        (list[datetime], '["2026-11-01T10:00:00"]', [datetime(2026, 11, 1, 10, tzinfo=UTC)]),
        ({"a": int, "b": {"c": str}}, '{"b": {"c": "x"}, "a": 1}', {"a": 1, "b": {"c": "x"}}),
        ({"a": int | None}, "{}", {"a": None}),
        ({"a": int}, '{"a": 1, "more": 2}', {"a": 1}),
        (
            {"t": datetime},
            '{"t": "2026-11-01T10:00:00+02:00"}',
            {"t": datetime(2026, 11, 1, 8, tzinfo=UTC)},
        ),
    ],
)
def test_what_a_declared_type_takes(annotation, text, value):
    assert column(annotation, text) == [value]


@pytest.mark.parametrize(
    ("annotation", "texts"),
    {
        int: ["1.0", "1e0", "true", '"1"', str(MAX + 1), str(2**64), str(-MAX - 2), "[1]", "null"],
        float: ["true", '"1"', "NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1" * 400],
        bool: ["1", "0", '"true"'],
        str: ["1", '"\\ud800"', "'a'"],
        bytes: ['"a"', '"a b="', "[1]"],
        date: ['"2026-11-31"', '"1/2/2026"', "5"],
        datetime: ['"2026-11-01"', '"yesterday"', "1700000000"],
        list[int]: ["[1.5]", '["x"]', "[null]", "5", "{}", "[" * 5000],
    }.items(),
    ids=str,
)
def test_what_a_declared_type_does_not_take(annotation, texts):
    for text in texts:
        assert "cannot be decoded" in refused({"x": annotation}, f'{{"x": {text}}}'.encode())


@pytest.mark.parametrize(
    "annotation", [int, str, datetime, list[int], {"a": int}], ids=["int", "str", "dt", "li", "di"]
)
def test_a_column_must_be_there_and_not_null(annotation):
    good = {
        "int": b"1",
        "str": b'"a"',
        "datetime": b'"2026-01-01T00:00:00"',
        "list[int]": b"[]",
        "{a: int}": b'{"a": 1}',
    }[schema_of({"x": annotation}, "")[0].typed()]
    whole = b'{"x": ' + good + b"}"
    assert "`x`" in refused({"x": annotation}, whole, b"{}")
    assert "null" in refused({"x": annotation}, whole, b'{"x": null}')


@pytest.mark.parametrize("annotation", [int, float, bool, str, bytes, date, datetime, list[int]])
def test_a_nullable_column_may_be_absent_or_null(annotation):
    decode = decoder({"y": int, "x": annotation | None})
    frame = decode.frame(records(b'{"y": 1}', b'{"y": 2, "x": null}'))
    assert frame["x"].to_list() == [None, None]
    assert frame["x"].dtype == dtype_of(schema_of({"x": annotation}, "")[0].kind)


@pytest.mark.parametrize("more", ['"z": 5', '"z": {"deep": [1, {"er": null}]}', '"X": "other"'])
def test_undeclared_fields_are_ignored(more):
    frame = decoder({"x": int}).frame(records(f'{{{more}, "x": 1}}'.encode()))
    assert frame.columns == ["x", *META]


def test_of_two_equal_names_the_last_counts():
    assert decoder({"x": int}).frame(records(b'{"x": 1, "x": 2}'))["x"].to_list() == [2]


def test_times_of_several_zones_meet_in_one_column():
    texts = ['"2026-11-01T10:00:00"', '"2026-11-01T10:00:00+05:30"', '"2026-11-01T10:00:00Z"']
    values = column(datetime, *texts)
    assert [v.astimezone(UTC).strftime("%H:%M") for v in values] == ["10:00", "04:30", "10:00"]


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_that_has_no_utc_is_a_bad_record(text):
    for annotation, value in ((datetime, f'"{text}"'), (list[datetime], f'["{text}"]')):
        good = {datetime: '"2026-01-01T00:00:00Z"', list[datetime]: "[]"}[annotation]
        refused({"x": annotation}, f'{{"x": {good}}}'.encode(), f'{{"x": {value}}}'.encode())


# --- bytes that are no record ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "payload_and_words"),
    {
        "truncated": (b'{"x": 1', ["truncated", '{"x": 1']),
        "empty": (b"", ["truncated"]),
        "more after it": (b'{"x": 1} {"x": 2}', ["malformed"]),
        "latin-1": (b'{"x": 1, "s": "caf\xe9"}', ["utf-8", "caf"]),
        "byte order mark": (b'\xef\xbb\xbf{"x": 1}', ["malformed"]),
        "utf-16": ('{"x": 1}'.encode("utf-16"), ["malformed"]),
        "null value": (None, ["value is null"]),
        "json null": (b"null", ["Expected `object`"]),
        "array": (b"[1]", ["Expected `object`"]),
        "nothing readable": (b"\x00\x01\x02", ["malformed"]),
        "NaN beside it": (b'{"x": 1, "y": NaN}', ["malformed"]),
        "very deep": (b'{"x": 1, "y": ' + b"[" * 100_000, []),
    }.items(),
)
def test_a_record_that_cannot_be_decoded_is_named(case, payload_and_words):
    payload, words = payload_and_words
    message = refused({"x": int, "s": str | None}, b'{"x": 1}', b'{"x": 2, "s": "e"}', payload)
    assert [word for word in words if word not in message] == []
    assert len(message) < 400


PIECES = [
    '{"x":1}',
    '{"x": 2 }',
    '{"x":3',
    "}",
    ',"y":[4',
    "]}",
    '{"y":["',
    '"]}',
    "{}",
    "\n",
    " ",
    ",",
]


@settings(max_examples=300)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=4).map("".join), min_size=1, max_size=6))
@example(['{"x":1}{"x":2}', '{"x":3', ',"y":[4]}'])
@example(['{"x":1}{"x":2}', '{"y":["}', '{"]}'])
@example(['{"x":1}\n{"x":2}', '{"x":3', "}"])
def test_each_message_means_what_it_means_alone(texts):
    """However a batch is decoded: what one message lacks, its neighbour cannot make up for."""
    declared = decoder({"x": int | None})
    values = [text.encode() for text in texts]
    alone = []
    for i, value in enumerate(values):
        try:
            alone += declared.frame(records(value))["x"].to_list()
        except BadRecord:
            with pytest.raises(BadRecord) as e:
                declared.frame(records(*values))
            assert e.value.where == f"points[2]@{10 + i}"
            return
    assert declared.frame(records(*values))["x"].to_list() == alone


def test_of_many_records_all_come_in_order_and_a_bad_one_is_named():
    values = [f'{{"x": {i}, "t": "é"}}'.encode() for i in range(2 * PIECE + 10)]
    declared = decoder({"x": int, "t": str | None})
    frame = declared.frame(records(*values))
    assert frame["x"].to_list() == list(range(len(values)))
    assert frame["_offset"].to_list() == list(range(10, 10 + len(values)))
    for bad in (0, PIECE - 1, PIECE, 2 * PIECE + 5):
        with pytest.raises(BadRecord) as e:
            declared.frame(records(*values[:bad], b"{", *values[bad + 1 :]))
        assert e.value.where == f"points[2]@{10 + bad}"


def test_a_null_value_is_refused_whatever_is_declared():
    assert "null" in refused(bytes, b"a", None)


def test_a_null_key_is_refused_where_a_key_is_declared():
    good = b'{"x": 1, "y": 2}'
    assert "no key" in refused({"x": int}, good, good, key="x", keys=[b"1", None])
    assert "no key" in refused({"x": int, "y": int}, good, key=["x", "y"], keys=[None])
    assert decoder({"x": int}).frame(records(good, keys=[None]))["_key"].to_list() == [None]


def test_value_bytes_hands_the_value_over_as_it_is():
    for value in (bytes, None):
        frame = decoder(value).frame(records(b"\x00\xff", b""))
        assert frame.columns == ["_value", *META]
        assert frame["_value"].to_list() == [b"\x00\xff", b""]


# --- and back ----------------------------------------------------------------------------------

SCALARS = {
    "i": (int, st.integers(-MAX - 1, MAX)),
    "f": (float, st.floats(allow_nan=False, allow_infinity=False)),
    "b": (bool, st.booleans()),
    "s": (str, st.text(st.characters(codec="utf-8"))),
    "y": (bytes, st.binary()),
    "d": (date, st.dates()),
    "t": (datetime, st.datetimes(timezones=st.just(UTC))),
    "n": (int | None, st.none() | st.integers(-5, 5)),
    "l": (list[int | None], st.lists(st.none() | st.integers(-5, 5), max_size=3)),
    "o": (
        {"a": str, "b": list[float]},
        st.fixed_dictionaries(
            {
                "a": st.text(st.characters(codec="utf-8"), max_size=3),
                "b": st.lists(st.floats(-1e9, 1e9), max_size=2),
            }
        ),
    ),
}
rows = st.lists(st.fixed_dictionaries({n: s for n, (_, s) in SCALARS.items()}), max_size=3)


@settings(max_examples=60, deadline=None)
@given(rows)
def test_what_is_encoded_is_decoded_again(found):
    value = {name: annotation for name, (annotation, _) in SCALARS.items()}
    schema = {c.name: dtype_of(c.kind) for c in schema_of(value, "")}
    frame = pl.DataFrame(found, schema=schema, orient="row")
    encoded = encode_rows(frame, list(value))
    assert encode_rows(frame, ["s", "i"]) == encode_rows(frame.select("s", "i"), ["s", "i"])
    again = decoder(value).frame(records(*encoded)).select(list(value))
    assert again.equals(frame)
    for text, row in zip(encoded, found, strict=True):
        other = json.loads(text)
        assert list(other) == list(value)
        assert (other["i"], other["f"], other["s"], other["n"]) == (
            row["i"],
            row["f"],
            row["s"],
            row["n"],
        )
        assert base64.b64decode(other["y"]) == row["y"]


def test_how_values_are_written():
    frame = pl.DataFrame(
        {
            "t": [datetime(2026, 11, 1, 10, tzinfo=timezone(timedelta(hours=2)))],
            "d": [date(2026, 11, 1)],
            "y": [b"\xff"],
            "n": [None],
            "s": ['é"'],
            "f": [1e16],
        },
        schema_overrides={"t": pl.Datetime("us", "UTC"), "n": pl.Int64},
    )
    assert encode_rows(frame, list("tdynsf")) == [
        '{"t":"2026-11-01T08:00:00Z","d":"2026-11-01","y":"/w==","n":null,"s":"é\\"","f":1e16}'.encode()
    ]


# --- keys --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "dtype", "texts"),
    [
        ([1, -2, MAX], pl.Int64, [b"1", b"-2", b"%d" % MAX]),
        ([7], pl.UInt8, [b"7"]),
        (["", "a b", 'é"'], pl.String, [b"", b"a b", 'é"'.encode()]),
        ([True, False], pl.Boolean, [b"true", b"false"]),
        ([date(2026, 11, 1)], pl.Date, [b"2026-11-01"]),
        (
            [datetime(2026, 11, 1, 8, tzinfo=UTC)],
            pl.Datetime("us", "UTC"),
            [b"2026-11-01T08:00:00Z"],
        ),
    ],
)
def test_a_key_of_one_column_is_utf8_text(values, dtype, texts):
    assert encode_keys(pl.DataFrame({"k": pl.Series(values, dtype=dtype)}), ["k"]) == texts


def test_a_key_of_several_columns_is_a_json_array_in_the_declared_order():
    frame = pl.DataFrame({"a": [1, 2], "b": ["x", 'y"'], "c": [date(2026, 11, 1)] * 2})
    assert encode_keys(frame, ["b", "a", "c"]) == [
        b'["x",1,"2026-11-01"]',
        b'["y\\"",2,"2026-11-01"]',
    ]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_kafkas(data, expected):
    """The values are those of Kafka's own UtilsTest."""
    assert murmur2(data) == expected
    assert partition_of(data, 7) == (expected & 0x7FFFFFFF) % 7


@given(st.binary(max_size=20), st.integers(1, 50))
def test_every_key_has_a_partition(key, partitions):
    assert 0 <= partition_of(key, partitions) < partitions
    assert partition_of(key, 1) == 0


# --- dtypes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "shown"),
    [
        (pl.Int8(), "int"),
        (pl.UInt64(), "int"),
        (pl.Float32(), "float"),
        (pl.Datetime("ns", "Europe/Berlin"), "datetime"),
        (pl.Datetime("ms"), "datetime"),
        (pl.List(pl.Int32), "list[int | None]"),
        (pl.Struct({"a": pl.String}), "{a: str | None}"),
        (pl.Binary(), "bytes"),
    ],
)
def test_a_dtype_declares_a_type(dtype, shown):
    assert str(kind_of(dtype, "here")) == shown


@pytest.mark.parametrize("dtype", [pl.Duration(), pl.Time(), pl.Null(), pl.Decimal(5, 2)])
def test_a_dtype_that_cannot_be_written_is_named(dtype):
    with pytest.raises(DeclarationError, match=r"table\.x: dtype .* cannot be written"):
        kind_of(dtype, "table.x")


@pytest.mark.parametrize("annotation", [int, str, list[datetime], {"a": bytes}], ids=str)
def test_a_declared_type_survives_its_dtype(annotation):
    (declared,) = schema_of({"x": annotation}, "")
    assert isinstance(declared.kind, Kind)
    assert kind_of(dtype_of(declared.kind), "").name == declared.kind.name


@pytest.mark.parametrize("beyond", [-1, 2**32 * 1000 + 1])
def test_rows_are_what_polars_gives(beyond: int) -> None:
    random = Random(7)
    times = [0, 1, 999, 2**32 * 1000, *(random.randrange(2**32 * 1000) for _ in range(20_000))]
    for milliseconds in (times, [*times[:9], beyond], []):
        stamps = pl.Series(milliseconds, dtype=pl.Int64).cast(pl.Datetime("ms", "UTC"))
        frame = pl.DataFrame(
            {"x": range(len(stamps)), "_timestamp": stamps, "_key": [b"k"] * len(stamps)}
        )
        rows = list(named_rows(frame))
        assert rows == frame.rows(named=True)
        assert [repr(row) for row in rows] == [repr(row) for row in frame.rows(named=True)]
