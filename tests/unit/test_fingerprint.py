"""The paragraph "Fingerprint" of the design, sentence by sentence."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import platform
import subprocess
import sys
import textwrap
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import CodeType
from typing import get_type_hints

import msgspec
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

import functools
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


HANDLERS = []


def handler(function):
    HANDLERS.append(function)


@handler
def handled(x):
    return x + 20


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


@functools.cache
@audited
def unrelated(x):
    np.random.seed(1)
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
    total += functools.reduce(lambda a, b: a + b, HANDLERS)
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
    "geo.units": """\
        from .earth import RADIUS as R
        from . import scales
        KM = 1000 * R * scales.TEN
    """,
    "geo.earth": "RADIUS = 6371\nMASS = 5\n",
    "geo.scales": "TEN = 10\nHUNDRED = 100\n",
    "wild": "def from_wild(x):\n    return x * hidden()\ndef hidden():\n    return 1\n"
    "def tame():\n    pass\n",
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
    "an unrelated function goes": (
        "vehicles",
        "@functools.cache\n@audited\ndef unrelated",
        "def apart",
    ),
    "an unrelated function of a helper": (
        "helpers",
        "def unused_helper(p):",
        "def unused(p, q=1):",
    ),
    "an unrelated function behind": ("deeper", "def apart(p):\n    return p", "def apart(p): pass"),
    "an unrelated function, by module": ("shapes", "x * 3", "x * 4"),
    "an unrelated function, imported inside": ("late", "return 0", "return 9"),
    "an unrelated function, module imported inside": ("later", "return 0", "return 9"),
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
        "deeper",
        "def base(p):\n    return p\ndef apart(p):\n    return p\n",
        "def apart(p):\n    return p\ndef base(p):\n    return p\n",
    ),
    "order of functions that count": (
        "wild",
        "def from_wild(x):\n    return x * hidden()\ndef hidden():\n    return 1\n",
        "def hidden():\n    return 1\ndef from_wild(x):\n    return x * hidden()\n",
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
    "its other decorator": ("vehicles", "@audited\ndef distance(", "def distance("),
    "the other decorator's code": (
        "vehicles",
        "    return function\n\n\n@functools",
        "    return 1\n\n\n@functools",
    ),
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
    "what is appended": ("vehicles", "return x + 20", "return x + 21"),
    "a global set by a function": ("vehicles", "set_origin(7)", "set_origin(8)"),
    "an import": ("vehicles", "import numpy as np", "import jax.numpy as np"),
    "a change to an installed library": (
        "vehicles",
        "MILE = 16",
        "np.seterr(all='raise')\nMILE = 16",
    ),
    "a function that a nested one uses": ("vehicles", "    return 3\n", "    return 4\n"),
    "a class": ("vehicles", "return self.sides * LIMIT", "return self.sides + LIMIT"),
    "a class's field": ("vehicles", "sides: int = 4", "sides: int = 5"),
    "a class field's type": ("vehicles", "sides: int = 4", "sides: float = 4"),
    "a class's base": ("vehicles", "class Shape:", "class Shape(dict):"),
    "a lambda": ("vehicles", "lambda z: z *", "lambda z: z +"),
    "the topic that an output's name stands for": ("vehicles", '"distance_calcs"', '"calcs"'),
    "a helper in another module": ("helpers", "base(p) * FACTOR", "base(p) / FACTOR"),
    "a constant in another module": ("helpers", "FACTOR = 2", "FACTOR = 3"),
    "a helper two modules away": (
        "deeper",
        "def base(p):\n    return p",
        "def base(p):\n    return -p",
    ),
    "a helper by its module": ("shapes", "return x * x", "return x ** x"),
    "a module under another name": ("geo.units", "1000 * R", "1001 * R"),
    "a relative import": ("geo.earth", "RADIUS = 6371", "RADIUS = 6372"),
    "a relative import of a module": ("geo.scales", "TEN = 10", "TEN = 11"),
    "a name by star": ("wild", "return x * hidden()", "return x + hidden()"),
    "anything behind a star": ("wild", "def tame", "def tamer"),
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


G = "def g(x):\n    return x\n"
FAR = {"m.helpers": "def f(x):\n    return x\n" + G, "m": "", "m.__init__": "", "plain": G}
FAR["star"] = "from plain import *\n"
WHOLE = {
    "globals": ("def entry(x):\n    return globals()[x]\n" + G, "main"),
    "globals at the top": ("globals()['A'] = 1\ndef entry(x):\n    return A\n" + G, "main"),
    "eval": ("def entry(x):\n    return eval(x)\n" + G, "main"),
    "sys.modules": ("import sys\ndef entry(x):\n    return sys.modules[x]\n" + G, "main"),
    "getattr": ("import plain\ndef entry(x):\n    return getattr(plain, x)\n", "plain"),
    "a module as value": ("import m.helpers as h\ndef entry(x):\n    return x(h)\n", "m.helpers"),
    "a module in a list": (
        "from m import helpers\nALL = [helpers]\ndef entry(x):\n    return ALL\n",
        "m.helpers",
    ),
    "import_module": (
        "import importlib\ndef entry(x):\n    return importlib.import_module('plain').f\n",
        "plain",
    ),
    "an unknown name": ("import plain\ndef entry(x):\n    return plain.made_later\n", "plain"),
    "a star": ("from plain import *\ndef entry(x):\n    return x\n", "plain"),
    "a star behind": ("import star\ndef entry(x):\n    return star.f(x)\n", "plain"),
}


@pytest.mark.parametrize(("text", "module"), WHOLE.values(), ids=WHOLE)
def test_where_names_are_dynamic_the_whole_module_counts(text, module):
    project = {**FAR, "main": text}
    changed = edited(module, "g(x):\n    return x", "g(x):\n    return -x", project)
    assert parts(changed, "entry", "main") != parts(project, "entry", "main")


NESTED = """\
FACTOR = 2
def other():
    return FACTOR
