"""Reads what `playhead.core.fingerprint` needs: sources of the user's modules, and ``reads`` files.

Nothing is executed here: a module that is not loaded is found by the import system's finders, one
package at a time, without importing the packages above it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
import platform
import sys
import sysconfig
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FunctionType

from playhead.core import fingerprint as pure
from playhead.core.declare import Version
from playhead.core.schema import key_of
from playhead.errors import DeclarationError

_ALWAYS = ("playhead", "polars")
_INSTALLED = frozenset({"site-packages", "dist-packages"})


class Sources:
    """Source text of the user's modules by name.

    A module is the user's if its file lies under one of the given places and is neither part of
    Python, nor installed, nor in a virtual environment below that place. A package ``p`` answers
    as ``p`` and as ``p.__init__``; a directory without ``__init__.py`` is empty; a compiled
    extension answers with the hash of its file.

    Attributes:
        foreign: Top-level names of the modules asked for that are not the user's.
    """

    def __init__(self, root: Path, *beside: Path) -> None:
        """Take the project's root and further files or directories that hold the user's code."""
        self.foreign: set[str] = set()
        self._places = tuple(p.resolve() for p in (root, *beside))
        self._texts: dict[str, str | None] = {}

    @property
    def texts(self) -> dict[str, str | None]:
        """What was answered so far, by module."""
        return dict(self._texts)

    def __call__(self, module: str) -> str | None:
        """Return the source of one of the user's modules; None for any other.

        Raises:
            DeclarationError: A file of the user's cannot be read or decoded.
        """
        if module not in self._texts:
            self._texts[module] = text = self._read(module)
            if text is None:
                self.foreign.add(module.partition(".")[0])
        return self._texts[module]

    def _read(self, module: str) -> str | None:
        file = _file_of(module)
        if file is None or not self._holds(file):
            return None
        try:
            if file.is_dir():
                return ""
            data = file.read_bytes()
            if file.suffix == ".py":
                return importlib.util.decode_source(data)
        except (OSError, SyntaxError, UnicodeError) as error:
            raise DeclarationError(f"cannot be read: {error}", where=file.name) from error
        return f"COMPILED = {hashlib.sha256(data).hexdigest()!r}"

    def _holds(self, file: Path) -> bool:
        paths = {file.absolute(), file.resolve()}  # a link into the project is the project's
        return any(_belongs(path, place) for path in paths for place in self._places)


def _belongs(file: Path, place: Path) -> bool:
    if not file.is_relative_to(place):
        return False
    if any(file.is_relative_to(f) and not place.is_relative_to(f) for f in _foreign()):
        return False
    between = [p for p in file.parents if p != place and p.is_relative_to(place)]
    return _INSTALLED.isdisjoint(p.name for p in between) and not any(
        (p / "pyvenv.cfg").is_file() for p in between
    )


def fingerprint_of(version: Version, root: Path) -> str:
    """Return the fingerprint of a version, read from the files as they are now.

    Beside what `code_of` finds, plain values (as JSON holds them) that a function closes over
    count, and functions that it wraps or closes over: a factory's argument is part of its result.

    Args:
        version: The version; without a function, only its declarations count.
        root: The project's directory; names in ``reads=`` are relative to it.

    Raises:
        DeclarationError: Source is missing or is not Python, or a file of ``reads=`` is missing.
    """
    code = _code(version, _sources(version, root))
    return pure.fingerprint(code, pure.declarations_of(version), _reads(version, root))


def environment(version: Version, root: Path) -> dict[str, str]:
    """Return the versions of Python and of the distributions that a version's code imports.

    Only what its function reaches counts, and always Playhead and polars. The fingerprint does
    not hold them: a change here is a warning.

    Raises:
        DeclarationError: Source is missing or is not Python.
    """
    sources = _sources(version, root)
    _code(version, sources)
    found = {"python": platform.python_version()}
    for module in sorted({*sources.foreign, *_ALWAYS}):
        for distribution in _distributions().get(module, ()):
            found[distribution.lower()] = _version_of(distribution)
    return found


def _sources(version: Version, root: Path) -> Sources:
    functions = _functions(version.function)
    sources = Sources(root)
    if not functions or any(sources(_module_of(f)) is not None for f in functions):
        return sources
    module = _module_of(inspect.unwrap(functions[0]))
    file = _file_of(module)
    if file is None:
        return sources
    if "." in module:
        return Sources(root, file.parents[module.count(".") - (file.stem != "__init__")])
    if file.stem == "__init__" or _INSTALLED.isdisjoint(file.parent.parts):
        return Sources(root, file.parent)
    return Sources(root, file)


def _code(version: Version, sources: Sources) -> dict[str, str]:
    functions = _functions(version.function)
    own = [f for f in functions if sources(_module_of(f)) is not None]
    code: dict[str, str] = {}
    for number, function in enumerate(own or functions[:1]):
        parts = _walked(function, sources)
        code |= {f"{number} {name}": part for name, part in parts.items()}
        code[f"{number} closes over"] = _closed_over(function)
    return code


_Asked = tuple[str, str, int]
_walks: dict[_Asked, tuple[dict[str, str | None], dict[str, str]]] = {}


def _walked(function: FunctionType, sources: Sources) -> dict[str, str]:
    """Return what `code_of` finds; it is found once as long as all that it read stays the same."""
    at = function.__code__
    asked = (_module_of(function), at.co_qualname, at.co_firstlineno)
    read, parts = _walks.get(asked, ({}, {}))
    if not read or any(sources(module) != text for module, text in read.items()):
        parts = pure.code_of(*asked, sources)
        _walks[asked] = (sources.texts, parts)
    return parts


def _functions(function: object) -> list[FunctionType]:
    """Return a function and those that it wraps or closes over, each once, itself first."""
    found: dict[FunctionType, None] = {}
    stack = [function]
    while stack:
        item = stack.pop()
        if isinstance(item, FunctionType) and item not in found:
            found[item] = None
            stack += [*_cells(item).values(), getattr(item, "__wrapped__", None)]
    return list(found)


def _cells(function: FunctionType) -> dict[str, object]:
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    values: dict[str, object] = {}
    for name, cell in cells.items():
        with suppress(ValueError):  # not bound yet
            values[name] = cell.cell_contents
    return values


def _closed_over(function: FunctionType) -> str:
    plain: dict[str, str] = {}
    for name, value in _cells(function).items():
        with suppress(TypeError, ValueError):  # not plain
            plain[name] = json.dumps(value, sort_keys=True)
    return json.dumps(plain, sort_keys=True)


def _reads(version: Version, root: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name in key_of(version.options.get("reads")):
        try:
            found[name] = (root / name).read_bytes()
        except OSError as error:
            raise DeclarationError(
                f"reads={name!r}: {error.strerror}",
                where=version.name,
                cure=f"It is read from {root}.",
            ) from error
    return found


def _module_of(function: FunctionType) -> str:
    name = str(function.__globals__.get("__name__", ""))
    return _main_name() if name == "__main__" else name


def _main_name() -> str:
    """Return the name under which other modules import the one that was started."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    return spec.name if spec is not None else Path(getattr(main, "__file__", None) or "").stem


