"""Addresses of stores: what may be shown of them, and what must not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from playhead.errors import ConfigError

POSTGRES = ("postgresql", "postgres")
_USER_PASSWORD = re.compile(r"(?<=://)([^:@/?]*):.*@")
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
    return _NAMED_PASSWORD.sub(r"\1****", _USER_PASSWORD.sub(r"\1:****@", address))


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
        parts = urlsplit(address)
        given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ConfigError(f"store {shown!r} is not postgresql://USER@HOST:PORT/DATABASE") from None
    schemas = [value for name, value in given if name == "schema"]
    schema = schemas[-1] if schemas else "public"
    if not schema or len(schema.encode()) > 63 or "\0" in schema:
        raise ConfigError(f"store {shown!r}: {schema!r} cannot be the name of a schema")
    rest = urlencode([(name, value) for name, value in given if name != "schema"])
    return PostgresAddress(urlunsplit(parts._replace(query=rest)), schema, shown)