def make(app, factor):
    @app.pipeline(1, on_error="stop")
    def entry(points, state):
        return points * factor * FACTOR
    return entry
{use}
"""


@pytest.mark.parametrize(
    "use", ["make(app, 1000)", "km = make(app, 1000)", "for k in (1000,):\n    make(app, k)"]
)
def test_a_nested_function_counts_with_what_makes_it(use):
    def nested(old="", new=""):
        text = NESTED.format(use=use)
        assert old in text
        return parts({"main": text.replace(old, new)}, "make.<locals>.entry", "main")

    assert nested('"stop"', '"dead_letter"') == nested()
    assert nested("return FACTOR", "return 0") == nested()
    assert nested("1000", "1609") != nested()
    assert nested("* factor", "/ factor") != nested()
    assert nested("FACTOR = 2", "FACTOR = 3") != nested()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "entry",
            "for k in (1, 2):\n    @app.pipeline(k)\n    def entry(p, s):\n        return p + 1\n",
        ),
        (
            "Box.entry",
            "class Box:\n    @app.pipeline(1)\n    def entry(p, s):\n        return p + 1\n",
        ),
        ("entry", "if True:\n    async def entry(p, s):\n        return p + 1\n"),
    ],
)
def test_a_function_in_a_block_counts_with_the_block(name, text):
    before = parts({"main": text}, name, "main")
    assert parts({"main": text.replace("p + 1", "p + 2")}, name, "main") != before
    assert parts({"main": "def apart(): pass\n" + text}, name, "main") == before


def test_versions_with_one_name_do_not_count_for_each_other():
    first = "@app.pipeline(1)\ndef f(p, s):\n    return p\n"
    second = "@f.version('km')\ndef f(p, s):\n    return p * {}\n"
    texts = [first + second.format(n) for n in (1, 2)]
    assert code_of("m", "f", 1, {"m": texts[0]}.get) == code_of("m", "f", 1, {"m": texts[1]}.get)
    assert code_of("m", "f", 4, {"m": texts[0]}.get) != code_of("m", "f", 4, {"m": texts[1]}.get)


def test_a_version_may_use_another_one():
    text = "@app.pipeline(1)\ndef f(p, s):\n    return p\n"
    text += "def g(p, s):\n    return f.versions['a'].function(p, s)\n"
    before = parts({"m": text}, "g", "m")
    assert parts({"m": text.replace("pipeline(1)", "pipeline(2)")}, "g", "m") == before
    assert parts({"m": text.replace("return p\n", "return -p\n")}, "g", "m") != before


def test_an_app_of_another_module_declares_too():
    app = "import playhead as ph\napp = ph.App('a')\nt = app.topic('t', key='id')\n"
    main = "from core import app, t\nout = app.topic('out')\n"
    main += "app.pipeline(t, to=[out], name='n', version='v')\n"
    main += "def entry(p, s):\n    return {out: p}\n"
    before = parts({"core": app, "main": main}, "entry", "main")
    assert (
        parts({"core": app, "main": main.replace("'v')", "'v', on_error='x')")}, "entry", "main")
        == before
    )
    assert (
        parts({"core": app, "main": main.replace("'out')", "'out', key='id')")}, "entry", "main")
        == before
    )
    assert parts({"core": app, "main": main.replace("'out')", "'in')")}, "entry", "main") != before


def test_a_version_declared_by_a_call_is_a_declaration():
    text = "import playhead as ph\napp = ph.App('a')\nt = app.topic(key='id', name='t')\n"
    text += "@app.pipeline(t, to=[t], version='v')\ndef f(p, s):\n    return p\n"
    text += "f.version('w', expect='true')(str)\n"
    text += "def entry(p, s):\n    return f, t\n"
    before = parts({"m": text}, "entry", "m")
    assert parts({"m": text.replace("expect='true'", "")}, "entry", "m") == before
    assert parts({"m": text.replace("name='t'", "name='u'")}, "entry", "m") != before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def h(): return 1\n", "from x import h\n"),
        ("def h(): return 1\n", "h = 1\n"),
        ("K = 1\n", "def h(k=K): return k\n"),
        ("K = 1\n", "def h(*, k=K): return k\n"),
        ("K = 1\n", "@K\ndef h(): return 1\n"),
    ],
)
def test_order_counts_where_it_matters(one, other):
    entry = "def entry(p, s):\n    return h()\n"
    assert parts({"m": one + other + entry}, "entry", "m") != parts(
        {"m": other + one + entry}, "entry", "m"
    )


def test_a_name_of_a_comprehension_hides_nothing_outside():
    text = "N = 1\ndef entry(p, s):\n    return [N for N in p], N\n"
    assert parts({"m": text}, "entry", "m") != parts(
        {"m": text.replace("N = 1", "N = 2")}, "entry", "m"
    )


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("a.b.c", "from ..near import X"),
        ("a.b.c", "from .. import near\nX = near.X"),
        ("a.b", "from ..near import X"),
        ("a.b", "from .. import near\nX = near.X"),
        ("a.near2", "from .near import X"),
        ("a.near2", "from . import near\nX = near.X"),
    ],
)
def test_relative_imports(module, text):
    project = dict.fromkeys(("a", "a.__init__", "a.b", "a.b.__init__"), "")
    project |= {"a.near": "X = 1\nY = 1\n", "a.b.near": "X = 1\n", "near": "X = 1\n"}
    project |= {module: text + "\ndef entry(p, s):\n    return X\n"}
    before = parts(project, "entry", module)
    assert parts(edited("a.near", "X = 1", "X = 2", project), "entry", module) != before
    assert parts(edited("a.near", "Y = 1", "Y = 2", project), "entry", module) == before
    for other in ("a.b.near", "near"):
        assert parts(edited(other, "X = 1", "X = 2", project), "entry", module) == before


def test_a_table_method_of_something_else_is_no_declaration():
    text = (
        "import db\nconn = db.connect()\nT = conn.table('t', 1)\ndef entry(p, s):\n    return T\n"
    )
    assert parts({"m": text}, "entry", "m") != parts(
        {"m": text.replace(", 1)", ", 2)")}, "entry", "m"
    )


def test_the_type_that_an_overload_is_registered_for_counts():
    text = "from functools import singledispatch\n@singledispatch\ndef f(x): return 0\n"
    text += "@f.register\ndef _(x: int): return 1\ndef entry(p, s): return f(p)\n"
    assert parts({"m": text}, "entry", "m") != parts(
        {"m": text.replace("int", "str")}, "entry", "m"
    )
    assert parts({"m": text}, "entry", "m") != parts(
        {"m": text.replace("return 1", "return 2")}, "entry", "m"
    )


def test_a_function_that_only_a_script_has_is_refused():
    text = 'if __name__ == "__main__":\n    def f():\n        pass\n'
    with pytest.raises(DeclarationError, match="not found there"):
        code_of("m", "f", 2, {"m": text}.get)


def test_modules_that_import_each_other():
    project = {
        "a": "import b\nfrom b import *\nfrom b import loop\nA = 1\n"
        "def entry(p, s):\n    return b.f(p) + loop\n",
        "b": "import a\nfrom a import loop\nfrom a import *\ndef f(p):\n    return a.A * p\n",
    }
    changed = {**project, "a": project["a"].replace("A = 1", "A = 2")}
    assert parts(project, "entry", "a") != parts(changed, "entry", "a")


def test_a_package_that_imports_its_own_modules():
    project = {
        "pkg": "from . import mod\nfrom .mod import other\n",
        "pkg.__init__": "",
        "pkg.mod": "def f(p):\n    return p\ndef other(p):\n    return p\n",
        "main": "import pkg\nfrom pkg import mod as m\ndef entry(p, s):\n    return pkg.mod.f(p)\n"
        "def second(p, s):\n    return m.f(p)\n",
    }
    for name in ("entry", "second"):
        before = parts(project, name, "main")
        assert (
            parts(
                edited("pkg.mod", "f(p):\n    return p\n", "f(p):\n    return -p\n", project),
                name,
                "main",
            )
            != before
        )
        assert (
            parts(
                edited(
                    "pkg.mod", "other(p):\n    return p\n", "other(p):\n    return -p\n", project
                ),
                name,
                "main",
            )
            == before
        )


# Everything whose tree differs, or once differed, between Pythons. A hash that is not this one
# would ask everybody who changes Python for new labels.
ODD = r'''
def f(x, *args, k=1, **kw):
    a = f"{x!r:>{k}} text {x + 1:.3f} {{x}} {x=} {x:}" "more" f"{k}"
    b = "a" "b" 'c' + f"plain" + u"old" + "\d é \ud800" + f"{x}" f"" + f"{x!s:{k}{k}}abc{k:%Y}"
    c = b"\x00bytes", 1_000, 0xFF, 1e300, 1e999, 1j, -0.0, ..., None, True
    d = {**kw, "x": 1}, [*args], x[1:2, ::3], x[*args]
    with (open(a) as p, open(b) as q):
        pass
    match x:
        case {"k": 1, **rest}: return rest
        case [1, *others] | (2, *others): return others
        case C(y=None) | True | "s" | -1: return 0
        case _ if x: return
    try:
        pass
    except* (ValueError, TypeError) as e:
        raise e from None
    finally:
        del a
    async def g():
        async for i in x: await i
        return [j async for j in x if (w := j)]
    global G
    G = lambda z=1, /, y=2, *, v=3: (yield z)
    return f"""
  {x
  }""" if x < 1 <= 2 else not x and x or x @ x // 2
'''


def test_the_hash_is_the_same_on_every_python():
    assert fingerprint(code_of("m", "f", 2, {"m": ODD}.get), {}, {}) == "d39c81fca4d9b5de"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0.0", "0"),
        ("None", "0.0"),
        ("True", "1"),
        ("'1'", "1"),
        ("b'a'", "'a'"),
        ("...", "None"),
        ("'a', 'b'", "'a,b'"),
        ("{**x}", "{None: x}"),
        ("x[1]", "x(1)"),
    ],
)
def test_values_that_look_alike_differ(one, other):
    text = "def f(x):\n    return {}\n"
    assert parts({"m": text.format(one)}, "f", "m") != parts({"m": text.format(other)}, "f", "m")


@pytest.mark.parametrize(
    ("sources", "where", "says"),
    [
        ({}, "m:1", "cannot be read"),
        ({"m": "def f(:\n"}, "m:1", "not Python"),
        ({"m": "x = " + "-" * 100_000 + "1"}, "m:", "not Python"),
        ({"m": "\0"}, "m:", "not Python"),
        ({"m": "import h\ndef g(): pass\n"}, "m:1", "not found there"),
        ({"m": "x = 1\n"}, "m:1", "not found there"),
        ({"m": ""}, "m:1", "not found there"),
        (
            {"m": "def f():\n    return h()\nfrom helpers import h\n", "helpers": "def (\n"},
            "helpers:1",
            "not Python",
        ),
    ],
)
def test_source_that_cannot_be_used_is_named(sources, where, says):
    with pytest.raises(DeclarationError, match=says) as error:
        code_of("m", "f", 1, sources.get)
    assert str(error.value.where).startswith(where)


APP = ph.App("declared")
COLUMNS = {"id": int, "x": float | None}
IN = APP.topic("in", key="id", value=COLUMNS)
OUT = APP.topic("out", key="id", value=COLUMNS)
TABLE = APP.table("result", key="id", columns=COLUMNS)


def declared(**changes):
    """Return the fingerprint of a forwarding version, with another option, source or output."""
    app = ph.App("declared")
    options = {"source": IN, "to": [OUT, TABLE], "version": "v1", "name": "n", **changes}
    pipeline = app.pipeline(options.pop("source"), **options)
    (version,) = pipeline.versions.values()
    return fingerprint({}, declarations_of(version), {})


def topic(name="in", key="id", value=COLUMNS, **options):
    return ph.App("other").topic(name, key=key, value=value, **options)


@pytest.mark.parametrize(
    "changes",
    [
        {"source": topic("other")},
        {"source": topic(key=None)},
        {"source": topic(key=["id", "x"], value={"id": int, "x": int})},
        {"source": topic(value={**COLUMNS, "y": int})},
        {"source": topic(value={"id": int, "x": float})},
        {"source": topic(value=bytes, key=None)},
        {"to": [OUT]},
        {"to": [topic("out2"), TABLE]},
        {"to": [topic("out", value={"id": int}), TABLE]},
        {"to": [OUT, ph.App("a").table("result", key="x", columns={"id": int, "x": int})]},
        {"to": [OUT, ph.App("a").table("result2", key="id", columns=COLUMNS)]},
        {"per": "row"},
        {"start": "latest"},
        {"rtol": 1e-9},
    ],
    ids=str,
)
def test_declarations_count(changes):
    assert declared(**changes) != declared()


@pytest.mark.parametrize(
    "changes",
    [
        {"group": "mine"},
        {"expect": "x = base.x"},
        {"version": "v2"},
        {"name": "other_name"},
        {"per": "frame"},
        {"start": "earliest"},
        {"rtol": 0},
        {"to": [TABLE, OUT]},
        {"source": topic(partitions=7)},
        {"source": topic(config={"retention.ms": "1"})},
        {"source": topic(key=["id"])},
    ],
    ids=str,
)
def test_what_results_do_not_depend_on_does_not_count(changes):
    assert declared(**changes) == declared()


@pytest.mark.parametrize("option", sorted(NOT_COUNTED))
def test_options_that_do_not_count(option):
    version = APP.pipeline(IN, to=[OUT], name=f"p_{option}", version="v").versions["v"]
    with_option = replace(version, options={option: "anything"})
    assert declarations_of(with_option) == declarations_of(version)


def test_each_option_either_counts_or_does_not():
    """Red for a new option: put it into COUNTED (with its default) or NOT_COUNTED."""
    assert set(get_type_hints(Options)) <= COUNTED.keys() | NOT_COUNTED
    assert not COUNTED.keys() & NOT_COUNTED


def test_the_fingerprint_is_of_everything():
    whole = fingerprint({"a": "x"}, {"d": 1}, {"f": b"1"})
    assert len(whole) == 16
    assert int(whole, 16) >= 0
    others = [
        fingerprint({"a": "y"}, {"d": 1}, {"f": b"1"}),
        fingerprint({"b": "x"}, {"d": 1}, {"f": b"1"}),
        fingerprint({"a": "x"}, {"d": 2}, {"f": b"1"}),
        fingerprint({"a": "x"}, {"d": 1}, {"f": b"2"}),
        fingerprint({"a": "x"}, {"d": 1}, {"g": b"1"}),
        fingerprint({"a": "x"}, {"d": 1}, {}),
    ]
    assert len({whole, *others}) == 7


MODULE = """\
import json
import playhead as ph
import polars as pl
from fp_helper import scaled
{imports}
app = ph.App("vehicles")
points = app.topic("raw", key="id", value={{"id": int}})
out = app.topic("out", key="id", value={{"id": int}})

