"""Slots: merge, the stored container, the packed state of a row function."""

import hashlib
import struct
from datetime import UTC, date, datetime

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from playhead.core.slots import (
    DEPTH_MAX,
    FORMAT,
    decode,
    encode,
    key_columns,
    key_dtype,
    merge,
    pack_row,
    unpack_row,
)
from playhead.errors import StoreFailed


def slot(keys, totals):
    return pl.DataFrame({"car": keys, "_total": totals})


def example():
    times = [datetime(2014, 9, 13, 7, 24, tzinfo=UTC), None]
    return {
        "running_sum.total": slot([2, 1], [-0.0, 1e-308]),
        "previous.lat0": pl.DataFrame(
            {"car": ["é", "b"], "hour": [date(2014, 9, 13)] * 2, "_value": times}
        ),
        "latest.tags": pl.DataFrame({"car": [True], "_value": [[{"a": 1.5, "b": b"\x00"}]]}),
        "running_count.n": slot([], []).cast({"car": pl.Int64, "_total": pl.Int64}),
    }


def assert_same(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert_frame_equal(left[name], right[name], check_exact=True)


def test_the_names_say_which_columns_are_the_key():
    assert key_columns(example()["previous.lat0"]) == ["car", "hour"]


def test_merge_replaces_rows_of_equal_key_and_adds_new_ones():
    base = {"s": slot([1, 2, 3], [1.0, 2.0, 3.0])}
    merged = merge(base, {"s": slot([4, 1], [40.0, 10.0])})
    assert merged["s"].rows() == [(2, 2.0), (3, 3.0), (4, 40.0), (1, 10.0)]
    assert base["s"].height == 3


def test_merge_compares_the_whole_key():
    base = {"s": pl.DataFrame({"car": [1, 1], "hour": [7, 8], "_total": [1, 2]})}
    merged = merge(base, {"s": pl.DataFrame({"car": [1], "hour": [8], "_total": [3]})})
    assert merged["s"].rows() == [(1, 7, 1), (1, 8, 3)]


def test_merge_adds_new_slots_and_keeps_untouched_ones():
    merged = merge({"a": slot([1], [1.0])}, {"b": slot([2], [2.0])})
    assert {name: s.rows() for name, s in merged.items()} == {"a": [(1, 1.0)], "b": [(2, 2.0)]}
    assert merge({}, {}) == {}


def test_merge_works_with_empty_slots():
    empty = slot([1], [1.0]).clear()
    assert merge({"s": empty}, {"s": slot([1], [2.0])})["s"].rows() == [(1, 2.0)]
    assert merge({"s": slot([1], [2.0])}, {"s": empty})["s"].rows() == [(1, 2.0)]


@pytest.mark.parametrize(
    ("delta", "said"),
    [
        (slot([1], [1]), "the delta has car Int64, _total Int64"),
        (slot(["1"], [1.0]), "the delta has car String, _total Float64"),
        (slot([1], [1.0]).rename({"_total": "_value"}), "the delta has car Int64, _value Float64"),
        (pl.DataFrame({"_total": [1.0], "car": [1]}), "the delta has _total Float64, car Int64"),
    ],
)
def test_merge_refuses_another_shape(delta, said):
    with pytest.raises(StoreFailed) as e:
        merge({"running_sum.total": slot([1], [1.0])}, {"running_sum.total": delta})
    assert e.value.message == (
        "slot running_sum.total does not fit its delta: it has car Int64, _total Float64, " + said
    )


def test_slots_come_back_bit_for_bit():
    back = decode(encode(example()))
    assert_same(back, example())
    (zero, tiny) = back["running_sum.total"]["_total"]
    assert struct.pack("<dd", zero, tiny) == struct.pack("<dd", -0.0, 1e-308)


def test_no_slots_come_back_as_none():
    assert decode(encode({})) == {}


def test_encode_is_deterministic_whatever_the_order_and_the_chunks():
    slots = example()
    turned = dict(reversed(slots.items()))
    turned["running_sum.total"] = pl.concat(
        [slots["running_sum.total"][:1], slots["running_sum.total"][1:]], rechunk=False
    )
    assert turned["running_sum.total"].n_chunks() == 2
    assert encode(turned) == encode(slots) == encode(example())


def test_a_blob_says_what_it_is():
    assert encode(example()).startswith(b"phslots\x01")
    assert FORMAT == 1


def test_any_changed_byte_is_found():
    blob = encode({"running_sum.total": slot([2, 1], [0.5, 1.5])})
    for at in range(len(blob)):
        with pytest.raises(StoreFailed, match=r"^state of distance@km"):
            decode(blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :], "state of distance@km")


def test_any_cut_and_any_tail_is_found():
    blob = encode({"running_sum.total": slot([2, 1], [0.5, 1.5])})
    for size in range(len(blob)):
        with pytest.raises(StoreFailed):
            decode(blob[:size])
    with pytest.raises(StoreFailed, match="damaged"):
        decode(blob + b"\x00")


