"""The fingerprint of a version: what its results depend on, as a hash. Text in, hash out.

A module is read as *units*: its top-level statements, each import cut into single names. From the
function's unit the walk goes to every unit that binds or changes a name which it uses, into the
user's other modules too; where it cannot know which, it takes the whole module. Too much asks once
too often for a new label, too little mixes results.
"""

from __future__ import annotations

import ast
import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from playhead.core.declare import Output, Version
from playhead.errors import DeclarationError

SourceOf = Callable[[str], str | None]
COUNTED: Mapping[str, Any] = {"per": "frame", "start": "earliest", "rtol": 0.0, "frame": "polars"}
NOT_COUNTED = frozenset({"group", "expect", "on_error", "on_promote", "public", "reads"})

_SKIPPED = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
_DYNAMIC = frozenset({"globals", "eval", "exec", "__import__", "import_module", "modules"})
_MAKES = frozenset({"pipeline", "version"})
_DECLARES = _MAKES | {"topic", "table", "forward"}
_MAIN = "__name__ == '__main__'"
_MUTATORS = frozenset(
    {"add", "append", "extend", "insert", "pop", "remove", "setdefault", "update"}
)
_Def = ast.FunctionDef | ast.AsyncFunctionDef
_Named = _Def | ast.ClassDef
_Import = ast.Import | ast.ImportFrom
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_Place = ast.Attribute | ast.Subscript
_Chain = tuple[str, ...]


def fingerprint(
    code: Mapping[str, str], declarations: Mapping[str, Any], reads: Mapping[str, bytes]
) -> str:
    """Return the first 16 hex digits (64 bits) of the SHA-256 over code, declarations, files."""
    files = {name: hashlib.sha256(data).hexdigest() for name, data in reads.items()}
    whole = {"code": dict(code), "declarations": dict(declarations), "reads": files}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]


def declarations_of(version: Version) -> dict[str, Any]:
    """Return what a version declares and its results depend on, as JSON can hold it."""
    options: dict[str, Any] = {**COUNTED, **version.options}
    outputs = sorted(map(_declared, version.outputs), key=lambda o: (o["kind"], o["name"]))
    counted = {name: options[name] for name in COUNTED} | {"rtol": float(options["rtol"])}
    return {"source": _declared(version.source), "outputs": outputs, **counted}


def _declared(output: Output) -> dict[str, Any]:
    columns = output.schema and [[c.name, c.typed()] for c in output.schema]
    said = {"kind": type(output).__name__.lower(), "name": output.name, "key": list(output.key)}
    return {**said, "columns": columns, "tombstones": getattr(output, "tombstones", False)}


def code_of(module: str, qualname: str, first_line: int, source_of: SourceOf) -> dict[str, str]:
    """Return the code that a function's results depend on, in a form of its own.

    The form is the same on every Python that can read the source, and whatever the layout,
    comments, docstrings, annotations of undecorated functions, order of functions and imports.
    The function's own name and its decorators ``….pipeline(…)`` and ``….version(…)`` are left out;
    of Playhead's declarations only names stay (`declarations_of` has the rest). Not seen: what
    modules that it never reaches change in those that it does, and ``if __name__ == "__main__"``.

    Args:
        module: Where the function is defined.
        qualname: Its ``__qualname__``. One that is defined inside a function, a class or a block
            is taken with the whole outermost statement and, for a function, whatever uses that.
        first_line: Its ``__code__.co_firstlineno``.
        source_of: Source of one of the user's modules by name; None for any other module.
            A package ``p`` answers as ``p`` and as ``p.__init__``.

    Raises:
        DeclarationError: Source is missing, is not Python, or does not have the function there.
    """
    walk = _Walk(source_of)
    home, where = walk.module(module), f"{module}:{first_line}"
    if home is None:
        cure = "Write it in a file of the project."
        raise DeclarationError(f"the source of {qualname} cannot be read", where=where, cure=cure)
    around = [u for u in home.units if u.node.lineno <= first_line <= (u.node.end_lineno or 0)]
    known = qualname.rpartition(".")[2] in ("<lambda>", home.functions.get(first_line))
    if not around or not known:
        cure = "Has the file changed since it was loaded? Start again."
        raise DeclarationError(f"{qualname} is not found there", where=where, cure=cure)
    own = around[0]
    top = own.node.name if isinstance(own.node, _Def) else None
    if isinstance(own.node, _Def) and own.node.lineno == first_line:
        own.node.name, top = "@", None
    walk.reach(own)
    for unit in home.units:
        if any(chain[0] == top for chain in unit.uses):
            walk.reach(unit)
    return walk.parts(home)


