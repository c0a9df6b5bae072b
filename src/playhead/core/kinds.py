"""Kinds of frames that a function may work with: polars, pandas and Arrow.

Inside, every frame is polars'; it is handed over and taken back here. pandas frames have
Arrow-backed dtypes, so that an int with a null beside it stays an int. No vendor is imported:
polars does that, and only for a version that asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from playhead.errors import ConfigError

KINDS = ("polars", "pandas", "arrow")


def handed(frame: pl.DataFrame, kind: str) -> Any:  # noqa: ANN401  a frame of any kind
    """Return a frame as another kind.

    Raises:
        ConfigError: pandas or pyarrow is not installed.
    """
    try:
        if kind == "pandas":
            return frame.to_pandas(use_pyarrow_extension_array=True)
        if kind == "arrow":
            return frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    except ImportError as error:
        raise ConfigError(
            f"frame=\"{kind}\" needs pandas and pyarrow: pip install 'playhead[pandas]'"
        ) from error
    return frame


def kind_of_frame(frame: object) -> str | None:
    """Return the kind of a frame, or None for anything else."""
    if isinstance(frame, pl.DataFrame):
        return "polars"
    made_by = {f"{c.__module__.partition('.')[0]}.{c.__name__}" for c in type(frame).__mro__}
    if "pandas.DataFrame" in made_by:
        return "pandas"
    return "arrow" if "pyarrow.Table" in made_by else None


def taken(frame: Any) -> pl.DataFrame | None:  # noqa: ANN401  a frame of any kind
    """Return a frame of any kind as polars', or None where it is no frame.

    What pandas shows as missing is null, NaN in a column of numpy's floats too; its index is left.
    """
    kind = kind_of_frame(frame)
    if kind == "pandas":
        return pl.from_pandas(frame)
    found = pl.from_arrow(frame) if kind == "arrow" else frame
    return found if isinstance(found, pl.DataFrame) else None


def appended(frame: Any, columns: Sequence[pl.Series]) -> Any:  # noqa: ANN401  a frame of any kind
    """Return a frame with more columns, of its own kind; pandas' index stays as it is."""
    kind = kind_of_frame(frame)
    if kind == "pandas":
        more = handed(pl.DataFrame(list(columns)), kind)
        return frame.assign(**{name: more[name].array for name in more.columns})
    if kind == "arrow":
        more = handed(pl.DataFrame(list(columns)), kind)
        for name in more.column_names:
            at = frame.schema.get_field_index(name)
            frame = (
                frame.append_column(name, more.column(name))
                if at < 0
                else frame.set_column(at, name, more.column(name))
            )
        return frame
    return frame.with_columns(columns)
