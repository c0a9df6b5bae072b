"""The state of a ``per="row"`` function: one dict a key."""

from __future__ import annotations

from typing import Any

import polars as pl

from playhead.core.offsets import Here, TopicPartition
from playhead.core.slots import Slots, is_flat, key_dtype, pack_row, unpack_row
from playhead.core.uses import no_key
from playhead.errors import FunctionFailed

ROW = "row"


class RowStates:
    """The state of each key of a ``per="row"`` function, in one partition, during one batch.

    Slot ``row``: the key's columns, and ``_state``, Binary, MessagePack. What ``get`` gives is a
    copy: a call that raises changes nothing as long as nobody calls ``put``. Without a declared
    key every state is empty, and ``put`` refuses any other.

    A flat state, of scalars alone, is packed at the end of the batch, once; within it a copy of
    the dict is as good. Any other is packed whenever it is put: that cuts what it shares.
    """

    def __init__(
        self,
        place: TopicPartition,
        key: tuple[str, ...],
        slots: Slots,
        batch: pl.DataFrame | None = None,
    ) -> None:
        """Begin a batch of records of ``place``, with ``slots`` as they were.

        What ``batch`` has no key of is left where it is: a slot may hold a million.
        """
        self._place, self._key = place, key
        self._dtypes: dict[str, pl.DataType] = {}
        self._types: tuple[type, ...] = ()  # of the values of a key that was looked at
        self._states: dict[tuple[Any, ...], bytes] = {}
        self._put: dict[tuple[Any, ...], bytes | dict[str, Any]] = {}
        slot = slots.get(ROW)
        if slot is not None:
            self._dtypes = dict(slot.drop("_state").schema)
            if batch is not None and self._dtypes == dict(batch.select(key).schema):
                slot = slot.join(batch.select(key), on=key, how="semi")
            self._states = {row[:-1]: row[-1] for row in slot.iter_rows()}

    def get(self, key_values: tuple[Any, ...], where: str | Here = "") -> dict[str, Any]:
        """Return the state of a key as a fresh dict, empty if there is none.

        Raises:
            FunctionFailed: A value of the key is not int, str, bool, date or datetime, or is of
                another type than this state began with.
        """
        self._check_key(key_values, where)
        state = self._put.get(key_values) or self._states.get(key_values)
        if type(state) is dict:
            return state.copy()
        return unpack_row(state) if state else {}  # type: ignore[arg-type]  # bytes, then

    def put(self, key_values: tuple[Any, ...], state: dict[str, Any], where: str | Here) -> None:
        """Keep ``state`` for a key; on an error the state is as it was.

        Raises:
            FunctionFailed: As ``get``; or the state holds anything but None, bool, int of 64
                bits, finite float, str, bytes, list, and dict with str keys, or is too deep.
        """
        if not self._key:
            if state:
                raise no_key("state")
            return
        self._check_key(key_values, where)
        if type(state) is not dict:
            raise _unpackable(f"state is of type {type(state).__name__}, not dict", where)
        kept: bytes | dict[str, Any]
        try:
            kept = state.copy() if state and is_flat(state) else pack_row(state)
        except ValueError as e:
            raise _unpackable(str(e), where) from e
        self._put.pop(key_values, None)  # put again, a key moves to the end
        self._put[key_values] = kept

    def changes(self) -> Slots:
        """Return the rows that were put: what ``merge`` puts into the slots."""
        if not self._put:
            return {}
        columns = zip(self._dtypes.items(), zip(*self._put, strict=True), strict=True)
        keys = {name: pl.Series(values, dtype=dtype) for (name, dtype), values in columns}
        packed = [s if isinstance(s, bytes) else pack_row(s) for s in self._put.values()]
        return {ROW: pl.DataFrame({**keys, "_state": pl.Series(packed, dtype=pl.Binary)})}

    def _check_key(self, key_values: tuple[Any, ...], where: str | Here) -> None:
        """Refuse what no key may be. Its dtypes are the slot's, or begin with the first key.

        A column of the source has one dtype: what has the types of a key that was looked at, and
        is no null, need not be looked at again.
        """
        types = tuple(map(type, key_values))
        if types == self._types:
            return
        found: dict[str, pl.DataType] = {}
        for name, value in zip(self._key, key_values, strict=True):
            dtype = key_dtype(value)
            if dtype is None or dtype != self._dtypes.get(name, dtype):
                was = self._dtypes.get(name, "int, str, bool, date or datetime, never null")
                raise FunctionFailed(
                    f"state: key {name!r} is {value!r}; it must be {was}",
                    where=str(where or self._place),
                    cure="A key keeps its type: cast it, or give the code a new version.",
                )
            found[name] = dtype
        self._types, self._dtypes = types, found


def _unpackable(what: str, where: str | Here) -> FunctionFailed:
    return FunctionFailed(
        what,
        where=str(where),
        safe="The key's state is as it was.",
        cure="A state holds None, bool, int (64 bits), finite float, str, bytes, list, and dict "
        "with str keys; write a datetime as text.",
    )
