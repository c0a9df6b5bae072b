"""``plan promote rollback``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from playhead.cli.options import Globals, out, say, shared
from playhead.cli.stream import teller

if TYPE_CHECKING:
    from playhead.core.plan import Plan, Step
    from playhead.ops.promote import Promoted


@click.command(epilog="Example: playhead plan distance")
@click.argument("name", required=False, metavar="[PIPELINE[@VERSION]]")
@shared
def plan(settings: Globals, name: str | None) -> None:
    """Say what replays would do, and why; touches nothing.

    Exit 3 when there is nothing to do but what is refused.
    """
    from playhead.ops.plan import plan as op
    from playhead.render import as_json
    from playhead.render_look import survey_content, surveyed

    found = op(settings.project(), name)
    if settings.json:
        refused = [
            {"subject": r.subject, "reason": r.reason, "cure": r.cure} for r in found.refused
        ]
        steps = [surveyed(step_content(s), found) for s in found.steps]
        promotions = [
            {
                "kind": "promote",
                "version": one.version,
                "base": one.base,
                "behind": [{"version": v, "base": base} for v, base in one.behind],
            }
            for one in found.promotions
        ]
        content = {
            "steps": steps,
            "promotions": promotions,
            "refused": refused,
            "remarks": list(found.remarks),
        }
        out(as_json({**content, **survey_content(found)}))
    else:
        out(_plan_text(found))
    if found.refused and not found.steps:
        sys.exit(3)


def step_content(step: Step) -> dict[str, Any]:
    """Return a step as JSON has it."""
    from playhead.core.plan import Anew, Behind, Record, Replay, Revive, TakeOver
    from playhead.core.ranges import moment

    match step:
        case TakeOver(version, base, at, to):
            ends = [
                {"partition": p, "start_offset": o, "end_offset": to.get(p, o)}
                for p, o in at.items()
            ]
            return {"kind": "take over", "version": version, "base": base, "partitions": ends}
        case Record(version, group, tables, topics):
            names = {"group": group, "tables": list(tables), "topics": list(topics)}
            return {"kind": "record", "version": version, **names}
        case Revive(version):
            return {"kind": "revive", "version": version}
        case Anew(version, why):
            return {"kind": "rewind", "version": version, "why": why}
        case Behind(version, topic, after):
            return {
                "kind": "replay",
                "version": version,
                "topic": topic,
                "after": after,
                "partitions": [],
            }
        case Replay(version, topic, ranges, times):
            partitions = [
                {
                    "partition": p,
                    "start_offset": wanted.start,
                    "end_offset": wanted.end,
                    "offsets": len(wanted),
                    "from_time": moment(times.get(p)),
                }
                for p, wanted in ranges.items()
            ]
            content = {"topic": topic, "partitions": partitions}
            return {"kind": "replay", "version": version, **content}


def _plan_text(found: Plan) -> str:
    from playhead.core.plan import Anew, Behind, Record, Replay, Revive, TakeOver
    from playhead.render_look import replay_lines

    lines: list[str] = []
    for step in found.steps:
        match step:
            case Record(version, group, tables, topics):
                made = ", ".join([*(f"table {t}" for t in tables), *(f"topic {t}" for t in topics)])
                lines.append(f"record {version} as a shadow: group {group}, {made}")
            case Revive(version):
                lines.append(f"make {version} a shadow again; it goes on from its own cursor")
            case Anew(version, why):
                lines.append(f"rewind {version} to its start: {why}")
            case TakeOver(version, base):
                lines.append(f"where {version} has the state of {base} then, take its rows over")
            case Behind(version, topic, after):
                lines.append(f"then replay {version} to the end of {topic}, which {after} writes")
            case Replay(version):
                lines += replay_lines(step, found.surveys.get(version))
                lines.append(f"next: playhead replay {version}")
    lines += [f"refused: {r.subject}: {r.reason}. {r.cure}" for r in found.refused]
    replayed = {step.version for step in found.steps}
    for one in found.promotions:
        if one.version not in replayed:
            lines.append(f"{one.version} stands where live stands")
        diff = f"playhead diff {one.version.partition('@')[0]}"
        places = "".join(f", and {v} that of {base}" for v, base in one.behind)
        lines.append(
            f"{'then' if one.version in replayed else 'next'}: {diff}; playhead promote "
            f"{one.version}, which takes the place of {one.base}{places}"
        )
    lines += found.remarks
    return "\n".join(lines or ["nothing to do"])


hold_timeout = click.option(
    "--hold-timeout",
    "hold_timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    default=30.0,
    show_default=True,
    help="Seconds that a worker has to stand still in.",
)


@click.command(epilog="Example: playhead promote distance@km")
@click.argument("version", metavar="PIPELINE@VERSION")
@click.option("--accept-diff", metavar="DIGEST", help="Accept the unexplained rows of this diff.")
@click.option("--reason", help="For the audit.")
@hold_timeout
@shared
def promote(settings: Globals, version: str, **options: Any) -> None:  # noqa: ANN401  click's values
    """Make a shadow live, in one transaction, while records come in.

    A worker that runs live stands still meanwhile, and then runs the new version. Refused unless
    every difference is explained, or was accepted by the digest of its diff.
    """
    from playhead.ops.promote import promote as op

    told = teller(settings)
    _promoted(settings, lambda: op(settings.project(), version, tell=told, **options))


@click.command(epilog="Example: playhead rollback distance")
@click.argument("pipeline")
@click.option("--now", is_flag=True, help="Swap first, catch up after.")
@click.option("--reason", help="For the audit.")
@hold_timeout
@shared
def rollback(settings: Globals, pipeline: str, **options: Any) -> None:  # noqa: ANN401  click's values
    """Make the version that was live before live again; it catches up first."""
    from playhead.ops.promote import rollback as op

    told = teller(settings)
    _promoted(settings, lambda: op(settings.project(), pipeline, tell=told, **options))


def _promoted(settings: Globals, op: Callable[[], Promoted]) -> None:
    from playhead.render import as_json, difference_counts

    done = op()
    if done.remark:
        say(done.remark)
    if settings.json:
        out(as_json({**_content(done), "behind": [_content(one) for one in done.behind]}))
        return
    if done.difference is not None:
        out(difference_counts(done.difference))
    for one in (done, *done.behind):
        out(f"{one.version} is live (epoch {one.epoch}); {one.previous} is retired")
    say(f"live stood still for {done.paused_s:.2f} s")
    say(f"next: playhead run; the way back: playhead rollback {done.pipeline}")


def _content(done: Promoted) -> dict[str, Any]:
    return {
        "pipeline": done.pipeline,
        "version": done.version.partition("@")[2],
        "previous": done.previous.partition("@")[2],
        "cursor": {done.topic: done.cursor},
        "epoch": done.epoch,
        "paused_s": done.paused_s,
    }
