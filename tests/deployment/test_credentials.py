"""Where pods and nodes get credentials from."""

from __future__ import annotations

import pytest

from fsspill import ConfigError
from fsspill.deployment.credentials import choose_source, credentials_of, plain_variables
from fsspill.storage.protocols import PROTOCOLS


@pytest.mark.parametrize(
    ("uri", "source"),
    [
        ("s3://bucket", "role"),
        ("gs://bucket", "role"),
        ("abfs://container@account", "secret"),
        ("sftp://host/x", "secret"),
        ("webdav://x", "secret"),
        ("file:///x", "none"),
    ],
)
def test_the_usual_source(uri: str, source: str) -> None:
    """A role where the provider of the storage has roles for pods."""
    assert choose_source(uri, None) == source


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
@pytest.mark.parametrize(
    ("endpoint", "source"),
    [
        ("http://minio:9000", "secret"),
        ("https://0123.r2.cloudflarestorage.com", "secret"),
        ("https://s3.eu-west-1.amazonaws.com", "role"),
        ("https://bucket.vpce-1a.s3.us-east-1.vpce.amazonaws.com", "role"),
    ],
)
def test_a_store_of_another_provider_has_no_roles_of_aws(
    variable: str, endpoint: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its endpoint tells."""
    monkeypatch.setenv(variable, endpoint)
    assert choose_source("s3://bucket", None) == source
    assert choose_source("s3://bucket", "role") == "role"


def test_a_source_that_the_storage_has_not() -> None:
    """The message has those that it has."""
    with pytest.raises(ConfigError, match=r"from a secret: expected role\."):
        choose_source("gs://bucket", "secret")


def test_variables_that_all_nodes_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those without a secret have their value; one with a password only its name."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very+secret+key")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:password123@minio:9000")
    expected = {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_ENDPOINT_URL": None}
    assert plain_variables("s3://bucket") == expected
    assert plain_variables("gs://bucket") == {}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_has_a_source(protocol: str) -> None:
    """With a role there is its annotation, with a secret the variables in it."""
    found = credentials_of(f"{protocol}://x")
    assert found.sources
    assert bool(found.annotation[0]) is ("role" in found.sources)
    assert bool(found.secret_variables) is ("secret" in found.sources)
