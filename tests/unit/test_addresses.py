"""Addresses of stores: what is read from them, and that no password is ever shown."""

import pytest

from playhead.core.addresses import has_password, masked, postgres_address
from playhead.errors import ConfigError

WITH = {
    "postgresql://ann:s3cret@db:5432/points": "postgresql://ann:****@db:5432/points",
    "postgres://:s3cret@db/points": "postgres://:****@db/points",
    "postgresql://ann:s3c@ret/x?y@db/points": "postgresql://ann:****@db/points",
    "postgresql://ann:s3c/ret@db/points": "postgresql://ann:****@db/points",
    "postgresql://db/points?password=s3cret&user=ann": "postgresql://db/points?password=****&user=ann",
    "postgresql://db/points?user=ann&sslpassword=s3cret": (
        "postgresql://db/points?user=ann&sslpassword=****"
    ),
}
WITHOUT = [
    "sqlite:.playhead/store.db",
    "postgresql://ann@db:5432/points",
    "postgresql://db:5432/points?schema=a",
    "postgresql:///points",
    "postgresql://db:5432/points?application_name=a@b",
    "postgresql://[::1]:5432/points",
    "postgresql://one:5432,two:5433/points?application_name=a@b",
]


@pytest.mark.parametrize("address", WITH)
def test_a_password_is_masked(address):
    assert masked(address) == WITH[address]
    assert has_password(address)
    try:
        said = repr(postgres_address(address))
    except ConfigError as error:  # an unquoted / ends the host
        said = str(error)
    assert "s3c" not in said


@pytest.mark.parametrize("address", WITHOUT)
def test_what_has_no_password_is_shown_as_it_is(address):
    assert masked(address) == address
    assert not has_password(address)


def test_the_schema_is_taken_out_of_what_the_library_gets():
    found = postgres_address("postgresql://ann@db/points?schema=my%20own&sslmode=require")
    assert found.schema == "my own"
    assert found.url == "postgresql://ann@db/points?sslmode=require"
    assert postgres_address("postgresql://db/points").schema == "public"


@pytest.mark.parametrize(
    "address",
    ["postgresql://a:s3cret@[db/x", "postgresql://a:s3cret@db/x?schema=", "postgresql://db/?x"],
)
def test_what_cannot_be_read_is_named_without_its_password(address):
    with pytest.raises(ConfigError) as raised:
        postgres_address(address)
    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///points?host=/tmp",
        "postgresql://db/points?options=-c%20statement_timeout%3D5",
        "postgresql://db/points?application_name=a@b",
    ],
)
def test_the_rest_is_handed_over_as_it_was_written(url):
    assert postgres_address(url).url == url
    assert postgres_address(f"{url}&schema=own").url == url
