"""Buckets of obstore with the endpoint and the credentials of a filesystem."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest

from fsspill.storage.connection import connect
from fsspill.storage.obstore import UnsupportedByObstoreError, open_bucket
from tests.instances import forgotten

pytest.importorskip("obstore")
pytest.importorskip("s3fs")

AZURE_KEY = "a2V5"


@pytest.fixture
def fresh() -> Iterator[None]:
    """Forget filesystems that were made with another environment, and leave none to others."""
    with forgotten("s3"):
        yield


def test_anonymous_access_needs_no_credentials(s3_bucket: str, fresh: None) -> None:
    """Requests are not signed if the filesystem is anonymous."""
    fs = fsspec.filesystem("s3")
    fs.pipe_file(f"{s3_bucket}/public", b"data", ACL="public-read")
    connection = connect(f"s3://{s3_bucket}/x", {"anon": True})
    store = connection.run(open_bucket, connection.fs, "s3", s3_bucket)
    assert store.config["skip_signature"] in (True, "true")
    assert store.credential_provider is None


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"s3_additional_kwargs": {"SSECustomerAlgorithm": "AES256"}}, "SSECustomerAlgorithm"),
        ({"s3_additional_kwargs": {"ExpectedBucketOwner": "123"}}, "ExpectedBucketOwner"),
        ({"config_kwargs": {"s3": {"use_accelerate_endpoint": True}}}, "accelerated"),
        ({"config_kwargs": {"proxies_config": {"proxy_ca_bundle": "x.pem"}}}, "proxies_config"),
        ({"config_kwargs": {"client_cert": "file.pem"}}, "client certificate"),
    ],
)
def test_unsupported_settings_of_s3fs_are_named(
    s3_bucket: str, options: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The filesystem itself reads where obstore would read otherwise."""
    # Older releases of aiobotocore load a client's certificate at once.
    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", lambda *arguments: None)
    connection = connect(f"s3://{s3_bucket}/x", options)
    with pytest.raises(UnsupportedByObstoreError, match=reason):
        connection.run(open_bucket, connection.fs, "s3", s3_bucket)


@pytest.mark.parametrize("bucket", ["arn:aws:s3:us-east-1:1:accesspoint", "b--use1-az4--x-s3"])
def test_access_points_and_directory_buckets_are_unsupported(s3_bucket: str, bucket: str) -> None:
    """The filesystem reads from them, because obstore addresses them differently."""
    connection = connect(f"s3://{s3_bucket}/x", {})
    with pytest.raises(UnsupportedByObstoreError):
        connection.run(open_bucket, connection.fs, "s3", bucket)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"account_key": AZURE_KEY}, {"account_key": AZURE_KEY}),
        ({"sas_token": "sv=1&sig=x"}, {"sas_key": "sv=1&sig=x"}),
        ({"anon": True}, {"skip_signature": True}),
    ],
)
def test_obstore_gets_the_account_and_credentials_of_adlfs(
    options: dict[str, Any], expected: dict[str, Any]
) -> None:
    """The account's endpoint, and the key or signature, or none."""
    pytest.importorskip("adlfs")
    connection = connect("abfs://container/x", {"account_name": "account", **options})
    store = connection.run(open_bucket, connection.fs, "azure", "container")
    assert store.config["endpoint"] == "https://account.blob.core.windows.net"
    assert {name: store.config.get(name) for name in expected} == {
        name: str(value).lower() if value is True else value for name, value in expected.items()
    }


def test_tokens_of_azure_come_from_the_credential_of_adlfs() -> None:
    """The credential of azure-identity is asked for each token."""
    pytest.importorskip("adlfs")

    class Credential:
        async def get_token(self, *scopes: str) -> Any:
            assert scopes == ("https://storage.azure.com/.default",)
            return SimpleNamespace(token="secret", expires_on=0)

        async def close(self) -> None:
            pass

    options = {"account_name": "account", "credential": Credential()}
    connection = connect("abfs://container/x", options)
    store = connection.run(open_bucket, connection.fs, "azure", "container")
    assert connection.run(store.credential_provider)["token"] == "secret"


def test_tokens_of_google_come_from_gcsfs(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are fresh, because gcsfs renews them."""
    pytest.importorskip("gcsfs")
    from google.oauth2.credentials import Credentials

    token = Credentials("secret")  # type: ignore[no-untyped-call]
    connection = connect("gs://bucket/x", {"token": token})
    store = connection.run(open_bucket, connection.fs, "gcs", "bucket")
    assert connection.run(store.credential_provider)["token"] == "secret"
