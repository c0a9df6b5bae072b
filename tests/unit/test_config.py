"""Settings: where each comes from, which one wins, and what is said about a wrong one."""

import pytest

from playhead.config import Settings, load
from playhead.errors import ConfigError

NAMES = {
    "app": ("vehicles:app", None),
    "log": ("kafka://somewhere:9092", "local:.playhead/log.db"),
    "store": ("sqlite:other.db", "sqlite:.playhead/store.db"),
    "mirror": ("other.duckdb", "warehouse.duckdb"),
    "batch_records": ("17", 100_000),
}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(f"PLAYHEAD_{name.upper()}", raising=False)


def write(root, text):
    (root / "playhead.toml").write_text(text, encoding="utf-8")


def refused(root, text, *words, flags=None):
    write(root, text)
    with pytest.raises(ConfigError) as e:
        load(root, flags or {})
    assert [word for word in words if word not in str(e.value)] == [], str(e.value)
    assert e.value.exit_code == 2
    return e.value


def in_file(name, value):
    return f"[run]\n{name} = {value}" if name == "batch_records" else f'{name} = "{value}"'


@pytest.mark.parametrize("name", NAMES)
def test_flag_before_environment_before_file_before_default(name, tmp_path, monkeypatch):
    some, default = NAMES[name]

    def value():
        return getattr(load(tmp_path, flags), name)

    as_set = int if name == "batch_records" else f"{some}{{}}".format
    flags = {name: None}
    assert value() == default
    write(tmp_path, in_file(name, as_set("1")))
    assert value() == as_set("1")
    monkeypatch.setenv(f"PLAYHEAD_{name.upper()}", str(as_set("2")))
    assert value() == as_set("2")
    flags[name] = str(as_set("3"))
    assert value() == as_set("3")


def test_without_a_file_everything_is_default(tmp_path):
    assert load(tmp_path, {}) == Settings(root=tmp_path)


def test_paths_are_relative_to_the_project(tmp_path):
    settings = load(tmp_path, {})
    assert settings.path("a/b") == tmp_path / "a/b"
    assert str(settings.path("/a/b")) == "/a/b"


def test_kafka_properties_of_the_command_line_win_over_those_of_the_file(tmp_path):
    write(
        tmp_path,
        '[kafka]\n"security.protocol" = "SSL"\n"linger.ms" = 5\n"enable.idempotence" = true\n',
    )
    assert load(tmp_path, {}, {"linger.ms": "7", "debug": "all"}).kafka == {
        "security.protocol": "SSL",
        "linger.ms": "7",
        "enable.idempotence": "true",
        "debug": "all",
    }


def test_dotted_names_need_no_quotes(tmp_path):
    """TOML reads ``security.protocol = …`` as a table in a table; it means the property."""
    write(tmp_path, '[kafka]\nsecurity.protocol = "SSL"\nsasl.password = "hunter2"\n')
    assert load(tmp_path, {}).kafka == {"security.protocol": "SSL", "sasl.password": "hunter2"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('ap = "x"', ["'ap'", "did you mean app?"]),
        ('stor = "x"', ["'stor'", "did you mean store?"]),
        ('logs = "x"', ["'logs'", "did you mean log?"]),
        ("[runn]\n", ["'runn'", "did you mean run?"]),
        ("zzz = 1", ["'zzz'", "known are app, log"]),
        ("[run]\nbatch_record = 5", ["'batch_record'", "did you mean batch_records?", "[run]"]),
        ("[run]\nzzz = 5", ["'zzz'", "batch_records"]),
        ("kafka = 5", ["[kafka] is a table"]),
        ("run = 5", ["[run] is a table"]),
        ("app = ", ["cannot be read", "playhead.toml"]),
        ("app = \x00", ["cannot be read"]),
    ],
)
def test_a_file_that_cannot_be_is_told(tmp_path, text, words):
    refused(tmp_path, text, *words)


def test_a_file_that_is_not_utf8_is_told(tmp_path):
    (tmp_path / "playhead.toml").write_bytes(b'app = "caf\xe9"')
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path, {})


@pytest.mark.parametrize("value", ["0", "-1", '"many"', "1.5", "true", '""'])
def test_a_batch_size_is_a_positive_number(tmp_path, value):
    refused(tmp_path, f"[run]\nbatch_records = {value}", "batch_records", "positive")


@pytest.mark.parametrize("value", ["0", "-5", "x"])
def test_a_batch_size_of_flag_and_environment_too(tmp_path, monkeypatch, value):
    refused(tmp_path, "", "batch_records", "positive", flags={"batch_records": value})
    monkeypatch.setenv("PLAYHEAD_BATCH_RECORDS", value)
    refused(tmp_path, "", "batch_records", "positive")


def test_bytes_of_the_cache(tmp_path, monkeypatch):
    assert load(tmp_path, {}).cache_bytes == 2 << 30
    write(tmp_path, '[cache]\nbytes = "3MB"\n')
    assert load(tmp_path, {}).cache_bytes == 3 << 20
    monkeypatch.setenv("PLAYHEAD_CACHE_BYTES", "0B")
    assert load(tmp_path, {}).cache_bytes == 0
    monkeypatch.delenv("PLAYHEAD_CACHE_BYTES")
    refused(tmp_path, "[cache]\nbytes = 5", "bytes = 5", "MB")
    refused(tmp_path, "[cache]\nsize = '5MB'", "unknown setting 'size'")


def test_bytes_and_threads_of_a_run(tmp_path, monkeypatch):
    assert (load(tmp_path, {}).batch_bytes, load(tmp_path, {}).threads) == (16 << 20, True)
    write(tmp_path, '[run]\nbatch_bytes = "2MB"\nthreads = false\n')
    assert (load(tmp_path, {}).batch_bytes, load(tmp_path, {}).threads) == (2 << 20, False)
    monkeypatch.setenv("PLAYHEAD_THREADS", "true")
    assert load(tmp_path, {}).threads
    refused(tmp_path, "[run]\nbatch_bytes = 5", "batch_bytes = 5", "MB")
    monkeypatch.setenv("PLAYHEAD_THREADS", "2")
    refused(tmp_path, "", "threads = '2' is neither true nor false")


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        load(tmp_path / "nowhere", {})


@pytest.mark.parametrize("name", ["app", "log", "store", "mirror"])
def test_a_setting_is_text(tmp_path, name):
    refused(tmp_path, f"{name} = [1]", name)


def test_the_example_says_what_the_defaults_are(tmp_path):
    from importlib.resources import files

    write(tmp_path, files("playhead").joinpath("example/playhead.toml").read_text("utf-8"))
    assert load(tmp_path, {}) == Settings(root=tmp_path, app="vehicles:app")


@pytest.mark.parametrize(
    "store",
    ["postgresql://ann:s3cret@db/points", "postgresql://db/points?user=ann&password=s3cret"],
)
def test_a_password_on_the_command_line_is_refused_and_elsewhere_taken(
    tmp_path, monkeypatch, store
):
    e = refused(tmp_path, "", "PGPASSWORD", flags={"store": store})
    assert "s3cret" not in str(e)
    monkeypatch.setenv("PLAYHEAD_STORE", store)
    settings = load(tmp_path, {})
    assert settings.store == store
    assert "s3cret" not in repr(settings)
    write(tmp_path, f'store = "{store}"')
    monkeypatch.delenv("PLAYHEAD_STORE")
    assert load(tmp_path, {}).store == store