def _file_of(module: str) -> Path | None:
    """Return the file of a module, or the directory of a package that has none."""
    loaded = sys.modules.get(module)
    if loaded is None and module == _main_name():
        loaded = sys.modules["__main__"]
    if loaded is None:
        return _found(module)
    if file := getattr(loaded, "__file__", None):
        return Path(file)
    return _first(getattr(loaded, "__path__", None))


def _found(module: str) -> Path | None:
    """Ask the import system's finders where a module would come from; run nothing."""
    if not all(part.replace("-", "_").isidentifier() for part in module.split(".")):
        return None
    above, _, _ = module.rpartition(".")
    path: list[str] | None = None
    if above:
        path = _search_path(above)
        if path is None:
            return None
    spec = _spec(module, path)
    if spec is None:
        return None
    if spec.has_location and spec.origin:
        return Path(spec.origin)
    return _first(spec.submodule_search_locations)


def _search_path(package: str) -> list[str] | None:
    if package in sys.modules:
        path = getattr(sys.modules[package], "__path__", None)
    else:
        above, _, _ = package.rpartition(".")
        outer = _search_path(above) if above else None
        spec = None if above and outer is None else _spec(package, outer)
        path = spec.submodule_search_locations if spec else None
    return None if path is None else list(path)


def _spec(module: str, path: list[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        spec = finder.find_spec(module, path)
        if spec is not None:
            return spec
    return None


def _first(path: Iterable[str] | None) -> Path | None:
    return next((Path(p) for p in path or ()), None)


@cache
def _foreign() -> tuple[Path, ...]:
    """Directories of Python, of what is installed, and of Playhead itself."""
    named = ("stdlib", "platstdlib", "purelib", "platlib")
    return (
        *(Path(p).resolve() for name, p in sysconfig.get_paths().items() if name in named),
        Path(pure.__file__).resolve().parents[1],
    )


@cache
def _version_of(distribution: str) -> str:
    return importlib.metadata.version(distribution)


@cache
def _distributions() -> dict[str, list[str]]:
    return {
        name: list(owners) for name, owners in importlib.metadata.packages_distributions().items()
    }
