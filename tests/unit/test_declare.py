"""What a user declares: names, lengths, collisions, options, and errors at the user's own line."""

import inspect
import subprocess
import sys
from datetime import date, datetime

import pytest

import playhead as ph
from playhead.core.schema import schema_of
from playhead.errors import DeclarationError

VALUE = {"id": int, "track_id": int, "distance": float}


def vehicles(**options):
    """An app, its topic and table, and a pipeline with one version."""
    app = ph.App("vehicles")
    points = app.topic("raw_trackpoints", key="track_id", value=VALUE)
    distances = app.topic("distance_calcs", key="track_id", value=VALUE)
    table = app.table("dist_calc", key="track_id", columns=VALUE)

    @app.pipeline(points, to=[distances, table], version="miles", **options)
    def distance(points, state):
        return points

    return app, points, distances, table, distance


def refused(call, *words):
    with pytest.raises(DeclarationError) as e:
        call()
    missing = [word for word in words if word not in str(e.value)]
    assert missing == [], str(e.value)
    assert e.value.exit_code == 2
    return e.value


def identity(points, state):
    return points


# --- names and lengths -------------------------------------------------------------------------

GOOD_NAMES = ["a", "dist_calc", "v2", "a" * 40, "x_1_y"]
BAD_NAMES = [
    "",
    "A",
    "1a",
    "_a",
    "a__b",
    "a-b",
    "a.b",
    "a b",
    "ä",
    "a" * 41,
    "a\n",
    "a;--",
    5,
    None,
]
LABELS = ["km", "v1", "a" * 20]
BAD_LABELS = ["", "KM", "1", "v1+km", "a__b", "a" * 21, "k.m", 1]


def named_table(name):
    ph.App("vehicles").table(name, key="id")


def named_app(name):
    ph.App(name)


def named_pipeline(name):
    app = ph.App("vehicles")
    app.pipeline(app.topic("t"), to=[app.table("x", key="id")], version="v1", name=name or "")


@pytest.mark.parametrize("declare", [named_app, named_table, named_pipeline])
@pytest.mark.parametrize("name", GOOD_NAMES)
def test_names_that_follow_the_rule(declare, name):
    declare(name)


@pytest.mark.parametrize("declare", [named_app, named_table, named_pipeline])
@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_do_not(declare, name):
    refused(lambda: declare(name), "test_declare.py:", "name", "at most 40")


@pytest.mark.parametrize("label", LABELS)
def test_labels_that_follow_the_rule(label):
    *_, distance = vehicles()
    assert distance.version(label)(identity).name == f"distance@{label}"


@pytest.mark.parametrize("label", BAD_LABELS)
def test_labels_that_do_not(label):
    *_, distance = vehicles()
    refused(lambda: distance.version(label)(identity), "test_declare.py:", "version", "20")


@pytest.mark.parametrize("name", ["a", "A.b_c-D", "a" * 249, "raw_trackpoints", "..."])
def test_topic_names_follow_kafkas_rule(name):
    assert ph.App("vehicles").topic(name).name == name


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "a" * 250, "ä", "a\n"])
def test_topic_names_that_kafka_refuses(name):
    refused(lambda: ph.App("vehicles").topic(name), "test_declare.py:", "topic name", "249")


def test_a_table_of_the_name_of_the_mirrors_own_is_refused():
    refused(lambda: ph.App("vehicles").table("playhead", key="id"), "belongs to Playhead")


def test_every_physical_table_name_fits_into_63_bytes():
    app = ph.App("vehicles")
    table = app.table("t" * 40, key="id", columns={"id": int})
    pipeline = app.pipeline(app.topic("t", value={"id": int}), to=[table], version="l" * 20)(
        identity
    )
    (version,) = pipeline.versions.values()
    physical = version.tables[0].physical(version.label)
    assert physical == "t" * 40 + "__" + "l" * 20
    assert len(physical.encode()) <= 63


@pytest.mark.parametrize(("length", "fits"), [(246, True), (247, False)])
def test_a_physical_topic_name_has_at_most_249_characters(length, fits):
    app = ph.App("vehicles")
    out = app.topic("t" * length)
    declare = app.pipeline(app.topic("source"), to=[out], version="km")
    if fits:
        assert len(out.physical("km")) == 249
        declare(identity)
    else:
        refused(lambda: declare(identity), "test_declare.py:", "longer than 249")


# --- names that collide ------------------------------------------------------------------------


