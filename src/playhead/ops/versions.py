"""What is declared, what is recorded, what is live, and how one becomes the other."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from playhead.core.behind import declared
from playhead.core.declare import App, Pipeline, Table, Topic, Version
from playhead.core.naming import NAME
from playhead.core.scope import Scope
from playhead.engine.call import Caller
from playhead.engine.preconditions import check_output
from playhead.engine.sources import environment, fingerprint_of
from playhead.engine.task import Task
from playhead.errors import (
    CodeChanged,
    ConfigError,
    LogFailed,
    Refused,
    TopicGone,
)
from playhead.ops.foreign import refuse_lost_store, refuse_unknown_topics
from playhead.ports import Log, Store, TableRow, TopicInfo, VersionRow
from playhead.project import Project

RETENTION = "retention.ms"


@dataclass(frozen=True, slots=True)
class Known:
    """The catalog as read once, beside what the module declares."""

    app: App
    rows: Mapping[str, VersionRow]

    @classmethod
    def read(cls, project: Project, store: Store) -> Known:
        """Read the catalog and load the user's module."""
        return cls(project.app, {row.name: row for row in store.catalog.versions()})

    def live(self, pipeline: str) -> VersionRow | None:
        """Return the live version of a pipeline, or None."""
        rows = (r for r in self.rows.values() if r.pipeline == pipeline and r.stage == "live")
        return next(rows, None)

    def declared(self, name: str) -> Version | None:
        """Return the declared version ``pipeline@label``, or None."""
        return declared(self.app, name)

    def source(self, version: Version) -> str:
        """Return the physical topic that a version reads.

        A topic that a pipeline of the app writes is read as the version that was live when this
        one was recorded wrote it.
        """
        row = self.rows.get(version.name)
        if row is not None:
            return row.source
        if "+" in version.label:
            return self._behind(version)
        labels: dict[str, str] = {}
        for writer in self.app.writers(version.source):
            live = self.live(writer.name)
            labels.setdefault(live.label if live else writer.first, writer.name)
        if len(labels) > 1:
            raise Refused(
                f"{version.name} reads {version.source.name}, and "
                + " and ".join(f"{p}@{v}" for v, p in labels.items())
                + " write it under different labels, each into a topic of its own",
                safe="Nothing was changed.",
                cure="Give them the same label.",
            )
        return version.source.physical(*labels) if labels else version.source.name

    def _behind(self, version: Version) -> str:
        """Return the topic that the recorded version writes which this one lies behind."""
        root = version.label.partition("+")[2]
        writers = {w.name for w in self.app.writers(version.source)}
        for row in self.rows.values():
            if row.pipeline in writers and row.label.rpartition("+")[2] == root:
                return version.source.physical(row.label)
        return version.source.physical(root)

    def bound(self, version: Version) -> Version:
        """Return the version with its source's physical name in place."""
        return replace(version, source=replace(version.source, name=self.source(version)))

    def writers(self, row: VersionRow) -> tuple[str, ...]:
        """Return the recorded versions that write what this one reads."""
        return self.writers_of(row.source)

    def writers_of(self, topic: str) -> tuple[str, ...]:
        """Return the recorded versions that write a physical topic."""
        return tuple(r.name for r in self.rows.values() if topic in dict(r.topics).values())

    def readers(self, pipeline: str) -> list[str]:
        """Return the pipelines of the app that read what this pipeline writes."""
        written = {t for v in self.pipeline(pipeline).versions.values() for t in v.topics}
        return [
            p.name
            for p in self.app.pipelines.values()
            if any(v.source in written for v in p.versions.values())
        ]

    def pipeline(self, name: str) -> Pipeline:
        """Return a declared pipeline.

        Raises:
            ConfigError: There is none of this name.
        """
        found = self.app.pipelines.get(name)
        if found is None:
            raise ConfigError(
                f"no pipeline {name!r} is declared", cure=_closest(name, self.app.pipelines)
            )
        return found

    def version(self, name: str) -> Version:
        """Return the declared version ``pipeline@label``.

        Raises:
            ConfigError: It is not declared, or the label is missing.
        """
        pipeline, at, label = name.partition("@")
        versions = self.pipeline(pipeline).versions
        behind = declared(self.app, name) if "+" in label else None
        if behind is not None:
            return behind
        if not at:
            raise ConfigError(
                f"{name!r} names no version", cure=f"Say which: {_list(pipeline, versions)}."
            )
        if label not in versions:
            raise ConfigError(
                f"no version {name!r} is declared",
                cure=f"{pipeline} has {_list(pipeline, versions)}.",
            )
        return versions[label]