@app.pipeline(points, to=[out], version="miles"{options})
def distance(points, state):
    {body}
    return scaled(points).select(pl.col("id"), json.loads("1"))
"""
HELPER = "def scaled(points):\n    return points * 2\n"


class Project:
    """A directory with a user's module and its helper, loaded as Playhead would load it."""

    def __init__(self, root, monkeypatch):
        self.root = root
        self.monkeypatch = monkeypatch
        self.home = root
        monkeypatch.syspath_prepend(root)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        self.write("fp_helper.py", HELPER)
        self.module()

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def module(self, name="fp_vehicles.py", imports="", options="", body="pass"):
        self.write(name, MODULE.format(imports=imports, options=options, body=body))

    def load(self, name="fp_vehicles"):
        importlib.invalidate_caches()
        forget()
        (pipeline,) = importlib.import_module(name).app.pipelines.values()
        return pipeline.versions["miles"]

    def fingerprint(self, name="fp_vehicles"):
        return fingerprint_of(self.load(name), self.home)


def forget():
    for name in [m for m in sys.modules if m.startswith("fp_")]:
        del sys.modules[name]


@pytest.fixture
def project(tmp_path, monkeypatch):
    yield Project(tmp_path, monkeypatch)
    forget()


def test_files_are_read(project):
    before = project.fingerprint()
    project.write("fp_helper.py", "# comment\n" + HELPER)
    assert project.fingerprint() == before
    project.write("fp_helper.py", HELPER.replace("2", "3"))
    assert project.fingerprint() != before


