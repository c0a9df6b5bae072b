"""Addresses of stores: what may be shown of them, and what must not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from playhead.errors import ConfigError

POSTGRES = ("postgresql", "postgres")
_USER_PASSWORD = re.compile(r"(?<=://)([^:@/?]*):.*@")
_HOST = r"(\[[^\]]*\]|[^:@\[\],]*)(:\d*)?"
_HOSTS = re.compile(f"{_HOST}(,{_HOST})*")
_NAMED_PASSWORD = re.compile(r"([?&](?:ssl)?password=)[^&]*")


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """Where a PostgreSQL store is.

    Attributes:
        url: For PostgreSQL's own library, which also reads PGPASSWORD, .pgpass and PGSERVICE.
        schema: The schema that holds everything.
        shown: The address without its password.
    """

    url: str
    schema: str
    shown: str

    def __repr__(self) -> str:
        """Return the address without its password."""
        return f"PostgresAddress({self.shown!r})"


def masked(address: str) -> str:
    """Return an address with its password as ``****``."""
    authority = re.split("[/?]", address.partition("://")[2], maxsplit=1)[0]
    named = _NAMED_PASSWORD.sub(r"\1****", address)
    # A password as it is may hold any of / ? @: it ends at the last @.
    hosts_only = _HOSTS.fullmatch(authority)
    return named if hosts_only else _USER_PASSWORD.sub(r"\1:****@", named)


def has_password(address: str) -> bool:
    """Say whether an address holds a password."""
    return masked(address) != address


def postgres_address(address: str) -> PostgresAddress:
    """Read ``postgresql://USER@HOST:PORT/DATABASE?schema=NAME``.

    Raises:
        ConfigError: It cannot be read; the message does not show its password.
    """
    shown = masked(address)
    try:
        urlsplit(address)
    except ValueError:
        raise ConfigError(f"store {shown!r} is not postgresql://USER@HOST:PORT/DATABASE") from None
    # The rest of the address stays as it was written: libpq reads some things its own way.
    path, mark, query = address.partition("?")
    given = query.split("&") if mark else []
    schemas = [unquote(one.partition("=")[2]) for one in given if one.startswith("schema=")]
    if any("=" not in one for one in given):
        raise ConfigError(f"store {shown!r} is not postgresql://…?name=value&name=value")
    schema = schemas[-1] if schemas else "public"
    if not schema or len(schema.encode()) > 63 or "\0" in schema:
        raise ConfigError(f"store {shown!r}: {schema!r} cannot be the name of a schema")
    rest = "&".join(one for one in given if not one.startswith("schema="))
    return PostgresAddress(f"{path}?{rest}" if rest else path, schema, shown)