def _list(pipeline: str, labels: Iterable[str]) -> str:
    return ", ".join(f"{pipeline}@{label}" for label in labels)


def _closest(name: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(name, names, 1)
    if close:
        return f"Did you mean {close[0]}?"
    return f"Declared are: {', '.join(names)}." if names else "The app declares none."


def in_order(app: App) -> list[Pipeline]:
    """Return the pipelines with those that write a topic before those that read it.

    Raises:
        Refused: They read each other in a circle.
    """
    done: list[Pipeline] = []
    waiting = list(app.pipelines.values())
    while waiting:
        ready = [p for p in waiting if all(w in done or w is p for w in app.writers(p.source))]
        if not ready:
            raise Refused("pipelines read each other: " + ", ".join(p.name for p in waiting))
        done += ready
        waiting = [p for p in waiting if p not in ready]
    return done


def changed_code(row: VersionRow, version: Version, project: Project) -> bool:
    """Say whether a recorded version's code or declarations have changed since."""
    return row.fingerprint != fingerprint_of(version, project.root)


def refuse_changed(row: VersionRow, version: Version, project: Project) -> None:
    """Refuse to go on under a label whose code has changed.

    Raises:
        CodeChanged: It has changed.
    """
    if changed_code(row, version, project):
        raise CodeChanged(
            f"{row.name}: its code has changed since it began to run",
            safe="Nothing was run; its results are unchanged.",
            cure=f"Restore it, or give it a new label with @{row.pipeline}.version, then "
            f"playhead plan {row.pipeline}.",
        )


def existing_topic(log: Log, name: str, *, written_by: str | None = None) -> TopicInfo:
    """Return a topic that must be there.

    Raises:
        LogFailed: It is not.
    """
    info = log.topic(name)
    if info is None:
        raise LogFailed(
            f"topic {name} does not exist",
            cure=f"{written_by} writes it: playhead run {written_by} first."
            if written_by
            else f"Fill it: playhead ingest FILE --topic {name}.",
        )
    return info


def describe(known: Known, project: Project, log: Log, version: Version) -> VersionRow:
    """Return the catalog row that recording this version would write. Touches nothing."""
    bound = known.bound(version)
    writers = known.app.writers(version.source)
    topic = existing_topic(log, bound.source.name, written_by=writers[0].name if writers else None)
    caller = Caller(bound, {})
    tables = tuple(
        TableRow(t.output.name, t.physical, t.output.key, t.schema)
        for t in caller.targets
        if isinstance(t.output, Table)
    )
    return VersionRow(
        pipeline=version.pipeline,
        label=version.label,
        stage="shadow",
        fingerprint=fingerprint_of(version, project.root),
        app=known.app.name,
        source=topic.name,
        partitions=topic.partitions,
        group=version.group,
        tables=tables,
        topics=tuple((t.name, t.physical(version.label)) for t in version.topics),
        environment=environment(version, project.root),
    )


def record(
    known: Known, project: Project, log: Log, store: Store, version: Version, *, stage: str
) -> VersionRow:
    """Record a version, with its physical tables and topics.

    Raises:
        Refused: A physical name is taken by something that the catalog does not know.
    """
    row = replace(describe(known, project, log, version), stage=stage)
    return _recorded(known, (log, store), row, version)


def record_shadow(
    known: Known,
    project: Project,
    where: tuple[Log, Store],
    version: Version,
    scope: Scope | None,
) -> VersionRow:
    """Record a shadow that makes a part of history anew; None: all of it.

    Raises:
        Refused: A physical name is taken by something that the catalog does not know.
    """
    row = replace(describe(known, project, where[0], version), stage="shadow", scope=scope)
    return _recorded(known, where, row, version)


def _recorded(
    known: Known, where: tuple[Log, Store], row: VersionRow, version: Version
) -> VersionRow:
    log, store = where
    owners = {r.app for r in known.rows.values() if r.pipeline == row.pipeline}
    if owners - {row.app}:
        raise Refused(f"pipeline {row.pipeline} belongs to app {', '.join(owners)} in this store")
    refuse_lost_store(log, store, row)
    refuse_unknown_topics(log, store, row)
    return keep(log, store, row, version)


def keep(log: Log, store: Store, row: VersionRow, version: Version) -> VersionRow:
    """Record a version whose groups and topics in the log are known to be its own."""
    store.catalog.record(row)
    create_topics(log, row, version)
    return row


def create_topics(log: Log, row: VersionRow, version: Version) -> tuple[TopicInfo, ...]:
    """Return the version's physical topics; those that were never made are created.

    Raises:
        TopicGone, TopicRecreated: One that was made is not there any more.
    """
    found = []
    for topic in version.topics:
        physical = topic.physical(version.label)
        known = row.topic_ids.get(physical)
        info = log.topic(physical)
        if known is not None:
            check_output(row.name, info, physical, known)
        if info is None:
            count = topic.partitions or row.partitions
            info = log.create_topic(physical, count, topic_config(topic))
        found.append(info)
    return tuple(found)


def topic_config(topic: Topic | None) -> dict[str, str]:
    """Return the configuration of a topic that Playhead creates."""
    return {RETENTION: "-1", **dict(topic.config if topic else ())}


def task_of(
    known: Known, project: Project, log: Log, row: VersionRow, *, accept_gap: bool = False
) -> Task:
    """Return a recorded version as a task, ready to run.

    Raises:
        Refused: It is recorded but not declared here.
        TopicGone, TopicRecreated: Its source or an output is not there any more.
    """
    outputs = create_topics(log, row, _here(known, row))
    task = _task(known, project, log, row, {t.name: t.partitions for t in outputs})
    return replace(task, outputs=outputs, accept_gap=accept_gap)


def looking(known: Known, project: Project, log: Log, row: VersionRow) -> Task:
    """Return a recorded version as a task that computes and writes nothing.

    Raises:
        Refused: It is recorded but not declared here.
        CodeChanged: It would compute with other code than the one that ran.
        TopicGone: Its source is not there any more.
    """
    refuse_changed(row, _here(known, row), project)
    made = [log.topic(physical) for _, physical in row.topics]
    return _task(known, project, log, row, {t.name: t.partitions for t in made if t is not None})


def _here(known: Known, row: VersionRow) -> Version:
    version = known.declared(row.name)
    if version is None:
        raise Refused(
            f"{row.name} is recorded but not declared here",
            cure=f"Declare it again: keep {row.label} with @{row.pipeline}.version.",
        )
    return version


def _task(
    known: Known, project: Project, log: Log, row: VersionRow, partitions: Mapping[str, int]
) -> Task:
    version = _here(known, row)
    bound = replace(version, source=replace(version.source, name=row.source))
    topic = log.topic(row.source)
    if topic is None:
        raise TopicGone(
            f"topic {row.source} does not exist any more",
            safe=f"{row.name} and its results are unchanged.",
            cure="Restore it from an archive, with its offsets.",
        )
    return Task(
        app=known.app.name,
        version=bound,
        caller=Caller(bound, partitions),
        topic=topic,
        partitions=row.partitions,
        batch_records=project.settings.batch_records,
        batch_bytes=project.settings.batch_bytes,
        threads=project.settings.threads,
        writers=known.writers(row),
        rules=project.settings.rules,
        scope=row.scope,
        base=_base(known, project, log, row),
    )


def _base(known: Known, project: Project, log: Log, row: VersionRow) -> Task | None:
    """Return the version that a shadow has the rest from, as long as it is declared."""
    base = known.rows.get(row.scope.base) if row.scope else None
    if base is None or known.declared(base.name) is None:
        return None
    return _task(known, project, log, base, {})


def split(name: str) -> tuple[str, str]:
    """Return pipeline and label of ``pipeline@label``; the label may be empty.

    Raises:
        ConfigError: It is neither.
    """
    pipeline, _, label = name.partition("@")
    if not NAME.match(pipeline) or not all(map(NAME.match, label.split("+") if label else ())):
        raise ConfigError(f"{name!r} is not PIPELINE or PIPELINE@VERSION")
    return pipeline, label