def test_two_topics_that_kafkas_metrics_cannot_tell_apart():
    app = ph.App("vehicles")
    app.topic("a.b")
    app.topic("a_b")
    refused(app.check, "a.b", "a_b", "metrics", "rename")


def test_a_declared_topic_that_equals_a_physical_one():
    app, *_ = vehicles()
    app.topic("distance_calcs_miles")
    refused(app.check, "distance_calcs_miles", "distance_calcs.miles", "version miles")


def test_a_topic_declared_under_the_very_name_of_a_physical_one():
    app, *_ = vehicles()
    app.topic("distance_calcs.miles")
    refused(app.check, "distance_calcs.miles", "topic distance_calcs")


def test_two_versions_may_have_names_alike_as_long_as_their_topics_differ():
    app, *_, distance = vehicles()
    distance.version("km")(identity)
    app.check()


def other(app, points, table_name, **options):
    """Declare one more pipeline."""
    table = app.table(table_name, key="track_id", columns=VALUE)
    return app.pipeline(points, to=[table], version=options.pop("version", "v1"), **options)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("a_b", "c", None), ("a", "b_c", None)),  # a_b.c and a.b_c
        (("a", "v1", "g"), ("b", "v1", "g")),
        (("a", "v1", "x.y"), ("b", "v1", "x_y")),
        (("a", "v1", None), ("b", "v1", "a.v1")),
        (("a", "v1", None), ("b", "v1", "a.v1.witness")),
        (("a", "v1", "g.witness"), ("b", "v1", "g")),
    ],
)
def test_groups_that_are_equal_for_kafkas_metrics(first, second):
    app = ph.App("vehicles")
    points = app.topic("raw_trackpoints", key="track_id", value=VALUE)
    for i, (name, version, group) in enumerate((first, second)):
        options = {"group": group} if group else {}
        other(app, points, f"t{i}", name=name, version=version, **options)
    refused(app.check, "groups", f"{first[0]}@{first[1]}", f"{second[0]}@{second[1]}")


def test_two_pipelines_of_one_name():
    app, points, *_ = vehicles()
    refused(
        lambda: other(app, points, "t", name="distance"), "distance", "twice", "test_declare.py:"
    )


def test_two_topics_two_tables_two_versions_of_one_name():
    app, *_, distance = vehicles()
    refused(lambda: app.topic("raw_trackpoints"), "raw_trackpoints", "twice")
    refused(lambda: app.table("dist_calc", key="id"), "dist_calc", "twice")
    distance.version("km")(identity)
    refused(lambda: distance.version("km")(identity), "distance@km", "twice")
    refused(lambda: distance.version("miles")(identity), "distance@miles", "twice")


def test_a_label_is_taken_by_a_forwarding_version_too():
    app, points, *_ = vehicles()
    forward = other(app, points, "copy", name="forward")
    refused(lambda: forward.version("v1")(identity), "forward@v1", "twice")


def test_one_pipeline_writes_a_table():
    app, points, _, table, _ = vehicles()
    app.pipeline(points, to=[table], version="v1", name="second")
    refused(app.check, "dist_calc", "distance", "second", "one pipeline writes a table")


def test_several_pipelines_may_write_one_topic_and_another_may_read_it():
    app, points, distances, *_ = vehicles()
    app.pipeline(points, to=[distances], version="v1", name="second")
    other(app, distances, "t", name="db_writer")
    app.check()
    assert [p.name for p in app.writers(distances)] == ["distance", "second"]


# --- versions inherit --------------------------------------------------------------------------


def test_a_version_inherits_source_outputs_and_options():
    app, points, distances, table, distance = vehicles(
        rtol=1e-9, reads=["model.json"], start="latest", group="mine"
    )
    km = distance.version("km", expect="distance = base.distance * 1.6")(identity)
    assert (km.source, km.outputs) == (points, (distances, table))
    assert (km.topics, km.tables) == ((distances,), (table,))
    assert km.options == {
        "rtol": 1e-9,
        "reads": ["model.json"],
        "start": "latest",
        "expect": "distance = base.distance * 1.6",
    }
    assert (distance.versions["miles"].group, km.group) == ("mine", "distance.km")
    assert km.expectations == ("distance = base.distance * 1.6",)
    assert distance.versions["miles"].expectations == ()
    app.check()


