"""The paragraph "Fingerprint" of the design, sentence by sentence."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import textwrap
from types import CodeType

import pytest

import playhead as ph
from playhead.core.declare import Options
from playhead.core.fingerprint import (
    COUNTED,
    NOT_COUNTED,
    code_of,
    declarations_of,
    fingerprint,
)
from playhead.engine.sources import Sources, environment, fingerprint_of
from playhead.errors import DeclarationError

VEHICLES = '''\
"""Distances of vehicles."""

import math
import numpy as np
import polars as pl
import playhead as ph
import shapes
import geo.units as units
from geo import earth
from helpers import metres_between, unused_helper
from wild import *

app = ph.App("vehicles")
points_in = app.topic("raw_trackpoints", key="id", value={"id": int})
distances = app.topic("distance_calcs", key="id", value={"id": int})
other = app.topic("other", key="id", value={"id": int})
forward = app.pipeline(distances, to=[other], name="forward", version="v1")

MILE = 1609.344
YARD = MILE / 1760
LIMIT: int = 5
TABLE = {}
TABLE["car"] = 1
WEIGHTS = [1]
WEIGHTS.append(2)
COUNT = 1
COUNT += 1
FIRST, SECOND = 1, 2
try:
    import quick
    SPEED = 1
except ImportError:
    SPEED = 2
for _i in range(3):
    LOOPED = _i
if math.pi > 3:
    CHOSEN = 1
else:
    CHOSEN = 2
with open("x") as handle:
    READ = handle.read()
REGISTRY = {}


def register(name):
    def keep(function):
        REGISTRY[name] = function
        return function
    return keep


@register("plain")
def registered(x):
    return x + 10


def set_origin(value):
    global ORIGIN
    ORIGIN = value


set_origin(7)


def scale(x, by=MILE):
    """Scale x."""
    return x / by  # by a mile


def twice(x: int, factor=2) -> int:
    def times(value):
        return value * factor * inner_only()
    return times(x)


def inner_only():
    return 3


class Shape:
    """A shape."""

    sides: int = 4

    def area(self):
        return self.sides * LIMIT


def audited(function):
    return function


def unrelated(x):
    return x + 1


UNRELATED = 99


@app.pipeline(points_in, to=[distances], version="miles", rtol=0.0)
@audited
def distance(points, state, unrelated_default=FIRST):
    """Distance of each car."""
    UNRELATED = 1  # local: shadows the module's
    total = metres_between(points) + scale(points) + YARD
    total += sum([unrelated for unrelated in points]) + twice(1) + UNRELATED
    total += TABLE["car"] + WEIGHTS[0] + COUNT + SPEED + LOOPED + CHOSEN + len(READ)
    total += shapes.square(3) + units.KM + earth.RADIUS + from_wild(1)
    total += REGISTRY["plain"](1) + ORIGIN + np.pi
    total += (lambda z: z * Shape().area())(2)
    from late import lately
    import later
    return {distances: total + lately() + later.on()}


@distance.version("km", expect="true")
def distance_km(points, state):
    return points


if __name__ == "__main__":
    print(distance, np.zeros(3))
    TABLE["car"] = 5
'''

PROJECT = {
    "vehicles": VEHICLES,
    "helpers": """\
        from deeper import base
        def metres_between(p):
            return base(p) * FACTOR
        FACTOR = 2
        def unused_helper(p):
            return p
    """,
    "deeper": "def base(p):\n    return p\ndef apart(p):\n    return p\n",
    "shapes": "def square(x):\n    return x * x\ndef circle(x):\n    return x * 3\n",
    "geo": "",
    "geo.__init__": "",
    "geo.units": "from .earth import RADIUS as R\nfrom . import scales\nKM = 1000 * R * scales.TEN\n",
    "geo.earth": "RADIUS = 6371\nMASS = 5\n",
    "geo.scales": "TEN = 10\nHUNDRED = 100\n",
    "wild": "def from_wild(x):\n    return x * hidden()\ndef hidden():\n    return 1\ndef tame():\n    pass\n",
    "late": "def lately():\n    return 1\ndef never():\n    return 0\n",
    "later": "def on():\n    return 1\ndef off():\n    return 0\n",
}


def codes(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def parts(project, name="distance", module="vehicles"):
    """Return what counts of a function; its line is the one that the compiler says."""
    project = {k: textwrap.dedent(v) for k, v in project.items()}
    line = next(
        c.co_firstlineno
        for c in codes(compile(project[module], module, "exec"))
        if c.co_qualname == name
    )
    return code_of(module, name, line, project.get)


def edited(module, old, new, project=PROJECT):
    assert project[module].count(old) == 1, f"the table is wrong: {old!r}"
    return {**project, module: project[module].replace(old, new)}


BEFORE = parts(PROJECT)

SAME = {
    "a comment": ("vehicles", "# by a mile", "# by whatever"),
    "a docstring": ("vehicles", '"""Distance of each car."""', '"""Another text."""'),
    "no docstring": ("vehicles", '    """Scale x."""\n', ""),
    "a class's docstring": ("vehicles", '"""A shape."""', '"""No shape."""'),
    "the module's docstring": ("vehicles", '"""Distances of vehicles."""', ""),
    "format": ("vehicles", "return x / by", "return (x\n        /\n        by)"),
    "quotes": ("vehicles", 'TABLE["car"] + W', "TABLE['car'] + W"),
    "a blank line": ("vehicles", "MILE = 1609.344", "\n\nMILE = 1609.344"),
    "how a number is written": ("vehicles", "MILE = 1609.344", "MILE = 1_609.3440"),
    "pass": ("vehicles", "    return 3\n", "    pass\n    return 3\n"),
    "annotations of a function": ("vehicles", "x: int, factor=2) -> int:", "x, factor=2):"),
    "an unrelated function": ("vehicles", "return x + 1\n", "return x + 2\n"),
    "an unrelated function goes": ("vehicles", "def unrelated(x):\n    return x + 1\n", ""),
    "an unrelated function of a helper": ("helpers", "def unused_helper(p):", "def unused(p, q=1):"),
    "an unrelated function behind": ("deeper", "def apart(p):\n    return p", "def apart(p): pass"),
    "an unrelated function, by module": ("shapes", "x * 3", "x * 4"),
    "an unrelated function, imported inside": ("late", "return 0", "return 9"),
    "an unrelated function, module imported inside": ("later", "return 0", "return 9"),
    "an unrelated function behind a star": ("wild", "def tame", "def tamer"),
    "an unrelated name of a package": ("geo.earth", "MASS = 5", "MASS = 6"),
    "an unrelated name, relative import": ("geo.scales", "HUNDRED = 100", "HUNDRED = 0"),
    "another import of the same module": ("vehicles", ", unused_helper", ""),
    "a name that a local shadows": ("vehicles", "UNRELATED = 99", "UNRELATED = 98"),
    "another version": ("vehicles", "    return points\n", "    return points + 1\n"),
    "the function's own name": ("vehicles", "def distance(", "def distance_in_miles("),
    "the declaring decorator": ("vehicles", "[distances], version=", "[other], version="),
    "on_error of another pipeline": ("vehicles", '"v1")', '"v1", on_error="dead_letter")'),
    "columns of an output that it names": ("vehicles", 'calcs", key="id"', 'calcs", key="xx"'),
    "what runs only as a script": ("vehicles", '    TABLE["car"] = 5\n', ""),
    "order of functions": (
        "helpers",
        "FACTOR = 2\n        def unused_helper(p):\n            return p\n",
        "FACTOR = 2\n",
    ),
    "order of imports": (
        "vehicles",
        "import shapes\nimport geo.units as units\n",
        "import geo.units as units\nimport shapes\n",
    ),
}

DIFFERS = {
    "its body": ("vehicles", "return {distances: total", "return {distances: 2 * total"),
    "its default": ("vehicles", "unrelated_default=FIRST", "unrelated_default=SECOND"),
    "its other decorator": ("vehicles", "@audited\n", ""),
    "the other decorator's code": ("vehicles", "    return function\n\n\ndef unr", "    return 1\n\n\ndef unr"),
    "a helper": ("vehicles", "return x / by", "return x * by"),
    "a helper's default": ("vehicles", "by=MILE", "by=YARD"),
    "a constant": ("vehicles", "MILE = 1609.344", "MILE = 1609.347"),
    "a constant behind a constant": ("vehicles", "MILE / 1760", "MILE / 1761"),
    "an annotated constant": ("vehicles", "LIMIT: int = 5", "LIMIT: int = 6"),
    "an item": ("vehicles", 'TABLE["car"] = 1\n', 'TABLE["car"] = 2\n'),
    "a call that changes": ("vehicles", "WEIGHTS.append(2)", "WEIGHTS.append(3)"),
    "an augmented assignment": ("vehicles", "COUNT += 1", "COUNT += 2"),
    "one of several targets": ("vehicles", "FIRST, SECOND = 1, 2", "FIRST, SECOND = 3, 2"),
    "a try": ("vehicles", "    SPEED = 2", "    SPEED = 3"),
    "a for": ("vehicles", "range(3)", "range(4)"),
    "an if": ("vehicles", "math.pi > 3", "math.pi > 4"),
    "a with": ("vehicles", 'open("x")', 'open("y")'),
    "order of what runs": (
        "vehicles",
        "COUNT = 1\nCOUNT += 1\nFIRST, SECOND = 1, 2\n",
        "FIRST, SECOND = 1, 2\nCOUNT = 1\nCOUNT += 1\n",
    ),
    "what registers": ("vehicles", "REGISTRY[name] = function", "REGISTRY[name] = print"),
    "what is registered": ("vehicles", "return x + 10", "return x + 11"),
    "a global set by a function": ("vehicles", "set_origin(7)", "set_origin(8)"),
    "an import": ("vehicles", "import numpy as np", "import jax.numpy as np"),
    "a change to an installed library": ("vehicles", "MILE = 16", "np.seterr(all='raise')\nMILE = 16"),
    "a function that a nested one uses": ("vehicles", "    return 3\n", "    return 4\n"),
    "a class": ("vehicles", "return self.sides * LIMIT", "return self.sides + LIMIT"),
    "a class's field": ("vehicles", "sides: int = 4", "sides: int = 5"),
    "a class field's type": ("vehicles", "sides: int = 4", "sides: float = 4"),
    "a class's base": ("vehicles", "class Shape:", "class Shape(dict):"),
    "a lambda": ("vehicles", "lambda z: z *", "lambda z: z +"),
    "the topic that an output's name stands for": ("vehicles", '"distance_calcs"', '"calcs"'),
    "a helper in another module": ("helpers", "base(p) * FACTOR", "base(p) / FACTOR"),
    "a constant in another module": ("helpers", "FACTOR = 2", "FACTOR = 3"),
    "a helper two modules away": ("deeper", "def base(p):\n    return p", "def base(p):\n    return -p"),
    "a helper by its module": ("shapes", "return x * x", "return x ** x"),
    "a module under another name": ("geo.units", "1000 * R", "1001 * R"),
    "a relative import": ("geo.earth", "RADIUS = 6371", "RADIUS = 6372"),
    "a relative import of a module": ("geo.scales", "TEN = 10", "TEN = 11"),
    "a name by star": ("wild", "return x * hidden()", "return x + hidden()"),
    "a name behind a star": ("wild", "    return 1\n", "    return 2\n"),
    "imported inside": ("late", "return 1", "return 2"),
    "a module imported inside": ("later", "return 1", "return 2"),
}


@pytest.mark.parametrize("edit", SAME.values(), ids=SAME)
def test_same(edit):
    name = "distance_in_miles" if "def distance_in_miles(" in edit[2] else "distance"
    assert parts(edited(*edit), name) == BEFORE


@pytest.mark.parametrize("edit", DIFFERS.values(), ids=DIFFERS)
def test_differs(edit):
    assert parts(edited(*edit)) != BEFORE