def test_errors_say_what_is_wrong_with_a_blob():
    blob = encode(example())
    with pytest.raises(StoreFailed) as e:
        decode(b"PK\x03\x04", "the snapshot at 1200")
    assert str(e.value) == (
        "the snapshot at 1200: 4 bytes that are not state of Playhead, or were cut short\n"
        "Nothing was computed from it. Restore the store from a backup, or rewind the version to "
        "the earliest offset, which builds its state anew."
    )
    with pytest.raises(StoreFailed) as e:
        decode(blob[:-1], "the snapshot at 1200")
    assert e.value.message == (
        "the snapshot at 1200 is damaged: its SHA-256 is not the one written with it"
    )
    with pytest.raises(StoreFailed) as e:
        decode(b"phslots\x02" + blob[8:], "the snapshot at 1200")
    assert e.value.message == "the snapshot at 1200 is in format 2; this Playhead reads format 1"
    assert "If a newer Playhead wrote it, run that one" in str(e.value)


@pytest.mark.parametrize("payload", [b"", struct.pack("<I", 1), struct.pack("<II", 1, 1) + b"\xff"])
def test_a_payload_that_is_no_arrow_is_a_named_error(payload):
    with pytest.raises(StoreFailed, match="is whole but cannot be read as Arrow"):
        decode(b"phslots\x01" + hashlib.sha256(payload).digest() + payload)


def test_a_broken_arrow_stream_is_a_named_error():
    payload = struct.pack("<II", 1, 1) + b"s" + struct.pack("<Q", 9) + b"not arrow"
    with pytest.raises(StoreFailed, match="is whole but cannot be read as Arrow"):
        decode(b"phslots\x01" + hashlib.sha256(payload).digest() + payload)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1, pl.Int64()),
        (-(2**63), pl.Int64()),
        ("a", pl.String()),
        (True, pl.Boolean()),
        (date(2014, 9, 13), pl.Date()),
        (datetime(2014, 9, 13), pl.Datetime("us")),  # noqa: DTZ001
        (datetime(2014, 9, 13, tzinfo=UTC), pl.Datetime("us", "UTC")),
        (2**63, None),
        (1.0, None),
        (None, None),
        (b"a", None),
        ((1,), None),
    ],
)
def test_what_a_key_may_be(value, dtype):
    assert key_dtype(value) == dtype


ROW = {
    "none": None,
    "bools": [True, False],
    "ints": [0, -(2**63), 2**63 - 1],
    "floats": [1.5, -0.0, 5e-324],
    "text": "é\x00\U0001f697",
    "bytes": b"\x00\xff",
    "deep": {"": {"a": [[], {}]}},
}


def test_the_state_of_a_row_function_comes_back_equal_and_fresh():
    packed = pack_row(ROW)
    back = unpack_row(packed)
    assert back == ROW
    assert repr(back) == repr(ROW)  # 1 == True and 0.0 == -0.0, their texts differ
    assert unpack_row(packed) is not back


class Int(int):
    pass


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"a": (1, 2)}, "state['a'] is of type tuple"),
        ({"a": {1}}, "state['a'] is of type set"),
        ({"a": datetime(2014, 9, 13, tzinfo=UTC)}, "state['a'] is of type datetime"),
        ({"a": bytearray(b"a")}, "state['a'] is of type bytearray"),
        ({"a": Int(1)}, "state['a'] is of type Int"),
        ({"a": Text("b")}, "state['a'] is of type Text"),
        ({"a": [0, {"b": object()}]}, "state['a'][1]['b'] is of type object"),
        ({"a": 2**63}, "state['a'] is an int past 64 bits"),
        ({"a": -(2**63) - 1}, "state['a'] is an int past 64 bits"),
        ({"a": float("nan")}, "state['a'] is nan, which is not finite"),
        ({"a": [float("-inf")]}, "state['a'][0] is -inf, which is not finite"),
        ({"a": "\ud800"}, "state['a'] is '\\ud800', which has no UTF-8"),
        ({1: 2}, "state has the key 1: keys are text"),
        ({"a": {None: 2}}, "state['a'] has the key None: keys are text"),
        ({Text("a"): 2}, "state has the key 'a': keys are text"),
        ({"\ud800": 2}, "state has the key '\\ud800': keys are text"),
    ],
)
def test_what_would_not_come_back_equal_is_refused(state, said):
    with pytest.raises(ValueError) as e:  # noqa: PT011  its whole text is below
        pack_row(state)
    assert str(e.value) == said


def nested(levels):
    state = {}
    for _ in range(levels - 1):
        state = {"a": state}
    return state


def test_depth_has_a_limit_and_so_has_a_state_that_holds_itself():
    assert unpack_row(pack_row(nested(DEPTH_MAX))) == nested(DEPTH_MAX)
    itself = {}
    itself["a"] = [itself]
    for state in (nested(DEPTH_MAX + 1), itself):
        with pytest.raises(ValueError, match="nested more than 64 levels deep"):
            pack_row(state)