def test_a_version_overrides_what_it_names_and_nothing_else():
    app, _, distances, _, distance = vehicles(rtol=1e-9, start="latest")
    source = app.topic("better_trackpoints", key="track_id", value=VALUE)
    km = distance.version(
        "km", source=source, to=[distances], start="earliest", group="g", expect=["a > 1", "b = 1"]
    )(identity)
    assert (km.source, km.outputs, km.group) == (source, (distances,), "g")
    assert km.options["start"] == "earliest"
    assert km.options["rtol"] == 1e-9
    assert km.expectations == ("a > 1", "b = 1")
    first = distance.versions["miles"]
    assert first.options == {"rtol": 1e-9, "start": "latest"}
    assert len(first.outputs) == 2


def test_the_first_version_stays_first_and_names_are_those_of_the_design():
    app, *_, distance = vehicles()
    distance.version("km")(identity)
    assert [v.name for v in app.versions()] == ["distance@miles", "distance@km"]
    km = distance.versions["km"]
    assert km.topics[0].physical(km.label) == "distance_calcs.km"
    assert km.tables[0].physical(km.label) == "dist_calc__km"
    assert not km.per_row


# --- forwarding --------------------------------------------------------------------------------


def test_a_pipeline_without_a_function_forwards():
    app, _, distances, *_ = vehicles()
    writer = other(app, distances, "copy", name="db_writer")
    version = writer.versions["v1"]
    assert version.function is None
    assert (version.name, version.group) == ("db_writer@v1", "db_writer.v1")
    app.check()


def test_a_pipeline_with_neither_function_nor_name_is_named_by_its_line():
    app, points, _, table, _ = vehicles()
    line = inspect.currentframe().f_lineno + 1
    app.pipeline(points, to=[table], version="v1")
    error = refused(app.check, "raw_trackpoints", "neither a function nor name=")
    assert error.where == f"test_declare.py:{line}"


def test_a_function_is_written_with_def_and_given_once():
    app, points, *_, distance = vehicles()
    refused(lambda: other(app, points, "t")(lambda p, s: p), "written with def")
    refused(lambda: distance.version("km")(lambda p, s: p), "written with def")
    refused(lambda: distance(identity), "distance", "has a function already")


# --- errors ------------------------------------------------------------------------------------


def test_an_error_names_the_users_own_line():
    app = ph.App("vehicles")
    with pytest.raises(DeclarationError) as e:
        app.topic("bad name")
    line = inspect.currentframe().f_lineno - 1
    assert e.value.where == f"test_declare.py:{line}"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"expct": "a = 1"}, ["'expct'", "did you mean expect?"]),
        ({"read": ["x"]}, ["'read'", "did you mean reads?"]),
        ({"zzz": 1}, ["unknown option 'zzz'"]),
        ({"per": "rows"}, ["per='rows'", "'frame' or 'row'"]),
        ({"per": "row", "frame": "pandas"}, ["per='row' hands on dicts", "frame="]),
        ({"start": "now"}, ["start='now'", "'earliest' or 'latest'"]),
        ({"rtol": -1.0}, ["rtol"]),
        ({"rtol": "small"}, ["rtol"]),
        ({"rtol": float("nan")}, ["rtol"]),
        ({"expect": 5}, ["expect"]),
        ({"expect": ["distance = 1", 5]}, ["expect"]),
        ({"group": 5}, ["group"]),
    ],
)
def test_options_are_checked_where_they_are_written(options, words):
    def declare():
        app, *_ = vehicles(**options)
        app.check()

    def declare_version():
        app, *_, distance = vehicles()
        distance.version("km", **options)(identity)
        app.check()

    refused(declare, "test_declare.py:", *words)
    refused(declare_version, "test_declare.py:", *words)


@pytest.mark.parametrize("to", [[], "dist_calc", ["dist_calc"], None, [None]])
def test_outputs_are_topics_and_tables(to):
    app, points, *_, distance = vehicles()
    refused(lambda: app.pipeline(points, to=to, version="v1", name="x"), "to= takes a list")
    refused(lambda: distance.version("km", to=to)(identity), "to= takes a list")


def test_an_output_is_named_once_and_a_source_is_a_topic():
    app, points, _, table, distance = vehicles()
    refused(lambda: app.pipeline(points, to=[table, table], version="v1"), "names an output twice")
    refused(lambda: app.pipeline(table, to=[table], version="v1"), "the source", "a topic")
    refused(lambda: distance.version("km", source="raw_trackpoints")(identity), "a topic")


