"""A project: its settings, its log, its store, and the user's module."""

from __future__ import annotations

import importlib
import sys
import traceback
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from playhead.config import Settings
from playhead.core.addresses import POSTGRES, masked, postgres_address
from playhead.core.declare import App
from playhead.errors import ConfigError, DeclarationError, PlayheadError

if TYPE_CHECKING:
    from playhead.adapters.history_cache import HistoryCache
    from playhead.ports import Log, Store

CACHE = ".playhead/cache"
NOTHING_YET = "nothing has run here yet; next: playhead run"


@dataclass(frozen=True)
class Project:
    """Opens what a command needs; adapters are loaded only when asked for."""

    settings: Settings

    @property
    def root(self) -> Path:
        """The project's folder."""
        return self.settings.root

    @cached_property
    def app(self) -> App:
        """The App that the project names; the only user code that is ever loaded.

        Raises:
            ConfigError: Nobody named one, or there is no such module or name.
            DeclarationError: The module fails, or what it declares cannot be.
        """
        named = self.settings.app
        if not named:
            raise ConfigError(
                f"no app is named: {self.root / 'playhead.toml'} says none",
                cure='Put app = "module:name" there, give --app MODULE:NAME, or make a project '
                "with playhead init DIR.",
            )
        module_name, _, name = named.partition(":")
        root = self.root.resolve()
        loaded = sys.modules.get(module_name)
        if loaded is not None and not _lies_in(loaded.__file__, root):
            del sys.modules[module_name]  # another project's module of the same name
        sys.path.insert(0, str(root))
        importlib.invalidate_caches()
        try:
            module = importlib.import_module(module_name)
        except PlayheadError:
            raise
        except ModuleNotFoundError as error:
            missing = error.name or ""
            if missing.split(".")[0] == module_name.split(".")[0]:
                raise ConfigError(
                    f"module {module_name!r} is not in {self.root}", cure="Check app = and -C."
                ) from error
            raise DeclarationError(
                f"{module_name} imports {missing!r}, which is not installed",
                where=_user_line(error),
                cure=f"pip install {missing.split('.')[0]}",
            ) from error
        except (Exception, SystemExit) as error:
            raise DeclarationError(
                f"{type(error).__name__}: {error}", where=_user_line(error)
            ) from error
        app = getattr(module, name or "app", None)
        if not isinstance(app, App):
            raise ConfigError(f"{module_name} has no App named {name or 'app'!r}")
        app.check()
        return app

    def reloaded(self) -> Project:
        """Return the project as it is on the disk now, with the user's modules loaded anew.

        What was loaded before goes on as it is.
        """
        root = self.root.resolve()
        for name, module in list(sys.modules.items()):
            if _lies_in(getattr(module, "__file__", None), root):
                del sys.modules[name]
        return Project(self.settings)

    def open_log(self) -> Log:
        """Open the log; the caller closes it.

        Raises:
            ConfigError: The address is of no known kind.
            LogFailed: It cannot be opened.
        """
        scheme, _, rest = self.settings.log.partition(":")
        if scheme == "local" and rest:
            from playhead.adapters.local_log import LocalLog

            return LocalLog(self.settings.path(rest))
        if scheme == "kafka" and rest.startswith("//") and len(rest) > 2:
            from playhead.adapters.kafka import KafkaLog

            return KafkaLog(rest[2:].rstrip("/"), self.settings.kafka)
        raise ConfigError(f"log {self.settings.log!r} is neither local:PATH nor kafka://HOST:PORT")

    def open_store(self, *, must_exist: bool = False) -> Store:
        """Open the store; the caller closes it.

        Args:
            must_exist: Refuse to make a new one: for commands that only read.

        Raises:
            ConfigError: The address is of no known kind.
            PlayheadError: Nothing has run here yet, and it must have.
            StoreFailed: It cannot be opened.
        """
        store = self._opened(must_exist=must_exist)
        if must_exist and not store.catalog.versions():
            store.close()
            raise PlayheadError(NOTHING_YET)
        return store

    def cache(self) -> HistoryCache:
        """Return the history cache; it needs no closing."""
        from playhead.adapters.history_cache import HistoryCache

        settings = self.settings
        return HistoryCache(settings.path(CACHE), settings.cache_bytes, settings.log)

    def _opened(self, *, must_exist: bool) -> Store:
        address = self.settings.store
        scheme, _, rest = address.partition(":")
        if scheme in POSTGRES and rest.startswith("//"):
            from playhead.adapters.postgres_store import PostgresStore

            return PostgresStore(postgres_address(address), must_exist=must_exist)
        if scheme != "sqlite" or not rest:
            raise ConfigError(
                f"store {masked(address)!r} is neither sqlite:PATH nor postgresql://HOST/DATABASE"
            )
        from playhead.adapters.sqlite_store import SqliteStore

        path = self.settings.path(rest)
        if must_exist and not path.exists():
            raise PlayheadError(NOTHING_YET)
        return SqliteStore(path)


def _lies_in(file: str | None, root: Path) -> bool:
    return file is not None and Path(file).resolve().is_relative_to(root)


def _user_line(error: BaseException) -> str | None:
    """Return ``file:line`` of the user's own line in a traceback."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}"
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if "importlib" not in f.filename and Path(f.filename) != Path(__file__)
    ]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else None
