"""Well-known units: what a ratio of 1.609344, or °F taken for °C, says by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

CLOSE = 1e-6


@dataclass(frozen=True, slots=True)
class Unit:
    """One conversion.

    Attributes:
        name: What it may be.
        formula: How head follows from base.
        head: The same as an expression over base.
    """

    name: str
    formula: str
    head: Callable[[pl.Expr], pl.Expr]


_FACTORS = (
    (1.609344, "mile", "kilometre"),
    (1609.344, "mile", "metre"),
    (1.852, "nautical mile", "kilometre"),
    (0.3048, "foot", "metre"),
    (0.9144, "yard", "metre"),
    (2.54, "inch", "centimetre"),
    (0.0254, "inch", "metre"),
    (0.45359237, "pound", "kilogram"),
    (28.349523125, "ounce", "gram"),
    (3.785411784, "US gallon", "litre"),
    (0.44704, "mile/h", "metre/s"),
    (0.514444444, "knot", "metre/s"),
    (3.6, "metre/s", "kilometre/h"),
    (6.894757293, "psi", "kilopascal"),
    (4.184, "calorie", "joule"),
    (57.29577951308232, "radian", "degree"),
    (60.0, "minute", "second"),
    (3600.0, "hour", "second"),
    (86400.0, "day", "second"),
    (24.0, "day", "hour"),
    (7.0, "week", "day"),
    (100.0, "whole", "per cent or hundredths"),
    (1e3, "whole", "thousandths"),
    (1e6, "whole", "millionths"),
    (1e9, "whole", "billionths"),
    (1024.0, "kibibyte", "byte"),
    (1048576.0, "mebibyte", "byte"),
)


def _times(factor: float) -> Callable[[pl.Expr], pl.Expr]:
    return lambda base: base * factor


def _over(factor: float) -> Callable[[pl.Expr], pl.Expr]:
    return lambda base: base / factor


KNOWN: tuple[Unit, ...] = (
    *(Unit(f"{small} → {large}", f"base × {f:.10g}", _times(f)) for f, small, large in _FACTORS),
    *(Unit(f"{large} → {small}", f"base / {f:.10g}", _over(f)) for f, small, large in _FACTORS),
    Unit("counted twice", "base × 2", _times(2.0)),
    Unit("halved", "base / 2", _over(2.0)),
    Unit("sign", "-base", _times(-1.0)),
    Unit("°F → °C", "(base - 32) × 5/9", lambda base: (base - 32.0) * (5.0 / 9.0)),
    Unit("°C → °F", "base × 9/5 + 32", lambda base: base * 1.8 + 32.0),
    Unit("°C → kelvin", "base + 273.15", lambda base: base + 273.15),
    Unit("kelvin → °C", "base - 273.15", lambda base: base - 273.15),
)


def counted(pairs: pl.DataFrame) -> list[int]:
    """Return how many rows of ``base`` and ``head`` each known unit explains, zeros aside."""
    base, head = pl.col("base"), pl.col("head")
    told = [
        ((head - unit.head(base)).abs() <= CLOSE * head.abs()).sum().alias(str(i))
        for i, unit in enumerate(KNOWN)
    ]
    found = pairs.filter((base != 0) & (head != 0)).select(told)
    return [int(n or 0) for n in found.row(0)]
