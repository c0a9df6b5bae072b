"""Rows of files: the good ones typed, the bad ones told with their line, none of them lost."""

import io

import pytest

import playhead as ph
from playhead.core.schema import schema_of
from playhead.errors import ConfigError
from playhead.ops.ingest import Ingested
from playhead.ops.rows import Header, csv_rows, json_rows

DECLARED = {"id": int, "name": str}


def csv(data, declared=DECLARED):
    """Rows as (line, values), and what was told."""
    told = Ingested("points")
    schema = schema_of(declared, "") if declared else None
    rows = list(csv_rows(io.BytesIO(data), Header("points.csv", schema), told))
    return [(r.line, tuple(r.values.values())) for r in rows], told


def json_lines(data, declared=DECLARED):
    told = Ingested("points")
    topic = ph.App("vehicles").topic("points", value=declared) if declared else None
    rows = list(json_rows(io.BytesIO(data), topic, told.reject))
    return [(r.line, tuple(r.values.values()), r.raw) for r in rows], told


# --- CSV ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "rows"),
    {
        "plain": (b"id,name\n1,a\n2,b\n", [(2, (1, "a")), (3, (2, "b"))]),
        "no newline at the end": (b"id,name\n1,a", [(2, (1, "a"))]),
        "CRLF": (b"id,name\r\n1,a\r\n", [(2, (1, "a"))]),
        "byte order mark": (b"\xef\xbb\xbfid,name\n1,a\n", [(2, (1, "a"))]),
        "other order": (b"name,id\na,1\n", [(2, (1, "a"))]),
        "spaces in the header": (b" id , name\n1, a\n", [(2, (1, " a"))]),
        "quotes": (b'id,name\n1,"a,""b"""\n', [(2, (1, 'a,"b"'))]),
        "quoted newlines": (
            b'id,name\n1,"a\nb\r\nc"\n2,d\n',
            [(4, (1, "a\nb\r\nc")), (5, (2, "d"))],
        ),
        "UTF-8": ("id,name\n1,naïve 🚗\n".encode(), [(2, (1, "naïve 🚗"))]),
        "empty text": (b"id,name\n1,\n", [(2, (1, ""))]),
        "blank lines at the very end": (b"id,name\n1,a\n\n\n", [(2, (1, "a"))]),
        "header alone": (b"id,name\n", []),
    }.values(),
)
def test_csv_rows(data, rows):
    found, told = csv(data)
    assert found == rows
    assert (told.rejected, told.remarks) == ([], [])


@pytest.mark.parametrize(
    ("data", "good", "told"),
    [
        (b"id,name\nx,a\n2,b\n", [3], ["line 2: id is 'x', not int"]),
        (b"id,name\n,a\n", [], ["line 2: id is '', not int"]),
        (b"id,name\n1.5,a\n", [], ["line 2: id is '1.5', not int"]),
        (b"id,name\n1,a\n\n2,b\n", [2, 4], ["line 3: the line is blank"]),
        (b"id,name\n\n\n2,b\n", [4], ["line 2: the line is blank", "line 3: the line is blank"]),
        (b"id,name\n1,caf\xe9\n2,b\n", [3], ["line 2: not UTF-8 text"]),
        (b"id,name\n1\n2,b\n", [3], ["line 2: 1 columns where the header names 2"]),
        (b"id,name\n1,a,c\n", [], ["line 2: 3 columns where the header names 2"]),
        (b'id,name\n1,"a"b\n2,c\n', [3], ["line 2: not CSV"]),
        (b'id,name\n1,a\n2,"b\n', [2], ["line 3: not CSV"]),
        (b'id,name\n1,"a\nb"\nx,c\n', [3], ["line 4: id is 'x'"]),
        (b"id,name\n1," + b"a" * 200_000 + b"\n2,b\n", [3], ["line 2: not CSV"]),
    ],
    ids=lambda v: repr(v[:30]),
)
def test_a_bad_csv_row_is_told_with_its_line_and_the_others_go_on(data, good, told):
    found, result = csv(data)
    assert [line for line, _ in found] == good
    assert result.rejected_count == len(result.rejected) == len(told)
    for said, expected in zip(result.rejected, told, strict=True):
        assert said.startswith(expected)