@dataclass(eq=False, slots=True)
class _Unit:
    """A top-level statement, or one name of an import, and the names that it deals with."""

    node: ast.stmt
    module: _Module
    binds: set[str] = field(default_factory=set)
    changes: set[str] = field(default_factory=set)  # without binding them: TABLE["x"] = 1
    uses: set[_Chain] = field(default_factory=set)  # with attributes: ("helpers", "f")
    imports: dict[str, list[tuple[str, _Chain]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._visit([self.node], frozenset(), inside=isinstance(self.node, _Named))
        self.binds |= _stored([self.node])[0]
        if not isinstance(self.node, _Named):
            self.binds |= self.imports.keys()

    @property
    def dynamic(self) -> bool:
        return any(not _DYNAMIC.isdisjoint(c[:2]) for c in self.uses)

    @property
    def still(self) -> str:  # the name of what may stand anywhere in its file
        if isinstance(self.node, _Def):
            early = (*self.node.decorator_list, *self.node.args.defaults)
            return "" if early or any(self.node.args.kw_defaults) else self.node.name
        return min(self.binds).strip("*") if isinstance(self.node, _Import) else ""

    def _visit(self, nodes: Iterable[ast.AST], hidden: frozenset[str], inside: bool) -> None:
        stack = list(nodes)
        while stack:
            node = stack.pop()
            self.changes |= _changed(node, inside) - hidden
            root, attrs = _path(node, ast.Attribute)
            if isinstance(node, _Def | ast.Lambda):
                stack += self._function(node, hidden)
            elif isinstance(node, _Comprehension):
                stack.append(node.generators[0].iter)
                targets = _stored(g.target for g in node.generators)[0]
                self._visit(ast.iter_child_nodes(node), hidden | targets, inside)
            elif isinstance(node, _Import):
                self._import(node)
            elif not isinstance(root, ast.Name):
                stack += ast.iter_child_nodes(node)
            elif root.id not in hidden and isinstance(root.ctx, ast.Load):
                self.uses.add((root.id, *attrs))

    def _function(self, node: _Def | ast.Lambda, hidden: frozenset[str]) -> list[ast.AST]:
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        local, shared = _stored(body)
        local |= {a.arg for a in ast.iter_child_nodes(node.args) if isinstance(a, ast.arg)}
        self.binds |= shared
        self._visit(body, (hidden | local) - shared, inside=True)
        return [child for child in ast.iter_child_nodes(node) if child not in body]

    def _import(self, node: _Import) -> None:
        for alias in node.names:
            bound = alias.asname or alias.name
            if isinstance(node, ast.ImportFrom):
                base = self.module.package.rsplit(".", node.level - 1)[0] if node.level else ""
                target = ".".join(filter(None, (base, node.module)))
                self.imports.setdefault(bound, []).append((target, (alias.name,)))
            else:
                target = alias.name if alias.asname else alias.name.partition(".")[0]
                self.imports.setdefault(bound.partition(".")[0], []).append((target, ()))


@dataclass(eq=False, slots=True)
class _Module:
    """One of the user's modules: functions by first line, units, units by name."""

    name: str
    package: str  # what its relative imports start from
    functions: dict[int, str] = field(default_factory=dict)
    units: list[_Unit] = field(default_factory=list)
    names: dict[str, list[_Unit]] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)  # names that stand for declarations
    dynamic: bool = False

    def origins(self, name: str) -> list[tuple[str, _Chain]]:
        return [t for u in self.names.get(name, ()) for t in u.imports.get(name, ())]

    def touched(self, unit: _Unit) -> set[str]:
        """Return the names whose object depends on a unit that does not bind them."""
        if not isinstance(unit.node, _Named):
            return unit.changes
        touched = set(unit.changes)
        for decorator in unit.node.decorator_list:
            root, attrs = _path(decorator, _Place | ast.Call)
            if isinstance(root, ast.Name):
                makers = self.names.get(root.id, ())
                if attrs or any(u.changes or u.binds > {root.id} for u in makers):
                    touched.add(root.id)
        return {name for name in touched if not self.origins(name)}


class _Walk:
    """Follows names through the user's modules and keeps the units that it reached."""

    def __init__(self, source_of: SourceOf) -> None:
        self._source_of = source_of
        self._modules: dict[str, _Module | None] = {}
        self._reached: set[_Unit] = set()
        self._seen: set[tuple[str, _Chain]] = set()
        self._open: list[tuple[str, _Chain]] = []

    def module(self, name: str) -> _Module | None:
        if name not in self._modules:
            source = self._source_of(name)
            is_package = self._source_of(f"{name}.__init__") is not None
            package = name if is_package else name.rpartition(".")[0]
            self._modules[name] = module = None if source is None else _Module(name, package)
            if module is not None and source is not None:
                self._read(module, _parsed(name, source))
        return self._modules[name]

    def _read(self, module: _Module, tree: ast.Module) -> None:
        for node in ast.walk(tree):
            _clean(node, module)
        for statement in _statements(tree):
            declares = self._declares(module, statement)
            unit = _Unit(statement, module)
            module.declared |= unit.binds if declares else set()
            module.units.append(unit)
            for name in unit.binds:
                module.names.setdefault(name, []).append(unit)
        for unit in module.units:
            for name in (module.touched(unit) & module.names.keys()) - unit.binds:
                module.names[name].append(unit)
        module.dynamic = any(u.dynamic and not isinstance(u.node, _Named) for u in module.units)

    def _declares(self, module: _Module, node: Any) -> bool:  # noqa: ANN401
        """Cut a call that declares down to the name it gives; return whether it was one."""
        value = getattr(node, "value", None)
        root, attrs = _path(value, ast.Attribute | ast.Call)
        if not isinstance(value, ast.Call) or not isinstance(root, ast.Name):
            return False
        declares = root.id in module.declared and not _DECLARES.isdisjoint(attrs)
        for origin, name in module.origins(root.id):
            other = self.module(origin)
            if origin.partition(".")[0] == "playhead":
                declares = (*name, *attrs) == ("App",)
            elif other is not None and not other.declared.isdisjoint(name):
                declares = not _DECLARES.isdisjoint(attrs)
        if declares:
            names = [k.value for k in value.keywords if k.arg == "name"]
            node.value = ast.Tuple([*value.args[:1], *names], ast.Load())
        return declares

    def reach(self, unit: _Unit) -> None:
        if unit in self._reached:
            return
        module = unit.module
        self._reached.add(unit)
        own = {(unit.node.name,)} if isinstance(unit.node, _Named) else set()
        for root, *rest in unit.uses | own:
            if root in module.names:
                self._open.append((module.name, (root, *rest)))
            self._open += [(m, (*n, *rest)) for m, n in unit.imports.get(root, ())]
        if module.dynamic or unit.dynamic:
            texts = [getattr(node, "value", None) for node in ast.walk(unit.node)]
            self._open += [(text, ()) for text in (module.name, *texts) if isinstance(text, str)]
        self._open += [(m, ()) for m, _ in unit.imports.get("*", ())]
        for star in module.names.get("*", ()):
            self.reach(star)

    def _follow(self, name: str, chain: _Chain) -> None:
        module = self.module(name)
        units = module.names.get(chain[0], []) if module and chain else []
        for unit in units:
            self.reach(unit)
        origins = [t for u in units for t in u.imports.get(chain[0], ())]
        self._open += [(m, (*n, *chain[1:])) for m, n in origins]
        inner = not units or (name, chain[:1]) in origins  # a package that imports its own
        if chain and inner and self.module(f"{name}.{chain[0]}"):
            self._open.append((f"{name}.{chain[0]}", chain[1:]))
        elif module and not units:
            for unit in module.units:
                self.reach(unit)
            self._open += [(name, (bound,)) for bound in module.names]

    def parts(self, home: _Module) -> dict[str, str]:
        for item in self._open:  # it grows meanwhile
            if item not in self._seen:
                self._seen.add(item)
                self._follow(*item)
        parts: dict[str, str] = {}
        for module in {unit.module for unit in self._reached}:
            for unit in (u for u in module.units if u in self._reached):
                rivals = {u for n in unit.binds for u in module.names[n] if u in self._reached}
                key = f"{'' if module is home else module.name}:{unit.still * (len(rivals) == 1)}"
                parts[key] = parts.get(key, "") + _canonical(unit.node)
        return parts


def _parsed(module: str, source: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        where = f"{module}:{getattr(error, 'lineno', '?')}"
        raise DeclarationError(f"not Python that can be read: {error}", where=where) from error


def _clean(node: ast.AST, module: _Module) -> None:
    """Note functions; drop the decorators that declare, and annotations that nobody reads."""
    if isinstance(node, ast.JoinedStr):  # Python 3.12 writes empty pieces
        node.values = [v for v in node.values if getattr(v, "value", None) != ""]
    if isinstance(node, _Def):
        every, node.decorator_list = node.decorator_list, []
        node.lineno = min(n.lineno for n in (node, *every))
        module.functions[node.lineno] = node.name
        for decorator in every:
            attrs = _path(decorator.func, _Place)[1] if isinstance(decorator, ast.Call) else ()
            if _MAKES.intersection(attrs[-1:]):
                module.declared.add(node.name)
            else:
                node.decorator_list.append(decorator)
        if not node.decorator_list:
            node.returns = None
            for arg in (a for a in ast.iter_child_nodes(node.args) if isinstance(a, ast.arg)):
                arg.annotation = None


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    for node in tree.body:
        if isinstance(node, _Import):
            for alias in node.names:
                one = copy(node)
                one.names = [alias]
                yield one
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) == _MAIN and not node.orelse):
            yield node


