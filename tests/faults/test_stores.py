"""Stores, endpoints and demands that are not those of moto, at the wire."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
import pytest

from fsspill import (
    ConfigError,
    ExternalStorage,
    FsspillError,
    InMemoryObjectStore,
    StoragePermissionError,
    StorageUnavailableError,
)
from fsspill.cleanup import scan
from fsspill.testing.s3_server import S3Server
from tests.at_rest import keys
from tests.certificates import make_certificate
from tests.faults.dialects import (
    DemandsHeaders,
    DirectoryBucket,
    HostsPerBucket,
    PartsWithoutTags,
)
from tests.faults.fault_proxy import Call, Dialect, FaultProxy, is_object
from tests.forward_proxy import ForwardProxy
from tests.timeouts import FORGIVING, PATIENT, cleanup_limit

pytest.importorskip("s3fs")
pytest.importorskip("obstore")

MIB = 2**20
SIZES = (10, 3 * MIB, 20 * MIB + 1)
"""Of an object that is fused, one of a file of its own, and one that is uploaded in parts."""


def make(uri: str, store: InMemoryObjectStore, **parameters: Any) -> ExternalStorage:
    """Return a storage that waits as long as a busy machine needs."""
    return ExternalStorage(uri, object_store=store, **{"stall_timeout": PATIENT, **parameters})


def round_trip(uri: str, engine: str = "auto", **options: Any) -> None:
    """Check, spill, restore, delete, destroy and list; nothing is lost or left."""
    store = InMemoryObjectStore()
    objects = {bytes([size % 251]) * 8: bytes([size % 251]) * size for size in SIZES}
    for ref, data in objects.items():
        store.put(ref, data)
    storage = make(uri, store, engine=engine, storage_options=options)
    storage.check()
    urls = storage.spill_objects(list(objects))
    for ref in objects:
        store.delete(ref)
    storage.restore_spilled_objects(list(objects), urls)
    assert all(store.get(ref) == data for ref, data in objects.items())
    storage.delete_spilled_objects(urls[:1])
    storage.destroy_external_storage()
    assert scan(uri, options) == []


@pytest.mark.parametrize("engine", ["auto", "fsspec"])
@pytest.mark.parametrize("prefix", ["", "/x"])
def test_a_directory_bucket_is_used_with_its_sessions(
    proxy: FaultProxy, s3_server: S3Server, engine: str, prefix: str
) -> None:
    """S3 Express One Zone lists nothing but directories, and has no versions."""
    bucket = "spill--use1-az4--x-s3"
    if not hasattr(pytest.importorskip("botocore.utils"), "S3ExpressIdentityCache"):
        pytest.skip("this botocore knows no directory buckets")
    pytest.importorskip("aiobotocore", minversion="2.10")
    s3_server.create_bucket(bucket)
    with proxy.speak(DirectoryBucket()):
        round_trip(f"s3://{bucket}{prefix}", engine)
        assert keys(f"s3://{bucket}") == []


@pytest.mark.parametrize(
    ("bucket", "config", "host"),
    [
        ("bucket", {}, "bucket.s3.eu-west-1.amazonaws.com"),
        ("my.bucket", {}, "s3.eu-west-1.amazonaws.com"),
        ("bucket", {"use_dualstack_endpoint": True}, "bucket.s3.dualstack.eu-west-1.amazonaws.com"),
        ("bucket", {"use_fips_endpoint": True}, "bucket.s3-fips.eu-west-1.amazonaws.com"),
        ("bucket", {"s3": {"use_accelerate_endpoint": True}}, "bucket.s3-accelerate.amazonaws.com"),
        ("bucket", {"s3": {"addressing_style": "path"}}, "s3.eu-west-1.amazonaws.com"),
        (
            "arn:aws:s3:eu-west-1:123456789012:accesspoint/bucket",
            {},
            "bucket-123456789012.s3-accesspoint.eu-west-1.amazonaws.com",
        ),
    ],
)
def test_every_endpoint_of_aws_is_found(
    proxy: FaultProxy,
    s3_server: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    bucket: str,
    config: dict[str, Any],
    host: str,
) -> None:
    """Buckets with dots, IPv6, FIPS, acceleration and access points; no setting leaks to another.

    obstore reaches the bucket by its path, or not at all.
    """
    s3_server.create_bucket("my.bucket")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, proxy.endpoint_url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    aws = HostsPerBucket(urlsplit(s3_server.endpoint_url).netloc)
    with proxy.speak(aws):
        round_trip(f"s3://{bucket}/x", use_ssl=False, config_kwargs=config)
    assert aws.hosts in ({host}, {host, host.removeprefix("bucket.")})


def writes(call: Call) -> bool:
    """Return True if a call begins to write an object."""
    is_upload = call.method == "POST" and "uploads" in call.query
    is_file = call.method == "PUT" and "partNumber" not in call.query
    return is_object(call.path) and (is_upload or is_file)


def carries(call: Call) -> bool:
    """Return True if a call has bytes of an object."""
    return writes(call) or (is_object(call.path) and call.method in ("PUT", "GET"))


SSE = "x-amz-server-side-encryption"


@pytest.mark.parametrize(
    ("demand", "options"),
    [
        (DemandsHeaders({"x-amz-request-payer": "requester"}), {"requester_pays": True}),
        (
            DemandsHeaders({f"{SSE}": "aws:kms", f"{SSE}-aws-kms-key-id": "key"}, writes),
            {"s3_additional_kwargs": {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "key"}},
        ),
        (
            DemandsHeaders({f"{SSE}-customer-algorithm": "AES256"}, carries),
            {
                "s3_additional_kwargs": {
                    "SSECustomerAlgorithm": "AES256",
                    "SSECustomerKey": "k" * 32,
                }
            },
        ),
    ],
)
def test_headers_that_a_bucket_demands_are_in_every_request_that_takes_them(
    proxy: FaultProxy, demand: Dialect, options: dict[str, Any]
) -> None:
    """Parts, ranges, listings and bulk deletions too; without the option the check says no."""
    with proxy.speak(demand):
        round_trip("s3://bucket/x", **options)
        with pytest.raises(StoragePermissionError, match="AccessDenied"):
            make("s3://bucket/x", InMemoryObjectStore()).check()


def test_parts_without_a_tag_are_named(
    proxy: FaultProxy, store: InMemoryObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A KeyError would be an outage, and what to do would not be said."""
    store.put(b"ref", bytes(SIZES[-1]))
    with proxy.speak(PartsWithoutTags()), pytest.raises(FsspillError) as caught:
        make("s3://bucket/x", store).spill_objects([b"ref"])
    assert "expected ETag in an answer of the storage" in f"{caught.value} {caplog.text}"
    assert keys("s3://bucket") == []


