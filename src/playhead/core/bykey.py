"""Roll values over the rows of each key: few keys with many rows, or many with a row or two.

polars walks the rows of each key by itself (``over``), which takes a call for every key. Where
most keys have a row or two, rows are put in the order of their keys instead, and taken in waves:
the first of every key, the second of every key, and so on. What a key has beyond the last wave is
left to ``over``. Both ways give the same bits: each adds the same two values in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from playhead.core.operators import Part
from playhead.core.slots import is_last

WAVES = 8
_SHIFT_BELOW, _STEP_BELOW = 16, 4  # rows a key, on average: from there on `over` is faster
_AT, _FIRST, _TURN = "_row", "_first", "_turn"


def rolled_by_key(
    rows: pl.DataFrame, groups: Sequence[str], parts: Sequence[Part]
) -> tuple[pl.DataFrame, pl.Series]:
    """Return rows with each part rolled over its key, and a mask of the last row of every key.

    Args:
        rows: What is fed, in log order; columns of the key, and one for each part.
        groups: The columns of the key; none has a null.
        parts: What to roll.
    """
    last = rows.select(is_last(groups)).to_series()
    below = min(_SHIFT_BELOW if part.step is None else _STEP_BELOW for part in parts)
    if rows.height >= below * last.sum():
        return rows.with_columns(p.roll(pl.col(p.name)).over(groups) for p in parts), last
    # Of equal keys the earlier row stays first.
    turns = rows.with_row_index(_AT).sort(groups, maintain_order=True)
    first = pl.any_horizontal(pl.col(g) != pl.col(g).shift(1) for g in groups).fill_null(value=True)
    turns = turns.with_columns(first.alias(_FIRST), pl.int_range(pl.len()).alias(_TURN))
    began = pl.when(_FIRST).then(_TURN).forward_fill()
    turns = _in_waves(turns.with_columns(pl.col(_TURN) - began), groups, parts)
    return turns.sort(_AT).select(rows.columns), last


def _in_waves(turns: pl.DataFrame, groups: Sequence[str], parts: Sequence[Part]) -> pl.DataFrame:
    """Roll rows that stand in the order of their keys; ``_turn`` counts those of a key from 0."""
    shifted = [p.name for p in parts if p.step is None]
    earlier = pl.when(pl.col(_TURN) > 0).then(pl.col(shifted).shift(1))
    turns = turns.with_columns(earlier.name.keep()) if shifted else turns
    stepped = [p for p in parts if p.step is not None]
    if not stepped:
        return turns
    count = int(turns.select(pl.col(_TURN).max()).item() or 0) + 1
    for turn in range(1, min(count, WAVES)):
        turns = turns.with_columns(
            pl.when(pl.col(_TURN) == turn)
            .then(p.step(pl.col(p.name).shift(1), pl.col(p.name)))
            .otherwise(pl.col(p.name))
            .alias(p.name)
            for p in stepped
            if p.step is not None
        )
    if count <= WAVES:
        return turns
    # The last wave's row stands in front of what follows, as a carried row does.
    early, late = pl.col(_TURN) < WAVES - 1, pl.col(_TURN) >= WAVES - 1
    rest = turns.filter(late).with_columns(p.roll(pl.col(p.name)).over(groups) for p in stepped)
    return pl.concat([turns.filter(early), rest])