@pytest.mark.parametrize(
    ("key", "columns", "words"),
    [
        ("nope", VALUE, ["key 'nope' is not one of its columns"]),
        (["track_id", "nope"], VALUE, ["'nope'"]),
        ("distance", VALUE, ["'distance' is float", "never null"]),
        ("id", {"id": int | None}, ["'id' is int | None", "never null"]),
        ("id", {"id": bytes}, ["is bytes"]),
        ("id", {"id": list[int]}, ["is list[int]"]),
        ("id", {"id": {"x": int}}, ["is {x: int}"]),
        ("by", {"by": int}, ["'by' is a reserved name"]),
        ("_key", {"id": int}, ["'_key' is a reserved name"]),
    ],
)
def test_a_key_is_a_column_that_is_never_null(key, columns, words):
    app = ph.App("vehicles")
    refused(lambda: app.topic("t", key=key, value=columns), "topic t", "test_declare.py:", *words)
    refused(lambda: app.table("t", key=key, columns=columns), "table t", *words)


@pytest.mark.parametrize("kind", [int, str, bool, date, datetime])
def test_types_that_a_key_may_have(kind):
    app = ph.App("vehicles")
    assert app.topic("t", key=["id", "n"], value={"id": kind, "n": int}).key == ("id", "n")
    assert app.table("t", key="id", columns={"id": kind}).key == ("id",)


def test_a_table_has_a_key_and_a_topic_at_least_one_partition():
    app = ph.App("vehicles")
    refused(lambda: app.table("t", key=[]), "needs a key")
    refused(lambda: app.topic("t", partitions=0), "at least one partition")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({}, ["no columns"]),
        ({"_x": int}, ["'_x' begins with '_'"]),
        ({"": int}, ["not text"]),
        ({1: int}, ["not text"]),
        ({"x": "int"}, ["column 'x'", "list[T]"]),
        ({"x": dict}, ["column 'x'"]),
        ({"x": int | str}, ["column 'x'"]),
        ({"x": int | str | None}, ["column 'x'"]),
        ({"x": list}, ["column 'x'"]),
        ({"x": {"y": object}}, ["column 'x', column 'y'"]),
        ({"x": {"_y": int}}, ["'_y'"]),
        ({"x": complex}, ["complex"]),
    ],
)
def test_columns_that_cannot_be(columns, words):
    app = ph.App("vehicles")
    refused(lambda: app.topic("t", value=columns), "test_declare.py:", *words)


@pytest.mark.parametrize(
    ("annotation", "shown"),
    [
        (int, "int"),
        (float | None, "float | None"),
        (list[int], "list[int]"),
        (list[int | None], "list[int | None]"),
        (list[list[str]], "list[list[str]]"),
        ({"a": int, "b": {"c": str | None}}, "{a: int, b: {c: str | None}}"),
        (bytes, "bytes"),
    ],
)
def test_a_type_is_shown_as_it_is_written(annotation, shown):
    (column,) = schema_of({"x": annotation}, "here")
    assert column.typed() == shown


def test_value_bytes_and_no_value_at_all_declare_no_columns():
    app = ph.App("vehicles")
    assert app.topic("a", value=bytes).schema is None
    assert app.topic("b").schema is None


# --- importing ---------------------------------------------------------------------------------


def in_a_new_python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_playhead_and_declaring_loads_no_adapter_and_no_vendor():
    declare = """
import sys
import playhead as ph
app = ph.App("vehicles")
points = app.topic("points", key="id", value={"id": int})
app.pipeline(points, to=[app.table("t", key="id")], version="v1", name="copy")
app.check()
print(*sorted(sys.modules))
"""
    loaded = in_a_new_python(declare)
    heavy = {"polars", "msgspec", "duckdb", "sqlite3", "confluent_kafka", "click", "rich", "numpy"}
    assert heavy & set(loaded) == set()
    assert [m for m in loaded if m.startswith(("playhead.adapters", "playhead.engine"))] == []


def test_origin_is_the_two_columns_that_say_where_a_row_comes_from():
    import polars as pl

    frame = pl.DataFrame({"_partition": [1], "_offset": [2], "x": [3]})
    assert frame.select(ph.origin, "x").columns == ["_partition", "_offset", "x"]


def test_what_is_public():
    assert set(ph.__all__) <= set(dir(ph)) | {"origin", "testing"}
    assert sorted(ph.__all__) == ph.__all__
    for name in ph.__all__:
        assert getattr(ph, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'orign'"):
        _ = ph.orign
