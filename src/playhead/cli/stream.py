"""``ingest run status query``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from playhead.cli.options import Globals, out, say, shared
from playhead.cli.stop import until_stopped

if TYPE_CHECKING:
    from playhead.ops.status import VersionStatus


@click.command(
    epilog="Example: playhead ingest trackpoints.csv --topic raw_trackpoints "
    '--timestamp time --timestamp-format "%m/%d/%Y %H:%M"'
)
@click.argument("file")
@click.option("--topic", required=True, help="Where to.")
@click.option("--key", metavar="COL[,COL]", help="Key column [as declared].")
@click.option("--timestamp", metavar="COL", help="Column with the event time [now].")
@click.option("--timestamp-format", metavar="FMT", help="strptime format [ISO-8601 or epoch].")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Records a second.")
@click.option("--partitions", type=click.IntRange(min=1), help="Count for a topic that is new.")
@shared
def ingest(settings: Globals, file: str, **options: Any) -> None:  # noqa: ANN401  click's values
    """Append a CSV or JSON-lines FILE to a topic; - is standard input.

    Types come from the topic's declaration, else they are inferred and said. A file of up to a
    million rows is one transaction. Bad rows are skipped and listed with their lines (exit 6).
    """
    from playhead.ops.ingest import Request
    from playhead.ops.ingest import ingest as op
    from playhead.render import as_json

    result = op(settings.project(), Request(file, **options), say)
    for remark in result.remarks:
        say(remark)
    for line in result.rejected:
        say(f"{file}: {line}")
    hidden = result.rejected_count - len(result.rejected)
    if hidden:
        say(f"{file}: and {hidden} more")
    if settings.json:
        content = {"topic": result.topic, "records": result.records}
        out(as_json({**content, "rejected": result.rejected_count}))
    else:
        skipped = f", {result.rejected_count} rows rejected" if result.rejected_count else ""
        out(f"{result.records} records → {result.topic}{skipped}")
    if result.rejected_count:
        sys.exit(6)


def teller(settings: Globals) -> Any:  # noqa: ANN401  a callable of events
    """Return a listener that prints what people want to know while something runs."""
    from playhead.engine.events import (
        BatchDone,
        Event,
        Recovered,
        Restarted,
        SessionOver,
        Waiting,
        Warned,
    )

    def tell(event: Event) -> None:
        match event:
            case Warned(version, why):
                say(f"{version}: {why}")
            case Restarted(version, place, why):
                say(f"{version} {place}: {why}")
            case SessionOver(version, why):
                say(f"{version}: session over, starting again: {why}")
            case Waiting(version, why):
                say(f"{version}: waiting, and goes on by itself: {why}")
            case Recovered(version, waited_s):
                say(f"{version}: back after {waited_s:.1f} s, going on")
            case BatchDone(version, records, positions) if settings.verbosity > 0:
                say(f"{version}: {records} records, now at {positions}")
            case _:
                pass

    return tell


@click.command(epilog="Example: playhead run --until-caught-up")
@click.argument("pipelines", nargs=-1, metavar="[PIPELINE]...")
@click.option("--until-caught-up", is_flag=True, help="Stop at what is in the log now.")
@click.option("--accept-gap", is_flag=True, help="Accept that a group was moved forward.")
@click.option("--reason", help="For the audit, for example why a gap is accepted.")
@shared
def run(
    settings: Globals,
    pipelines: tuple[str, ...],
    *,
    until_caught_up: bool,
    accept_gap: bool,
    reason: str | None,
) -> None:
    """Run whatever is live, until stopped.

    The first run makes the first version of each pipeline live. Chained pipelines run in order.
    """
    from playhead.ops.run import Request
    from playhead.ops.run import run as op
    from playhead.render import as_json, table

    request = Request(pipelines, until_caught_up, accept_gap, reason)
    if not until_caught_up:
        say("running; Ctrl-C stops after the current batch")
    outcome, stopped = until_stopped(
        lambda stop: op(settings.project(), request, stop, teller(settings), say)
    )
    if settings.json:
        rows = [
            {
                "pipeline": r.version.partition("@")[0],
                "version": r.version.partition("@")[2],
                "records": r.records,
                "cursor": {r.topic: r.cursor},
                "dead_letters": r.dead_letters,
            }
            for r in outcome.pipelines
        ]
        out(as_json({"pipelines": rows, "public": [asdict(p) for p in outcome.published]}))
    else:
        headings = ("PIPELINE", "VERSION", "RECORDS", "TOPIC", "CURSOR")
        out(
            table(
                headings,
                [(*r.version.split("@"), r.records, r.topic, r.cursor) for r in outcome.pipelines],
            )
        )
        if outcome.published:
            shown = [
                (p.topic, p.epoch, p.pipeline, p.version, p.records) for p in outcome.published
            ]
            out(table(("PUBLIC-TOPIC", "EPOCH", "PIPELINE", "VERSION", "RECORDS"), shown))
    if stopped:
        sys.exit(130)


@click.command(epilog="Example: playhead status -o json")
@shared
def status(settings: Globals) -> None:
    """Show every version: its stage, where it stands, and how far behind; then public topics."""
    from playhead.ops.shown import shown
    from playhead.ops.status import status as op
    from playhead.render import as_json, tabular

    found, public = op(settings.project()), shown(settings.project())
    if settings.json:
        pipelines: dict[str, list[dict[str, Any]]] = {}
        for v in found:
            content = asdict(v)
            content["cursor"] = {v.topic: list(v.cursor)} if v.topic else {}
            pipelines.setdefault(content.pop("pipeline"), []).append(content)
        rows = [{"pipeline": name, "versions": vs} for name, vs in pipelines.items()]
        out(as_json({"pipelines": rows, "public": [asdict(p) for p in public]}))
        return
    headings = (
        "PIPELINE", "VERSION", "STAGE", "GENERATION", "TOPIC", "CURSOR", "LAG",
        "DEAD-LETTERS", "GROUP", "FINGERPRINT", "RUNNING", "NOTE",
    )  # fmt: skip
    lines = [
        (
            v.pipeline, v.version, v.stage, v.generation, v.topic, v.cursor or None, v.lag,
            v.dead_letters, v.group, v.fingerprint, v.running,
            _note(v),
        )
        for v in found
    ]  # fmt: skip
    out(tabular(settings.output, headings, lines))
    if public and settings.output != "csv":
        names = (
            "PUBLIC-TOPIC", "EPOCH", "PIPELINE", "VERSION", "PART", "STAGE", "RECORDS", "SOURCE",
            "CURSOR", "LAG", "GROUP", "RUNNING",
        )  # fmt: skip
        epochs = [
            (
                p.topic, p.epoch, p.pipeline, p.version, p.part, p.stage, p.records, p.source,
                p.cursor or None, p.lag, p.group, p.running,
            )
            for p in public
        ]  # fmt: skip
        out("")
        out(tabular(settings.output, names, epochs))


def _note(found: VersionStatus) -> str | None:
    if not found.declared:
        return "not declared here"
    return f"{found.behind} behind the one before" if found.behind else None


@click.command(epilog='Example: playhead query "SELECT * FROM dist_calc ORDER BY track_id"')
@click.argument("sql")
@shared
def query(settings: Globals, sql: str) -> None:
    """Ask the mirror in DuckDB's SQL (read only); says which version it shows, and how old.

    Besides the tables there is one named playhead, which says which version and offsets each shows.
    """
    from playhead.ops.query import query as op
    from playhead.render import answer, as_json, tabular, told_age

    found = op(settings.project(), sql)
    if settings.json:
        columns = [{"name": n, "type": t} for n, t in zip(found.names, found.types, strict=True)]
        content = {"columns": columns, "rows": found.rows, "versions": found.versions}
        out(
            as_json({**content, "as_of": found.as_of, "age_s": found.age_s, "behind": found.behind})
        )
    elif settings.output in {"csv", "md"}:
        out(tabular(settings.output, found.names, found.rows))
    else:
        out(answer(found))
    say(told_age(found))
