"""Rewind, replay, compare and promote stream processing, exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from playhead import errors
from playhead.core.declare import App, Pipeline, Table, Topic, Version

if TYPE_CHECKING:
    import polars as pl

    from playhead import testing

    origin: pl.Expr

__version__ = "0.1.0"
__all__ = ["App", "Pipeline", "Table", "Topic", "Version", "errors", "origin", "testing"]


def __getattr__(name: str) -> Any:  # noqa: ANN401  a module or an expression
    """Load on first use what needs polars: importing playhead stays light."""
    if name == "origin":
        import polars as pl

        return pl.col("_partition", "_offset")
    if name == "testing":
        import importlib

        return importlib.import_module("playhead.testing")
    raise AttributeError(f"module 'playhead' has no attribute {name!r}")