def test_reads_count_by_their_bytes(project):
    project.module(options=', reads=["model.json"]')
    with pytest.raises(DeclarationError, match=r"model\.json") as error:
        project.fingerprint()
    assert error.value.where == "distance@miles"
    project.write("model.json", "1")
    one = project.fingerprint()
    project.write("model.json", "2")
    assert project.fingerprint() != one
    project.write("model.json", "1")
    assert project.fingerprint() == one
    project.module(options=', reads="model.json"')
    assert project.fingerprint() == one
    project.module()
    assert project.fingerprint() != one


@pytest.mark.parametrize("place", ["site-packages", "lib/dist-packages", "env/lib"])
def test_what_is_installed_is_not_followed(project, place):
    project.write("env/pyvenv.cfg", "")
    project.write(f"{place}/fp_installed.py", "def run(p):\n    return p\n")
    project.monkeypatch.syspath_prepend(project.root / place)
    project.module(imports="from fp_installed import run", body="points = run(points)")
    before = project.fingerprint()
    project.write(f"{place}/fp_installed.py", "def run(p):\n    return -p\n")
    assert project.fingerprint() == before
    project.module(imports="import fp_installed", body="points = fp_installed.run(points)")
    assert project.fingerprint() != before


def test_python_and_playhead_are_not_the_users(project):
    sources = Sources(project.root.parents[-1])
    names = ["json", "sys", "zipimport", "playhead", "playhead.core.schema", "no_such", "no.such"]
    names += ["", ".", "..", "json.", "a/b", "../x", "no such", "\0"]
    assert [sources(name) for name in names] == [None] * len(names)
    assert sources("fp_vehicles") is not None
    assert "json" in sources.foreign


