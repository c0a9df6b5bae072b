"""What a user declares: App, Topic, Table, Pipeline, Version. Importing this loads no adapter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, Unpack

from playhead.core.ends import Output, Table, Topic
from playhead.core.naming import (
    LABEL_MAX,
    PHYSICAL_MAX,
    TOPIC_MAX,
    caller,
    check_distinct,
    check_groups,
    check_key,
    check_options,
    check_public,
    checked_name,
    checked_topic,
    function_name,
    witness_of,
)
from playhead.core.schema import key_of, schema_of
from playhead.errors import DeclarationError

__all__ = ["App", "Options", "Output", "Pipeline", "Table", "Topic", "Version", "VersionOptions"]

Function = Callable[[Any, Any], Any]
Key = str | Sequence[str] | None


class Options(TypedDict, total=False):
    """Options of a pipeline; a version inherits them (``group`` aside) unless it overrides them.

    Attributes:
        per: ``"frame"`` calls with a polars frame, ``"row"`` with one dict at a time.
        frame: The kind of frame that a function gets and returns, ``"polars"``, ``"pandas"``
            (Arrow-backed dtypes) or ``"arrow"`` (a pyarrow Table).
        start: Where a first start begins.
        reads: Files whose bytes the results depend on, relative to the project.
        group: Consumer group; default ``<pipeline>.<version>``.
        expect: What a version is expected to change, as polars SQL over head and ``base``.
        rtol: Relative tolerance for floats in comparisons; 0 compares exactly.
        on_error: ``"stop"`` at a record that cannot be processed, or ``"dead_letter"``: set it
            aside and go on.
    """

    per: Literal["frame", "row"]
    frame: Literal["polars", "pandas", "arrow"]
    start: Literal["earliest", "latest"]
    reads: Sequence[str]
    group: str | None
    expect: str | Sequence[str]
    rtol: float
    on_error: Literal["stop", "dead_letter"]


class VersionOptions(Options, total=False):
    """Options of one version; ``source`` and ``to`` may be overridden too."""

    source: Topic
    to: Sequence[Topic | Table]


@dataclass(frozen=True, slots=True)
class Version:
    """One edition of a pipeline's code."""

    pipeline: str
    label: str
    function: Function | None
    source: Topic
    outputs: tuple[Output, ...]
    options: Options

    @property
    def name(self) -> str:
        """``pipeline@label``."""
        return f"{self.pipeline}@{self.label}"

    @property
    def group(self) -> str:
        """The consumer group of this version."""
        return self.options.get("group") or f"{self.pipeline}.{self.label}"

    @property
    def topics(self) -> tuple[Topic, ...]:
        """Outputs that are topics."""
        return tuple(o for o in self.outputs if isinstance(o, Topic))

    @property
    def tables(self) -> tuple[Table, ...]:
        """Outputs that are tables."""
        return tuple(o for o in self.outputs if isinstance(o, Table))

    @property
    def expectations(self) -> tuple[str, ...]:
        """What the author said would change."""
        return key_of(self.options.get("expect"))

    @property
    def sets_aside(self) -> bool:
        """Whether bad records become dead letters."""
        return self.options.get("on_error", "stop") == "dead_letter"

    @property
    def per_row(self) -> bool:
        """Whether the function takes one row at a time."""
        return self.options.get("per", "frame") == "row"


