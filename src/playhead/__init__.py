"""Rewind, replay, compare and promote stream processing, exactly once."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from playhead import errors, testing
    from playhead.core.declare import App, Pipeline, Table, Topic, Version

    origin: pl.Expr

__version__ = "0.1.0"
__all__ = ["App", "Pipeline", "Table", "Topic", "Version", "errors", "origin", "testing"]


def __getattr__(name: str) -> Any:  # noqa: ANN401  a class, a module or an expression
    """Load each name on first use: ``playhead --help`` needs none of them."""
    if name == "origin":
        import polars as pl

        found: Any = pl.col("_partition", "_offset")
    elif name in {"errors", "testing"}:
        found = importlib.import_module(f"playhead.{name}")
    elif name in __all__:
        found = getattr(importlib.import_module("playhead.core.declare"), name)
    else:
        raise AttributeError(f"module 'playhead' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return the public names."""
    return [*__all__, "__version__"]