def test_looking_for_a_module_runs_nothing(project):
    project.write("fp_pkg/__init__.py", "raise SystemExit")
    project.write("fp_pkg/mod.py", "raise SystemExit\n")
    project.write("fp_bare/mod.py", "X = 1\n")
    sources = Sources(project.root)
    assert sources("fp_pkg.mod") == "raise SystemExit\n"
    assert sources("fp_pkg.__init__") == "raise SystemExit"
    assert sources("fp_pkg.none") is None
    assert sources("fp_bare") == ""
    assert sources("fp_bare.mod") == "X = 1\n"
    assert sources("fp_bare.__init__") is None
    assert sources("fp_vehicles.__init__") is None
    assert not any(name.startswith(("fp_pkg", "fp_bare")) for name in sys.modules)


def test_a_module_in_a_package(project):
    project.write("fp_app/__init__.py", "")
    project.write("fp_app/near.py", "def near(p):\n    return p\n")
    project.module("fp_app/main.py", "from .near import near", body="points = near(points)")
    before = project.fingerprint("fp_app.main")
    project.write("fp_app/near.py", "def near(p):\n    return -p\n")
    assert project.fingerprint("fp_app.main") != before


@pytest.mark.parametrize("module", ["fp_vehicles", "fp_app.main", "fp_app"])
def test_a_module_outside_the_root_has_its_neighbours(project, module, tmp_path_factory):
    project.home = tmp_path_factory.mktemp("elsewhere")
    project.write("fp_near.py", HELPER)
    project.write("fp_app/__init__.py", "")
    project.write("fp_app/fp_near.py", HELPER)
    near = "fp_near" if module == "fp_vehicles" else "fp_app.fp_near"
    name = {"fp_app": "fp_app/__init__.py"}.get(module, module.replace(".", "/") + ".py")
    project.module(name, f"from {near} import scaled")
    before = project.fingerprint(module)
    project.write(near.replace(".", "/") + ".py", HELPER.replace("2", "3"))
    assert project.fingerprint(module) != before


