"""The state of a ``per="row"`` function: one dict a key."""

from __future__ import annotations

from typing import Any

import polars as pl

from playhead.core.offsets import TopicPartition
from playhead.core.slots import Slots, key_dtype, pack_row, unpack_row
from playhead.core.uses import no_key
from playhead.errors import FunctionFailed

ROW = "row"


class RowStates:
    """The state of each key of a ``per="row"`` function, in one partition, during one batch.

    Slot ``row``: the key's columns, and ``_state``, Binary, MessagePack. What ``get`` gives is a
    copy: a call that raises changes nothing as long as nobody calls ``put``. Without a declared
    key every state is empty, and ``put`` refuses any other.
    """

    def __init__(self, place: TopicPartition, key: tuple[str, ...], slots: Slots) -> None:
        """Begin a batch of records of ``place``, with ``slots`` as they were."""
        self._place, self._key = place, key
        self._dtypes: dict[str, pl.DataType] = {}
        self._states: dict[tuple[Any, ...], bytes] = {}
        self._put: dict[tuple[Any, ...], bytes] = {}
        slot = slots.get(ROW)
        if slot is not None:
            self._dtypes = dict(slot.drop("_state").schema)
            self._states = {row[:-1]: row[-1] for row in slot.iter_rows()}

    def get(self, key_values: tuple[Any, ...], where: str | None = None) -> dict[str, Any]:
        """Return the state of a key as a fresh dict, empty if there is none.

        Raises:
            FunctionFailed: A value of the key is not int, str, bool, date or datetime, or is of
                another type than this state began with.
        """
        self._check_key(key_values, where)
        packed = self._put.get(key_values) or self._states.get(key_values)
        return unpack_row(packed) if packed else {}

    def put(self, key_values: tuple[Any, ...], state: dict[str, Any], where: str) -> None:
        """Keep ``state`` for a key; on an error the state is as it was.

        Raises:
            FunctionFailed: As ``get``; or the state holds anything but None, bool, int of 64
                bits, finite float, str, bytes, list, and dict with str keys, or is too deep.
        """
        if not self._key:
            if state:
                raise no_key("state")
            return
        dtypes = self._check_key(key_values, where)
        if type(state) is not dict:
            raise _unpackable(f"state is of type {type(state).__name__}, not dict", where)
        try:
            packed = pack_row(state)
        except ValueError as e:
            raise _unpackable(str(e), where) from e
        self._dtypes = dtypes
        self._put.pop(key_values, None)  # put again, a key moves to the end
        self._put[key_values] = packed

    def changes(self) -> Slots:
        """Return the rows that were put: what ``merge`` puts into the slots."""
        if not self._put:
            return {}
        columns = zip(self._dtypes.items(), zip(*self._put, strict=True), strict=True)
        keys = {name: pl.Series(values, dtype=dtype) for (name, dtype), values in columns}
        states = pl.Series(list(self._put.values()), dtype=pl.Binary)
        return {ROW: pl.DataFrame({**keys, "_state": states})}

    def _check_key(self, key_values: tuple[Any, ...], where: str | None) -> dict[str, pl.DataType]:
        """Return the dtypes of the key's columns, the slot's or begun by these values."""
        found: dict[str, pl.DataType] = {}
        for name, value in zip(self._key, key_values, strict=True):
            dtype = key_dtype(value)
            if dtype is None or dtype != self._dtypes.get(name, dtype):
                was = self._dtypes.get(name, "int, str, bool, date or datetime, never null")
                raise FunctionFailed(
                    f"state: key {name!r} is {value!r}; it must be {was}",
                    where=where or str(self._place),
                    cure="A key keeps its type: cast it, or give the code a new version.",
                )
            found[name] = dtype
        return found


def _unpackable(what: str, where: str) -> FunctionFailed:
    return FunctionFailed(
        what,
        where=where,
        safe="The key's state is as it was.",
        cure="A state holds None, bool, int (64 bits), finite float, str, bytes, list, and dict "
        "with str keys; write a datetime as text.",
    )