@dataclass(eq=False)
class Pipeline:
    """A source topic, a function and outputs, in one or more versions; the first comes first."""

    app: App
    source: Topic
    outputs: tuple[Output, ...]
    first: str
    options: Options
    name: str = ""
    versions: dict[str, Version] = field(default_factory=dict)

    def __call__(self, function: Function) -> Pipeline:
        """Take the decorated function as the pipeline's first version."""
        where = caller()
        if self.versions:
            version = next(iter(self.versions.values()))
            if version.function is not None or len(self.versions) > 1:
                raise DeclarationError(f"pipeline {self.name} has a function already", where=where)
        if not self.name:
            self.name = checked_name(function_name(function, where), "pipeline", where)
            self.app.register(self)
        self._add(self.first, function, self.options, where)
        return self

    def version(
        self, label: str, **options: Unpack[VersionOptions]
    ) -> Callable[[Function], Version]:
        """Declare another version of this pipeline; use it as a decorator.

        Args:
            label: Name of the version, for example ``km``.
            **options: What differs from the pipeline's own options.

        Raises:
            DeclarationError: The label is taken or malformed, or an option is unknown.
        """
        where = caller()

        def declare(function: Function) -> Version:
            function_name(function, where)
            if label == self.first:
                raise DeclarationError(
                    f"version {self.name}@{label} is declared twice", where=where
                )
            return self._add(label, function, options, where)

        return declare

    def forward(self) -> Pipeline:
        """Declare the first version without a function: it hands its input on."""
        self._add(self.first, None, self.options, caller())
        return self

    def _add(
        self, label: str, function: Function | None, options: VersionOptions | Options, where: str
    ) -> Version:
        checked_name(label, "version", where, LABEL_MAX)
        known = self.versions.get(label)
        if known is not None and (known.function is not None or label != self.first):
            raise DeclarationError(f"version {known.name} is declared twice", where=where)
        check_options(options, VersionOptions, where)
        given = dict(options)
        source = given.pop("source", self.source)
        outputs = _outputs(given.pop("to", self.outputs), where)
        if not isinstance(source, Topic):
            raise DeclarationError("the source of a pipeline is a topic", where=where)
        inherited = {k: v for k, v in self.options.items() if k != "group"}
        merged: Any = {**inherited, **given} if label != self.first else {**self.options, **given}
        if merged.get("per") == "row" and merged.get("frame", "polars") != "polars":
            raise DeclarationError("per='row' hands on dicts: leave frame= out", where=where)
        version = Version(self.name, label, function, source, outputs, merged)
        _check_physical(version, where)
        self.versions[label] = version
        return version