@pytest.mark.parametrize("module", ["fp_app.main", "fp_single"])
def test_an_installed_app_is_read_but_not_what_lies_beside_it(project, module, tmp_path_factory):
    project.home = tmp_path_factory.mktemp("elsewhere")
    project.monkeypatch.syspath_prepend(project.root / "site-packages")
    name = f"site-packages/{module.replace('.', '/')}.py"
    project.write("site-packages/fp_app/__init__.py", "")
    project.module(name)
    project.write("site-packages/fp_helper.py", HELPER)
    (project.root / "fp_helper.py").unlink()
    before = project.fingerprint(module)
    project.write("site-packages/fp_helper.py", HELPER.replace("2", "3"))
    assert project.fingerprint(module) == before
    project.module(name, body="points = points + 1")
    assert project.fingerprint(module) != before


def test_a_place_inside_what_is_installed_is_the_users():
    assert Sources(Path(msgspec.__file__).parent)("msgspec") is not None
    assert Sources(Path(msgspec.__file__).parents[1])("msgspec") is not None
    assert Sources(Path(msgspec.__file__).parents[2])("msgspec") is None


def test_a_project_may_be_reached_by_a_link(project, tmp_path_factory):
    link = tmp_path_factory.mktemp("links") / "link"
    link.symlink_to(project.root)
    project.monkeypatch.syspath_prepend(link)
    project.home = link
    assert project.load().function.__code__.co_filename.startswith(str(link))
    assert Sources(project.root)("fp_vehicles") is not None
    assert Sources(link)("fp_vehicles") is not None


