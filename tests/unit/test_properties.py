"""Property files: librdkafka's names, a Java client.properties; secrets never shown."""

import pytest

from playhead.errors import ConfigError
from playhead.properties import load_properties

SECRET = "hunter2-s3cret"  # the word that must never be told
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"


def loaded(tmp_path, text):
    path = tmp_path / "client.properties"
    path.write_text(text, encoding="utf-8")
    return load_properties(path)


def refused(tmp_path, text, *words):
    with pytest.raises(ConfigError) as e:
        loaded(tmp_path, text)
    told = f"{e.value} {e.value.__cause__}"
    assert [word for word in words if word not in told] == [], told
    assert SECRET not in told
    assert "client.properties" in e.value.where
    return e.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("linger.ms=5\n", {"linger.ms": "5"}),
        ("  linger.ms = 5  \n", {"linger.ms": "5"}),
        ("# a\n! b\n\n  # c\nlinger.ms=5", {"linger.ms": "5"}),
        ("a=b=c==", {"a": "b=c=="}),
        ("a=", {"a": ""}),
        ("a=1\na=2", {"a": "2"}),
        ("sasl.password=p#w!d", {"sasl.password": "p#w!d"}),
        ("\r\na=1\r\n", {"a": "1"}),
    ],
)
def test_librdkafkas_names_pass_through(tmp_path, text, expected):
    assert loaded(tmp_path, text) == expected


def test_a_java_file_with_scram(tmp_path):
    text = f"""
bootstrap.servers=broker:9093
security.protocol=SASL_SSL
sasl.mechanism=SCRAM-SHA-512
sasl.jaas.config={SCRAM} required username="alice" password="{SECRET}";
ssl.truststore.type=PEM
ssl.truststore.location=/etc/ca.pem
"""
    assert loaded(tmp_path, text) == {
        "bootstrap.servers": "broker:9093",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "alice",
        "sasl.password": SECRET,
        "ssl.ca.location": "/etc/ca.pem",
    }


@pytest.mark.parametrize("module", [PLAIN, SCRAM])
@pytest.mark.parametrize(
    "pairs",
    ['username="alice" password="p;w=d x"', 'password = "p;w=d x"   username="alice"'],
)
def test_the_login_is_read_out_of_jaas(tmp_path, module, pairs):
    found = loaded(tmp_path, f"sasl.jaas.config={module} required {pairs};")
    assert found == {"sasl.username": "alice", "sasl.password": "p;w=d x"}


def test_jaas_over_several_lines_as_kafkas_documentation_writes_it(tmp_path):
    text = f"""sasl.jaas.config={PLAIN} required \\
    username="alice" \\
    password="{SECRET}";
linger.ms=5
"""
    assert loaded(tmp_path, text) == {
        "sasl.username": "alice",
        "sasl.password": SECRET,
        "linger.ms": "5",
    }


@pytest.mark.parametrize(
    ("java", "librdkafka"),
    [
        ("ssl.truststore.certificates", "ssl.ca.pem"),
        ("ssl.keystore.key", "ssl.key.pem"),
        ("ssl.keystore.certificate.chain", "ssl.certificate.pem"),
        ("ssl.key.password", "ssl.key.password"),
    ],
)
def test_pem_stores_have_counterparts(tmp_path, java, librdkafka):
    text = f"ssl.truststore.type=pem\nssl.keystore.type=PEM\n{java}=content"
    assert loaded(tmp_path, text) == {librdkafka: "content"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"linger.ms=5\n{SECRET}\n", [":3", "not key=value"]),
        (f"ssl.truststore.password={SECRET}", ["ssl.truststore.password", "PEM"]),
        (f"ssl.keystore.password={SECRET}", ["ssl.keystore.password", "PEM"]),
        ("ssl.keystore.location=/x.jks", ["ssl.keystore.location", "ssl.key.location"]),
        ("ssl.truststore.type=JKS", ["only PEM"]),
        ("ssl.keystore.type=PKCS12", ["only PEM"]),
        (
            f'sasl.jaas.config=com.sun.Krb5LoginModule required password="{SECRET}";',
            ["only PLAIN and SCRAM"],
        ),
        (f'sasl.jaas.config={PLAIN} required password="{SECRET}";', ["username and password"]),
        (f"sasl.jaas.config={PLAIN} required username=a password={SECRET};", ["username"]),
    ],
)
def test_what_cannot_be_mapped_is_named_and_no_secret_is_told(tmp_path, text, words):
    refused(tmp_path, f"sasl.password={SECRET}\n{text}", *words)


def test_a_truststore_without_a_type_is_javas_own_and_cannot_be_read(tmp_path):
    """Java's default is JKS: handed on as PEM it fails later, far from here."""
    refused(tmp_path, "ssl.truststore.location=/etc/ca.jks", "PEM")


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_properties(tmp_path / "nowhere.properties")
    path = tmp_path / "latin.properties"
    path.write_bytes(f"a={SECRET}\xe9".encode("latin-1"))
    with pytest.raises(ConfigError) as e:
        load_properties(path)
    assert SECRET not in str(e.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_properties(tmp_path)
