"""Shadows that nobody declares: a reader's code, behind a shadow of what it reads.

`db_writer@v1+km` is `db_writer@v1`, reading what `distance@km` writes instead of what is live.
No declared label has a ``+``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from playhead.core.declare import App, Version
from playhead.core.ends import Topic


def behind(reader: Version, root: Version, *, same: bool = False) -> Version:
    """Return a reader's version under the label that it has behind ``root``.

    Args:
        reader: The declared version whose code it runs.
        root: The declared version at the head of the chain.
        same: Whether its rows are those of ``root``, handed on: then what ``root`` was expected
            to change is what it is expected to change.
    """
    options: Any = {**reader.options, "group": f"{reader.group}.{root.label}"}
    if same:
        options["expect"] = (*reader.expectations, *root.expectations)
    return replace(reader, label=f"{reader.label}+{root.label}", options=options)


def declared(app: App, name: str) -> Version | None:
    """Return the version ``pipeline@label`` that the app declares, or that lies behind such a one.

    None: there is none.
    """
    pipeline, _, label = name.partition("@")
    own, _, root = label.partition("+")
    found = app.pipelines.get(pipeline)
    version = found.versions.get(own) if found else None
    if version is None or not root:
        return version
    for head, same in _heads(app, version.source, root, frozenset()):
        return behind(version, head, same=same and version.function is None)
    return None


def _heads(
    app: App, topic: Topic, label: str, seen: frozenset[str]
) -> Iterator[tuple[Version, bool]]:
    """Yield the versions of this label that write a topic, directly first, or through others.

    The flag says whether what they write arrives in the topic as it is.
    """
    writers = [w for w in app.writers(topic) if w.name not in seen]
    for writer in writers:
        if label in writer.versions:
            yield writer.versions[label], True
    for writer in writers:
        for version in writer.versions.values():
            for head, same in _heads(app, version.source, label, seen | {writer.name}):
                yield head, same and version.function is None