def test_the_users_function_behind_a_library_outside_the_root(project, tmp_path_factory):
    project.home = tmp_path_factory.mktemp("elsewhere")
    project.write("site-packages/fp_deco.py", DECORATORS["wraps"])
    project.monkeypatch.syspath_prepend(project.root / "site-packages")

    def wrapped(body):
        project.module(imports="from fp_deco import deco", body=body)
        text = (project.root / "fp_vehicles.py").read_text(encoding="utf-8")
        project.write("fp_vehicles.py", text.replace("def distance", "@deco\ndef distance"))
        return project.fingerprint()

    assert wrapped("points = 1") != wrapped("points = 2")


def test_a_module_loaded_from_its_file(project):
    before = project.fingerprint()
    path = project.root / "fp_vehicles.py"
    spec = importlib.util.spec_from_file_location("fp_by_file", path)
    module = importlib.util.module_from_spec(spec)
    project.monkeypatch.setitem(sys.modules, "fp_by_file", module)
    spec.loader.exec_module(module)
    assert (
        fingerprint_of(module.app.pipelines["distance"].versions["miles"], project.home) == before
    )


@pytest.mark.parametrize(
    ("command", "path"),
    [
        (["app/fp_vehicles.py"], "."),
        (["-m", "fp_vehicles"], "app"),
        (["-P", "app/fp_vehicles.py"], "."),
    ],
    ids=["script", "module", "safe path"],
)
def test_a_module_that_is_started(project, command, path):
    back = "def scaled(points):\n    from fp_vehicles import RATE\n    return points * RATE\n"
    tail = """
if __name__ == "__main__":
    from pathlib import Path
    from playhead.engine.sources import fingerprint_of
    print(fingerprint_of(app.pipelines["distance"].versions["miles"], Path.cwd()))
"""
    project.write("fp_helper.py", back)
    text = MODULE.format(imports="RATE = 2", options="", body="pass") + tail
    (project.root / "fp_vehicles.py").unlink()
    project.write("app/fp_vehicles.py", text)
    search = [str(project.root), path, os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=project.root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(search)},
        capture_output=True,
        text=True,
        check=True,
    )
    project.monkeypatch.syspath_prepend(project.root / "app")
    assert done.stdout.strip() == project.fingerprint()