@pytest.fixture
def tls(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[str, Path]]:
    """Yield the endpoint of a server that speaks TLS, and the file of its own certificate.

    The parameter is true for one that may sign others.
    """
    certificate = make_certificate(tmp_path, own=True, signs=getattr(request, "param", False))
    with ForwardProxy(urlsplit(s3_server.endpoint_url).port or 0) as terminator:
        server = terminator._server
        context = certificate.server_context()
        server.socket = context.wrap_socket(server.socket, server_side=True)
        yield f"https://127.0.0.1:{server.server_address[1]}", certificate.bundle


def refusal(endpoint: str, expected: type[FsspillError], **options: Any) -> str:
    """Return the message of the check of an endpoint."""
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    storage_options = {"endpoint_url": endpoint, **options}
    # s3fs tries by itself for 2 seconds before it says anything.
    outage = expected is StorageUnavailableError
    seconds, cleanup = (10, FORGIVING) if outage else (PATIENT, PATIENT)
    storage = make(
        "s3://bucket/x",
        InMemoryObjectStore(),
        stall_timeout=seconds,
        storage_options=storage_options,
    )
    with cleanup_limit(cleanup), pytest.raises(expected) as caught:
        storage.check()
    return str(caught.value)


def test_certificates_that_nobody_trusts_are_named(
    tls: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As MinIO's own; the message names the variable, and the variable helps."""
    endpoint, certificate = tls
    message = refusal(endpoint, ConfigError)
    assert "self-signed" in message
    assert "in AWS_CA_BUNDLE" in message
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("no certificate")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(nonsense))
    assert "a file of certificates: correct" in refusal(endpoint, ConfigError)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    round_trip("s3://bucket/x", endpoint_url=endpoint)


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("tls", [True], indirect=True, ids=["may sign others"])
def test_a_certificate_that_obstore_refuses_is_named_once(
    tls: tuple[str, Path],
    checked: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At the start, or by a worker before its first restore, whose ranges obstore is not asked for.

    The line says what to do about it.
    """
    endpoint, certificate = tls
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    monkeypatch.setattr("obstore.get_range_async", None)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    options = {"endpoint_url": endpoint}
    storage = make("s3://bucket/x", store := InMemoryObjectStore(), storage_options=options)
    with caplog.at_level(logging.WARNING):
        if checked:
            storage.check()
        assert len(caplog.records) == checked
        store.put(b"ref", data := bytes(SIZES[-1]))
        urls = storage.spill_objects([b"ref"])
        store.delete(b"ref")
        storage.restore_spilled_objects([b"ref"], urls)
    assert store.get(b"ref") == data
    [line] = [record.getMessage() for record in caplog.records]
    assert "Make it with basicConstraints=critical,CA:FALSE" in line
    storage.destroy_external_storage()


def test_obstore_accepts_a_certificate_of_its_own_that_may_not_sign(
    tls: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the line asks for."""
    endpoint, certificate = tls
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    round_trip("s3://bucket/x", "obstore", endpoint_url=endpoint)


def test_https_to_a_port_of_http_is_named(s3_server: S3Server, s3_bucket: str) -> None:
    """It may be a fault that passes, so it is retried; the message says what else it may be."""
    endpoint = s3_server.endpoint_url.replace("http://", "https://")
    message = refusal(endpoint, StorageUnavailableError)
    assert "whether it is http:// and not https://" in message