def test_every_row_is_either_given_or_told():
    lines = [b"%d,a" % i if i % 3 else b"x,a" for i in range(300)]
    found, told = csv(b"id,name\n" + b"\n".join(lines))
    assert len(found) + told.rejected_count == 300
    assert 0 < len(told.rejected) < told.rejected_count == 100


def header_refused(data, declared, *words):
    with pytest.raises(ConfigError) as e:
        csv(data, declared)
    assert e.value.where.startswith("points.csv")
    assert [word for word in words if word not in str(e.value)] == []
    str(e.value).encode()  # it can be printed
    return e.value


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"id\n1\n", ["has no column name", "it has id"]),
        (b"ID,name\n1,a\n", ["has no column id", "ID, name"]),
        (b"other\n", ["has no column id, name"]),
        (b"id;name\n1;a\n", ["has no column id, name", "it has id;name"]),
    ],
)
def test_a_missing_column_is_named(data, words):
    error = header_refused(data, DECLARED, *words)
    assert error.where == "points.csv:1"
    assert error.safe == "Nothing was written."


@pytest.mark.parametrize("declared", [DECLARED, None], ids=["declared", "inferred"])
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", ["is empty"]),
        (b"id,name,id\n", ["a column twice"]),
        (b"id, name,id \n", ["a column twice"]),
        (b"caf\xe9,id,name\n1,1,a\n", ["UTF-8"]),
        (b"\xff\xfei\x00d\x00,\x00", ["UTF-8"]),
        (b"\n\nid,name\n1,a\n", []),
        (b'"id\n1,a\n', ["not CSV"]),
        (b"id,name\r1,a\r", ["not CSV"]),
    ],
)
def test_a_header_that_cannot_be(data, words, declared):
    header_refused(data, declared, *words)


def test_a_column_that_may_be_null_may_be_missing_and_one_more_is_left_out():
    found, told = csv(b"id,x\n1,y\n", {"id": int, "name": str | None})
    assert found == [(2, (1,))]
    assert told.remarks == ["not declared, left out: x"]


def test_without_a_declaration_types_are_inferred_and_said():
    found, told = csv(b"id,km,when,note\n1,0.5,2026-11-01,\n2,1,2026-11-02,x\n", None)
    assert found == [(2, (1, 0.5, "2026-11-01", "")), (3, (2, 1.0, "2026-11-02", "x"))]
    assert told.remarks == [
        "types inferred from the first 2 rows: id int, km float, when str, note str"
    ]


def test_a_row_beyond_those_that_types_were_inferred_from_is_told():
    data = b"id\n" + b"1\n" * 10_000 + b"x\n2\n"
    found, told = csv(data, None)
    assert len(found) == 10_001
    assert told.rejected == ["line 10002: id is 'x', not int"]


# --- JSON lines --------------------------------------------------------------------------------


def test_json_rows_keep_their_bytes():
    found, told = json_lines(b'{"id": 1, "name": "a", "z": 2}\n  {"name": "b", "id": 2}  \n')
    assert found == [
        (1, (1, "a", 2), b'{"id": 1, "name": "a", "z": 2}'),
        (2, ("b", 2), b'{"name": "b", "id": 2}'),
    ]
    assert told.rejected == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", "blank"),
        (b"   ", "blank"),
        (b'{"id": 1', "not a record"),
        (b'{"id": "x", "name": "a"}', "`$.id`"),
        (b'{"id": 1}', "`name`"),
        (b'{"id": 1, "name": null}', "`$.name`"),
        (b'{"id": 1, "name": "caf\xe9"}', "utf-8"),
        (b'{"id": NaN, "name": "a"}', "not a record"),
        (b"[1]", "object"),
        (b"5", "object"),
        (b'{"id": 1, "name": "a", "z": ' + b"[" * 100_000, "not a record"),
    ],
    ids=lambda v: repr(v[:30]),
)
def test_a_bad_json_line_is_told_and_the_others_go_on(line, words):
    good = b'{"id": 1, "name": "a"}'
    found, told = json_lines(good + b"\n" + line + b"\n" + good)
    assert [row[0] for row in found] == [1, 3]
    (said,) = told.rejected
    assert said.startswith("line 2: ")
    assert words in said


def test_undeclared_json_is_any_object():
    found, told = json_lines(b'{"a": [1, {"b": null}]}\n[1]\n"x"\n{}\n', None)
    assert [row[0] for row in found] == [1, 4]
    assert told.rejected == ["line 2: not a JSON object", "line 3: not a JSON object"]