DECORATORS = {
    "plain": "def deco(f):\n    def g(p, s):\n        return f(p, s)\n    return g\n",
    "wraps": "from functools import wraps\ndef deco(f):\n    @wraps(f)\n    def g(p, s):\n"
    "        return f(p, s)\n    return g\n",
    "lambda": "def deco(f):\n    h = lambda p: p\n    def g(p, s):\n        return f(h(p), s)\n"
    "    return g\n",
}


@pytest.mark.parametrize("place", ["fp_deco.py", "site-packages/fp_deco.py"])
@pytest.mark.parametrize("decorator", DECORATORS.values(), ids=DECORATORS)
def test_a_wrapped_function_counts(project, decorator, place):
    def wrapped(body, deco):
        project.module(imports="from fp_deco import deco", body=body)
        text = (project.root / "fp_vehicles.py").read_text(encoding="utf-8")
        project.write("fp_vehicles.py", text.replace("def distance", "@deco\ndef distance"))
        project.write(place, deco)
        return project.fingerprint()

    project.monkeypatch.syspath_prepend(project.root / "site-packages")
    before = wrapped("points = 1", decorator)
    assert wrapped("points = 1", "# comment\n" + decorator) == before
    assert wrapped("points = 2", decorator) != before
    installed = place.startswith("site-packages")
    assert (wrapped("points = 1", decorator.replace(", s)\n", ", 0)\n")) == before) == installed


def test_an_argument_of_a_factory_in_another_module_counts(project):
    factory = """\
def make(app, points, out, factor):
    @app.pipeline(points, to=[out], version="miles")
    def distance(points, state):
        return points * factor
"""
    project.write("fp_factory.py", factory)
    lines = MODULE.split("@app", maxsplit=1)[0].format(imports="from fp_factory import make")
    project.write("fp_vehicles.py", lines + "make(app, points, out, 1000)\n")
    before = project.fingerprint()
    project.write("fp_vehicles.py", lines + "# again\nmake(app, points, out, 1000)\n")
    assert project.fingerprint() == before
    project.write("fp_vehicles.py", lines + "make(app, points, out, 1609)\n")
    assert project.fingerprint() != before


def test_a_compiled_module_counts_by_its_bytes(project):
    sources = Sources(project.root)
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    project.write(f"fp_fast{suffix}", "1")
    one = sources("fp_fast")
    project.write(f"fp_fast{suffix}", "2")
    assert one is not None
    assert Sources(project.root)("fp_fast") != one


def test_a_link_into_the_project_is_the_projects(project, tmp_path_factory):
    shared = tmp_path_factory.mktemp("shared") / "far.py"
    shared.write_text("X = 1\n", encoding="utf-8")
    (project.root / "fp_link.py").symlink_to(shared)
    assert Sources(project.root)("fp_link") == "X = 1\n"


def test_a_function_without_a_file_is_refused(project):
    scope = {"__name__": "fp_nowhere"}
    exec("def distance(points, state):\n    return points\n", scope)
    version = APP.pipeline(IN, to=[OUT], version="v")(scope["distance"]).versions["v"]
    with pytest.raises(DeclarationError, match="cannot be read"):
        fingerprint_of(version, project.root)


def test_a_file_that_changed_since_it_was_loaded_is_refused(project):
    version = project.load()
    project.module(imports="\n\n")
    with pytest.raises(DeclarationError, match="not found there"):
        fingerprint_of(version, project.root)


def test_a_file_that_is_not_text_is_named(project):
    (project.root / "fp_helper.py").write_bytes(b"# \xff\n")
    with pytest.raises(DeclarationError, match="cannot be read") as error:
        Sources(project.root)("fp_helper")
    assert error.value.where == "fp_helper.py"


def test_a_forwarding_pipeline_has_a_fingerprint(project):
    version = APP.pipeline(IN, to=[OUT], name="forwards", version="v").versions["v"]
    assert fingerprint_of(version, project.root) == fingerprint({}, declarations_of(version), {})
    assert environment(version, project.root).keys() == {"python", "playhead", "polars"}


def test_the_environment_names_what_the_code_imports(project):
    project.write(
        "fp_helper.py", "import msgspec\nimport click\n" + HELPER.replace("points * 2", "msgspec")
    )
    found = environment(project.load(), project.home)
    assert found["python"] == platform.python_version()
    assert found["polars"] == metadata.version("polars")
    assert found["msgspec"] == metadata.version("msgspec")
    assert found.keys() == {"python", "playhead", "polars", "msgspec"}
