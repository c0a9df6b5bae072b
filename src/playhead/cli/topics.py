"""``topics list describe create tail``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from playhead.cli.options import Globals, out, shared
from playhead.errors import ConfigError

if TYPE_CHECKING:
    from playhead.ops.topics import TopicStatus


@click.group(epilog="Example: playhead topics list")
def topics() -> None:
    """List, describe, create and read topics."""


def _content(found: TopicStatus) -> dict[str, Any]:
    partitions = sorted(found.retained)
    return {
        "topic": found.topic.name,
        "partitions": len(partitions),
        "start_offsets": [found.retained[p].start for p in partitions],
        "end_offsets": [found.retained[p].end for p in partitions],
        "config": dict(found.topic.config),
    }


def _show(settings: Globals, found: list[TopicStatus]) -> None:
    from playhead.render import as_json, tabular

    contents = [_content(f) for f in found]
    if settings.json:
        out(as_json({"topics": contents}))
        return
    rows = [
        (c["topic"], c["partitions"], c["start_offsets"], c["end_offsets"], _config(c["config"]))
        for c in contents
    ]
    headings = ("TOPIC", "PARTITIONS", "START-OFFSETS", "END-OFFSETS", "CONFIG")
    out(tabular(settings.output, headings, rows))


def _config(config: Mapping[str, str]) -> str | None:
    return " ".join(f"{k}={v}" for k, v in sorted(config.items())) or None


@topics.command("list", epilog="Example: playhead topics list -o json")
@shared
def list_(settings: Globals) -> None:
    """List every topic with its offsets."""
    from playhead.ops.topics import topics as op

    _show(settings, op(settings.project()))


@topics.command(epilog="Example: playhead topics describe raw_trackpoints")
@click.argument("topic")
@shared
def describe(settings: Globals, topic: str) -> None:
    """Show one topic partition by partition."""
    from playhead.ops.topics import topics as op
    from playhead.render import tabular

    found = op(settings.project(), topic)
    if settings.json:
        _show(settings, found)
        return
    rows = [
        (topic, p, held.start, held.end, len(held)) for p, held in sorted(found[0].retained.items())
    ]
    headings = ("TOPIC", "PARTITION", "LOG-START-OFFSET", "LOG-END-OFFSET", "OFFSETS")
    out(tabular(settings.output, headings, rows))


@topics.command(epilog="Example: playhead topics create raw_trackpoints --partitions 4")
@click.argument("topic")
@click.option("--partitions", type=click.IntRange(min=1), help="Count [declared, else 1].")
@click.option("--config", multiple=True, metavar="K=V", help="Topic configuration.")
@shared
def create(settings: Globals, topic: str, partitions: int | None, config: tuple[str, ...]) -> None:
    """Create a topic that keeps everything (retention.ms=-1 unless given)."""
    from playhead.core.naming import checked_topic
    from playhead.ops.topics import create as op
    from playhead.render import as_json

    pairs = dict(_pair(text) for text in config)
    info = op(settings.project(), checked_topic(topic, "create"), partitions, pairs)
    if settings.json:
        out(as_json({"topic": info.name, "partitions": info.partitions, "config": info.config}))
    else:
        out(f"created {info.name} with {info.partitions} partitions")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--config {text!r}: name=value")
    return name, value


@topics.command(epilog="Example: playhead topics tail distance_calcs.miles --from -5")
@click.argument("topic")
@click.option("--from", "since", default="start", help="start, N, +N, -N, @TIME, @-48h [start].")
@click.option("--to", "until", default="end", help="The same; end [end].")
@shared
def tail(settings: Globals, topic: str, since: str, until: str) -> None:
    """Print records as JSON, one a line, in kcat's envelope, partition by partition.

    A value that is not UTF-8 text is printed as base64 under "payload_base64".
    """
    import msgspec

    from playhead.ops.topics import tail as op

    encode = msgspec.json.Encoder().encode
    for records in op(settings.project(), topic, since, until):
        for i, offset in enumerate(records.offsets):
            headers = records.headers[i] if records.headers else ()
            flat = [
                text for name, value in headers for text in (name, value.decode("utf-8", "replace"))
            ]
            line: dict[str, Any] = {
                "topic": topic,
                "partition": records.source.partition,
                "offset": offset,
                "tstype": "create",
                "ts": records.timestamps_ms[i],
                "headers": flat,
                **_text("key", records.keys[i]),
                **_text("payload", records.values[i]),
            }
            out(encode(line).decode())


def _text(name: str, value: bytes | None) -> dict[str, Any]:
    if value is None:
        return {name: None}
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": value}
