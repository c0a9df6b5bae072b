"""Settings: flags, then environment, then ``playhead.toml``, then defaults."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playhead.core.addresses import has_password
from playhead.core.past import Rules
from playhead.errors import ConfigError
from playhead.ports import BATCH_BYTES

FILE = "playhead.toml"
_KEYS = ("app", "log", "store", "mirror", "kafka", "run", "cache")
_STORE_KEYS = ("url", "history", "history_bytes", "snapshot_records", "snapshot_every")
_SPAN = re.compile(r"(\d+)\s*([smhd])\Z")
_SIZE = re.compile(r"(\d+)\s*([KMGT]?B)\Z", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_BYTES = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a project runs with.

    Attributes:
        root: The project's folder; every path is relative to it.
        app: ``module:name`` of the App, or None where nobody named one.
        log: ``local:PATH`` or ``kafka://HOST:PORT``.
        store: ``sqlite:PATH`` or ``postgresql://USER@HOST:PORT/DATABASE``; may hold a password.
        mirror: Path of the DuckDB file.
        kafka: librdkafka properties, passed through as they are.
        batch_records: Most records of one batch.
        batch_bytes: Bytes of values from which on a batch is large enough.
        threads: Whether the next batch is computed while Kafka commits one; the results are the
            same.
        rules: When snapshots are saved, and how long every offset can be restored.
        cache_bytes: Most bytes of decoded history that are kept on the disk; 0: none.
    """

    root: Path
    app: str | None = None
    log: str = "local:.playhead/log.db"
    store: str = field(default="sqlite:.playhead/store.db", repr=False)
    mirror: str = "warehouse.duckdb"
    kafka: Mapping[str, str] = field(default_factory=dict)
    batch_records: int = 100_000
    batch_bytes: int = BATCH_BYTES
    threads: bool = True
    rules: Rules = field(default_factory=Rules)
    cache_bytes: int = 2 << 30

    def path(self, relative: str) -> Path:
        """Return a path of the project."""
        return self.root / Path(relative).expanduser()


def load(
    root: Path, flags: Mapping[str, str | None], properties: Mapping[str, str] | None = None
) -> Settings:
    """Return the settings of the project in ``root``.

    Args:
        root: Folder of ``playhead.toml``; the file may be absent.
        flags: Options of the command line by setting name; None: not given.
        properties: librdkafka properties of the command line.

    Raises:
        ConfigError: The file cannot be read, or a setting is unknown or cannot be, or a flag holds
            a password.
    """
    if has_password(flags.get("store") or ""):
        raise ConfigError(
            "--store holds a password, which everybody on this machine can see in the process list",
            cure="Leave it out, and set PGPASSWORD or write it to ~/.pgpass; or put the address "
            "into playhead.toml.",
        )
    if not root.is_dir():
        raise ConfigError(f"{root}: no such folder")
    found = _read(root / FILE)
    kafka = _dotted(_table(found, "kafka"))
    run = _table(found, "run")
    _check_known(run, tuple(_RUN), f"{FILE} [run]")
    given: dict[str, Any] = {}
    table = found.get("store")
    if isinstance(table, Mapping):
        _check_known(table, _STORE_KEYS, f"{FILE} [store]")
        found["store"] = table.get("url")
    cache = _table(found, "cache")
    _check_known(cache, ("bytes",), f"{FILE} [cache]")
    most = os.environ.get("PLAYHEAD_CACHE_BYTES") or cache.get("bytes")
    if most is not None:
        given["cache_bytes"] = _bytes(most, "bytes")
    given["rules"] = _rules(table if isinstance(table, Mapping) else {})
    for name in ("app", "log", "store", "mirror"):
        value = flags.get(name) or os.environ.get(f"PLAYHEAD_{name.upper()}") or found.get(name)
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"{name} = {value!r} is not text", where=FILE)
        if value is not None:
            given[name] = value
    for name, read in _RUN.items():
        said = flags.get(name) or os.environ.get(f"PLAYHEAD_{name.upper()}")
        said = run.get(name) if said is None else said
        if said is not None:
            given[name] = read(said, name)
    return Settings(root=root, kafka={**kafka, **(properties or {})}, **given)


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        with path.open("rb") as file:
            found = tomllib.load(file)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path)) from error
    _check_known(found, _KEYS, FILE)
    return found


def _table(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = found.get(name, {})
    if not isinstance(table, Mapping):
        raise ConfigError(f"[{name}] is a table", where=FILE)
    return table


def _check_known(found: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for name in found:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"
            raise ConfigError(f"unknown setting {name!r}{hint}", where=where)


def _dotted(table: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return a table with its names dotted: TOML reads ``a.b = 1`` as a table in a table."""
    found: dict[str, str] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            found |= _dotted(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = _text(value)
    return found


def _rules(table: Mapping[str, Any]) -> Rules:
    """Return the rules of the history: environment, then ``[store]``, then defaults."""
    said = {k: os.environ.get(f"PLAYHEAD_{k.upper()}") or table.get(k) for k in _STORE_KEYS}
    given: dict[str, Any] = {}
    if said["history"] is not None:
        given["history_s"] = _measured(said["history"], "history", _SPAN, _SECONDS)
    if said["history_bytes"] is not None:
        given["history_bytes"] = _bytes(said["history_bytes"], "history_bytes")
    if said["snapshot_every"] is not None:
        given["snapshot_s"] = _measured(said["snapshot_every"], "snapshot_every", _SPAN, _SECONDS)
    if said["snapshot_records"] is not None:
        given["snapshot_records"] = _count(said["snapshot_records"], "snapshot_records")
    return Rules(**given)


def _bytes(value: object, name: str) -> int:
    return _measured(value, name, _SIZE, _BYTES)


def _switch(value: object, name: str) -> bool:
    try:
        return {"true": True, "false": False}[str(value).lower()]
    except KeyError:
        raise ConfigError(f"{name} = {value!r} is neither true nor false") from None


def _measured(value: object, name: str, pattern: re.Pattern[str], units: Mapping[str, int]) -> int:
    match = pattern.match(str(value).strip())
    if match is None:
        raise ConfigError(f"{name} = {value!r}: a number and one of {', '.join(units)}")
    unit = match[2].upper() if match[2].upper() in units else match[2]
    return int(match[1]) * units[unit]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _count(value: object, name: str) -> int:
    try:
        count = int(str(value))
    except ValueError:
        count = 0
    if count < 1:
        raise ConfigError(f"{name} = {value!r} is not a positive number")
    return count


_RUN: Mapping[str, Callable[[object, str], object]] = {
    "batch_records": _count,
    "batch_bytes": _bytes,
    "threads": _switch,
}