def _path(node: ast.AST | None, through: Any) -> tuple[ast.AST | None, _Chain]:  # noqa: ANN401
    attrs: _Chain = ()
    while isinstance(node, through):
        attrs = (node.attr, *attrs) if isinstance(node, ast.Attribute) else attrs
        node = node.func if isinstance(node, ast.Call) else node.value
    return node, attrs


def _changed(node: ast.AST, inside: bool) -> set[str]:
    """Return names whose object a statement changes; inside a function only by plain means."""
    call = node.value if isinstance(node, ast.Expr) else None
    place, attrs = _path(call or node, _Place | ast.Call)
    found = [place] if isinstance(node, _Place) and not isinstance(node.ctx, ast.Load) else []
    if isinstance(call, ast.Call) and not inside:
        found += [place, *call.args, *(k.value for k in call.keywords)]
    elif isinstance(call, ast.Call) and not _MUTATORS.isdisjoint(attrs):
        found.append(place)
    return {n.id for n in found if isinstance(n, ast.Name)}


def _stored(nodes: Iterable[ast.AST]) -> tuple[set[str], set[str]]:
    """Return the names that a scope binds, imports aside, and those it declares global."""
    names, shared = set[str](), set[str]()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        name = getattr(node, "name", getattr(node, "rest", None))
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.Global):
            shared.update(node.names)
        elif isinstance(name, str) and not isinstance(node, ast.alias):
            names.add(name)
        if isinstance(node, ast.comprehension):
            stack += [node.iter, *node.ifs]
        elif not isinstance(node, _Named | ast.Lambda):
            stack += ast.iter_child_nodes(node)
    return names, shared


def _canonical(node: ast.AST) -> str:
    """Write a tree as text: types and what fields say, equal on every Python; no docstrings."""
    out: list[str] = []
    stack: list[ast.AST | str] = [node]
    while stack:
        item = stack.pop()
        alone = isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant)
        if isinstance(item, str):
            out.append(item)
        elif not alone and not isinstance(item, ast.Pass):
            pieces: list[ast.AST | str] = [f"{type(item).__name__}("]
            for name, value in ast.iter_fields(item):
                if value not in (None, []) or isinstance(item, ast.Constant):
                    values = value if isinstance(value, list) else [value]
                    texts = [v if isinstance(v, ast.AST) else f"{v!a}," for v in values]
                    pieces += [f" {name}:", *texts] if name not in _SKIPPED else []
            stack += reversed([*pieces, ")"])
    return "".join(out)
