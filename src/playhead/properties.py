"""Files of Kafka client properties: librdkafka's names, or a Java ``client.properties``."""

from __future__ import annotations

import re
from pathlib import Path

from playhead.errors import ConfigError

_JAAS = re.compile(r'(\w+)\s*=\s*"((?:[^"\\]|\\.)*)"')
_LOGIN = ("PlainLoginModule", "ScramLoginModule")
_RENAMED = {
    "ssl.truststore.location": "ssl.ca.location",
    "ssl.truststore.certificates": "ssl.ca.pem",
    "ssl.keystore.key": "ssl.key.pem",
    "ssl.keystore.certificate.chain": "ssl.certificate.pem",
    "ssl.key.password": "ssl.key.password",
}
_SAID_OTHERWISE = {"ssl.truststore.type", "ssl.keystore.type", "sasl.jaas.config"}
_JAVA_ONLY = {
    "ssl.truststore.password": "a password-protected trust store; export it as PEM",
    "ssl.keystore.password": "a password-protected key store; export it as PEM",
    "ssl.keystore.location": "a key store; give ssl.certificate.location and ssl.key.location",
}


def load_properties(path: Path) -> dict[str, str]:
    """Return librdkafka properties from a file of ``key=value`` lines.

    Raises:
        ConfigError: The file cannot be read, a line is no pair, or a Java setting has no
            counterpart. Values are never shown: they may be secrets.
    """
    try:
        # A backslash at its end goes on with a line, as Java's files have it.
        lines = path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path)) from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text[0] in "#!":
            continue
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError("not key=value", where=f"{path}:{number}")
        found[name.strip()] = value.strip()
    return _translated(found, path)


def _translated(found: dict[str, str], path: Path) -> dict[str, str]:
    for name, why in _JAVA_ONLY.items():
        if name in found:
            raise ConfigError(f"{name}: {why}", where=str(path))
    stores = [
        found.get(f"ssl.{kind}.type", "JKS" if f"ssl.{kind}.location" in found else "PEM")
        for kind in ("truststore", "keystore")
    ]
    if any(kind.upper() != "PEM" for kind in stores):
        raise ConfigError("only PEM trust and key stores can be read", where=str(path))
    given = {_RENAMED.get(k, k): v for k, v in found.items() if k not in _SAID_OTHERWISE}
    jaas = found.get("sasl.jaas.config")
    if jaas is not None:
        if not any(module in jaas for module in _LOGIN):
            raise ConfigError("sasl.jaas.config: only PLAIN and SCRAM are known", where=str(path))
        said = dict(_JAAS.findall(jaas))
        if not {"username", "password"} <= said.keys():
            raise ConfigError("sasl.jaas.config names no username and password", where=str(path))
        given["sasl.username"], given["sasl.password"] = said["username"], said["password"]
    return given