class App:
    """The topics, tables and pipelines that belong together."""

    def __init__(self, name: str) -> None:
        """Name the app; the name is part of transactional ids.

        Raises:
            DeclarationError: The name is malformed.
        """
        self.name = checked_name(name, "app", caller())
        self.topics: dict[str, Topic] = {}
        self.tables: dict[str, Table] = {}
        self.pipelines: dict[str, Pipeline] = {}
        self._pending: list[tuple[Pipeline, str]] = []

    def topic(
        self,
        name: str,
        *,
        key: Key = None,
        value: Mapping[str, Any] | type[bytes] | None = None,
        partitions: int | None = None,
        config: Mapping[str, str] | None = None,
        tombstones: bool = False,
        public: bool = True,
        on_promote: Literal["append", "none", "changed"] = "append",
    ) -> Topic:
        """Declare a topic.

        Args:
            name: Kafka's rule for names.
            key: Column or columns of the value that make the message key.
            value: Columns of the JSON value, name to Python type; ``bytes`` hands the value over
                as it is (column ``_value``). An output topic may leave it out: its columns are
                then those that the function returns.
            partitions: Count for a topic that Playhead creates.
            config: Topic configuration for a topic that Playhead creates
                (``retention.ms=-1`` unless given).
            tombstones: Take a null value as a row: ``_tombstone`` true, its key from the message
                key, its other columns null. Without it a null value is a bad record.
            public: For an output: fill the topic itself, for readers outside, with what the live
                version writes; without it there are only the versions' own topics.
            on_promote: What readers of the public topic see of another version that becomes live:
                ``"append"``: its whole history, appended; ``"none"``: what it makes from then on;
                ``"changed"``: first the last value of each key that changes, and tombstones.

        Raises:
            DeclarationError: A name or a type cannot be used.
        """
        where = caller()
        checked_topic(name, where)
        if name in self.topics:
            raise DeclarationError(f"topic {name} is declared twice", where=where)
        if partitions is not None and partitions < 1:
            raise DeclarationError(f"topic {name} needs at least one partition", where=where)
        schema = schema_of(value, f"{where}: topic {name}") if isinstance(value, Mapping) else None
        keys = key_of(key)
        check_key(keys, schema, f"{where}: topic {name}")
        settings = tuple(sorted((config or {}).items()))
        check_public(on_promote, keys, f"{where}: topic {name}")
        topic = Topic(
            name, keys, schema, partitions, settings, bool(tombstones), bool(public), on_promote
        )
        self.topics[name] = topic
        return topic

    def table(
        self, name: str, *, key: str | Sequence[str], columns: Mapping[str, Any] | None = None
    ) -> Table:
        """Declare a table that keeps the last row of each key.

        Args:
            name: ``[a-z][a-z0-9_]*``, at most 40 characters, no ``__``.
            key: Column or columns that identify a row.
            columns: Name to Python type; left out, they are those that the function returns.

        Raises:
            DeclarationError: A name or a type cannot be used.
        """
        where = caller()
        checked_name(name, "table", where)
        if name == "playhead":
            raise DeclarationError("table name 'playhead' belongs to Playhead", where=where)
        if name in self.tables:
            raise DeclarationError(f"table {name} is declared twice", where=where)
        keys = key_of(key)
        if not keys:
            raise DeclarationError(f"table {name} needs a key", where=where)
        schema = schema_of(columns, f"{where}: table {name}") if columns is not None else None
        check_key(keys, schema, f"{where}: table {name}")
        self.tables[name] = table = Table(name, keys, schema)
        return table

    def pipeline(
        self,
        source: Topic,
        *,
        to: Sequence[Output],
        version: str,
        name: str | None = None,
        **options: Unpack[Options],
    ) -> Pipeline:
        """Declare a pipeline; decorate its function, or give a name to forward as it is.

        Args:
            source: The topic that it reads.
            to: The topics and tables that it writes.
            version: Label of the first version.
            name: Name of the pipeline; default the function's name.
            **options: See `Options`.

        Raises:
            DeclarationError: Something in it cannot be.
        """
        where = caller()
        check_options(options, Options, where)
        outputs = _outputs(to, where)
        if not isinstance(source, Topic):
            raise DeclarationError("the source of a pipeline is a topic", where=where)
        pipeline = Pipeline(self, source, outputs, version, options)
        if name is None:
            self._pending.append((pipeline, where))
        else:
            pipeline.name = checked_name(name, "pipeline", where)
            self.register(pipeline)
            pipeline.forward()
        return pipeline

    def register(self, pipeline: Pipeline) -> None:
        """Take a named pipeline in; names are unique."""
        if pipeline.name in self.pipelines:
            raise DeclarationError(f"pipeline {pipeline.name} is declared twice", where=caller())
        self.pipelines[pipeline.name] = pipeline
        self._pending = [p for p in self._pending if p[0] is not pipeline]

    def writers(self, topic: Topic) -> list[Pipeline]:
        """Return the pipelines that write ``topic``."""
        return [
            p
            for p in self.pipelines.values()
            if any(topic in v.outputs for v in p.versions.values())
        ]

    def versions(self) -> list[Version]:
        """Return every declared version, pipelines and versions in declared order."""
        return [v for p in self.pipelines.values() for v in p.versions.values()]

    def check(self) -> None:
        """Check what only shows when everything is declared.

        Raises:
            DeclarationError: A pipeline lacks its function, two physical topics or groups are
                equal for Kafka's metrics (``.`` and ``_`` are), two pipelines write one table, or
                a public topic that is corrected on a promotion.
        """
        for pipeline, where in self._pending:
            raise DeclarationError(
                f"the pipeline that reads {pipeline.source.name} has neither a function nor name=",
                where=where,
            )
        topics = [(t, f"topic {t}") for t in self.topics]
        groups: list[tuple[str, str]] = []
        owners: dict[str, str] = {}
        for version in self.versions():
            for topic in version.topics:
                owner = f"topic {topic.name}, version {version.label}"
                topics.append((topic.physical(version.label), owner))
            groups += [(version.group, version.name), (witness_of(version.group), version.name)]
            for table in version.tables:
                owner = owners.setdefault(table.name, version.pipeline)
                if owner != version.pipeline:
                    raise DeclarationError(
                        f"table {table.name} is written by {owner} and by {version.pipeline}: "
                        "one pipeline writes a table"
                    )
        check_distinct("topics", topics)
        check_distinct("groups", groups)
        check_groups(self.topics, groups)
        for topic in self.topics.values():
            writers = [p.name for p in self.writers(topic)]
            if topic.public and topic.on_promote != "append" and len(writers) > 1:
                raise DeclarationError(
                    f"topic {topic.name} has on_promote={topic.on_promote!r} and is written by "
                    f"{' and '.join(writers)}: that takes one pipeline, or public=False"
                )


def _check_physical(version: Version, where: str) -> None:
    for table in version.tables:
        name = table.physical(version.label)
        if len(name.encode()) > PHYSICAL_MAX:
            raise DeclarationError(f"{name} is longer than {PHYSICAL_MAX} bytes", where=where)
    for topic in version.topics:
        name = topic.physical(version.label)
        if len(name) > TOPIC_MAX:
            raise DeclarationError(f"{name} is longer than {TOPIC_MAX} characters", where=where)


def _outputs(to: Any, where: str) -> tuple[Output, ...]:  # noqa: ANN401  checks user input
    outputs = tuple(to) if isinstance(to, (list, tuple)) else (to,)
    if not outputs or not all(isinstance(o, (Topic, Table)) for o in outputs):
        raise DeclarationError("to= takes a list of topics and tables", where=where)
    if len(set(outputs)) < len(outputs):
        raise DeclarationError("to= names an output twice", where=where)
    return outputs
