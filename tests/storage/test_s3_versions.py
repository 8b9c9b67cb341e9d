"""Buckets that keep old versions: nothing stays that the credentials may delete."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import fsspec
import pytest
from fsspec.asyn import AsyncFileSystem

from fsspill import ExternalStorage, InMemoryObjectStore
from fsspill.cleanup import clean, scan
from fsspill.storage.client_pool import open_client
from fsspill.storage.layout import versioned_path
from fsspill.storage.s3_versions import ObjectVersions
from tests.faults.dialects import Fixed, answer_with_code
from tests.faults.fault_proxy import Answer, Call, Fault, FaultProxy, is_bulk_delete
from tests.samples import MIB, random_bytes
from tests.spilling import fill, restore, spill

pytest.importorskip("s3fs")


@pytest.fixture
def bucket(proxy: FaultProxy, request: pytest.FixtureRequest) -> str:
    """Return a bucket behind the proxy that keeps versions."""
    status = getattr(request, "param", "Enabled")
    call("put_bucket_versioning", VersioningConfiguration={"Status": "Enabled"})
    call("put_bucket_versioning", VersioningConfiguration={"Status": status})
    proxy.requests.clear()
    return "bucket"


def call(operation: str, **arguments: Any) -> Any:
    return fsspec.filesystem("s3").call_s3(operation, Bucket="bucket", **arguments)


def at_rest(kinds: Sequence[str] = ("Versions", "DeleteMarkers")) -> list[str]:
    """Return the key of every version and every marker in the bucket."""
    answer = call("list_object_versions")
    return [version["Key"] for kind in kinds for version in answer.get(kind) or []]


def names_versions(call: Call) -> bool:
    """Return True for the deletion of a version."""
    of_one = call.method == "DELETE" and "versionId" in call.query
    return of_one or (is_bulk_delete(call.path) and b"VersionId" in call.body)


DENIED = Fixed(lambda: answer_with_code(403, "AccessDenied"), names_versions)


@pytest.mark.parametrize("bucket", ["Enabled", "Suspended"], indirect=True)
def test_deleted_objects_leave_no_version(bucket: str, store: InMemoryObjectStore) -> None:
    """Of a file in one request, and of one in parts; any process may delete it."""
    storage = ExternalStorage(f"s3://{bucket}/x", object_store=store)
    objects = [random_bytes(MIB), random_bytes(20 * MIB)]
    urls = spill(storage, *objects)
    assert [restore(storage, url) for url in urls] == objects
    ExternalStorage(f"s3://{bucket}/x").delete_spilled_objects(urls)
    assert at_rest() == []


def test_a_bucket_without_versions_gets_no_further_request(
    proxy: FaultProxy, store: InMemoryObjectStore
) -> None:
    """URLs and requests are as ever there."""
    storage = ExternalStorage("s3://bucket/x", object_store=store)
    [url] = spill(storage, b"abc")
    storage.delete_spilled_objects([url])
    assert "version" not in url
    assert [request.method for request in proxy.requests] == ["PUT", "POST"]


def test_checks_and_heartbeats_leave_no_version(
    bucket: str, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """A check is still four requests, and a heartbeat is there once."""
    storage = ExternalStorage(f"s3://{bucket}/x", node_id="node", session_name="s")
    storage.check()
    assert [request.method for request in proxy.requests] == ["PUT", "GET", "GET", "DELETE"]
    assert at_rest() == []
    for _ in range(3):
        storage.files.write_heartbeat("node")
    assert at_rest() == ["x/s/fsspill_heartbeats/node"]
    storage.destroy_external_storage()
    assert at_rest() == []
    assert caplog.records == []


def test_credentials_that_may_not_delete_versions_are_told_at_the_start(
    bucket: str, proxy: FaultProxy, store: InMemoryObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    """One line names the permission and the lifecycle rule; deletion goes on as it can."""
    storage = ExternalStorage(f"s3://{bucket}/x", object_store=store, node_id="node")
    with proxy.speak(DENIED):
        storage.check()
        [record] = caplog.records
        for word in ("s3:DeleteObjectVersion", "NoncurrentVersionExpiration", "billed"):
            assert word in record.getMessage()
        storage.delete_spilled_objects(spill(storage, b"abc"))
        storage.destroy_external_storage()
    assert caplog.records == [record]
    assert fsspec.filesystem("s3").find(bucket) == []
    assert len(at_rest(["Versions"])) == 2


def test_a_refused_bulk_deletion_of_versions_is_made_without_them(
    bucket: str, proxy: FaultProxy, store: InMemoryObjectStore
) -> None:
    """The refusal comes as an answer of success, key by key."""

    def refuse() -> Answer:
        [file] = fsspec.filesystem("s3").find(bucket)
        key = file.partition("/")[2]
        body = (
            f"<DeleteResult><Error><Key>{key}</Key><Code>AccessDenied</Code></Error></DeleteResult>"
        )
        return Answer.of(200, body.encode())

    storage = ExternalStorage(f"s3://{bucket}/x", object_store=store)
    urls = spill(storage, b"abc")
    with proxy.speak(Fixed(refuse, names_versions)):
        storage.delete_spilled_objects(urls)
    assert fsspec.filesystem("s3").find(bucket) == []


def test_destroy_removes_what_nothing_names(bucket: str, store: InMemoryObjectStore) -> None:
    """Versions of files that were deleted or written again by others, and markers."""
    storage = ExternalStorage(
        f"s3://{bucket}/x", object_store=store, node_id="node", session_name="s"
    )
    urls = spill(storage, b"abc", b"def")
    fs = fsspec.filesystem("s3")
    fs.pipe("bucket/x/s/ray_spilled_objects_node/again", b"1")
    fs.pipe("bucket/x/s/ray_spilled_objects_node/again", b"2")
    fs.rm_file(urls[0].partition("?")[0])
    storage.destroy_external_storage()
    assert at_rest() == []


@pytest.mark.parametrize("bucket", ["Enabled", "Suspended"], indirect=True)
def test_a_write_whose_answer_was_lost_leaves_no_version(
    bucket: str, proxy: FaultProxy, store: InMemoryObjectStore
) -> None:
    """The answer to its repetition names the second version; a deletion removes both."""
    storage = ExternalStorage(f"s3://{bucket}/x", object_store=store, node_id="node")
    for agent in (storage, ExternalStorage(f"s3://{bucket}/x")):
        with proxy.inject(Fault.RESET_AFTER, method="PUT", count=1):
            urls = spill(storage, b"abc" * MIB, b"def")
        agent.delete_spilled_objects(urls)
        assert at_rest() == []
    with proxy.inject(Fault.RESET_AFTER, method="PUT", count=1):
        storage.check()
    assert at_rest() == []


def test_a_write_that_failed_leaves_no_version(bucket: str) -> None:
    """No answer has named it."""
    client = open_client(f"s3://{bucket}/x", {})
    paths = [f"{bucket}/x/{name}" for name in ("a", "b")]
    for path in paths:
        client.run(client.put, path, b"1")
    assert client.run(client.delete, paths, 4) == {}
    assert at_rest() == []


@pytest.mark.parametrize("code", ["ExpiredToken", "RequestTimeTooSkewed"])
def test_credentials_that_are_refused_for_a_while_may_delete_versions_then(
    bucket: str, proxy: FaultProxy, code: str
) -> None:
    """Only where the file itself can be deleted, it is the permission for versions that lacks."""
    client = open_client(f"s3://{bucket}/x", {})
    version = client.run(client.put, f"{bucket}/x/a", b"1")
    paths = [versioned_path(f"{bucket}/x/a", version)]
    with proxy.speak(Fixed(lambda: answer_with_code(403, code), lambda call: True)):
        assert list(client.run(client.delete, paths, 4)) == paths
    assert client.run(client.delete, paths, 4) == {}
    assert at_rest() == []
    assert not client.keeps_deleted


def test_a_listing_of_versions_that_fails_for_a_while_is_made_again(
    bucket: str, proxy: FaultProxy
) -> None:
    """One that is refused for good is not."""
    client = open_client(f"s3://{bucket}/x", {})
    client.run(client.put, f"{bucket}/x/a", b"1")
    slow = Fixed(lambda: answer_with_code(503, "SlowDown"), lambda call: "versions" in call.query)
    with proxy.speak(slow):
        assert list(client.run(client.delete, [f"{bucket}/x/a"], 4)) == [f"{bucket}/x/a"]
    assert client.run(client.delete, [f"{bucket}/x/a"], 4) == {}
    assert at_rest() == []


def test_old_versions_of_dead_sessions_are_seen_and_removed(bucket: str) -> None:
    """They are counted by `ls` and removed by `clean`, which leaves none of its own."""
    fs = fsspec.filesystem("s3")
    path = "bucket/x/session_2020-01-01_00-00-00_000000_1/ray_spilled_objects_node/f-multi-1-5"
    fs.pipe(path, b"12345")
    fs.rm_file(path)
    [session] = scan(f"s3://{bucket}/x")
    assert session.nbytes == 5
    assert session.name is not None
    clean(f"s3://{bucket}/x", sessions=[session.name])
    assert at_rest() == []


def test_an_empty_answer_to_a_bulk_deletion_is_not_believed(
    proxy: FaultProxy, store: InMemoryObjectStore
) -> None:
    """Neither deleted nor refused: each file is deleted by itself."""
    storage = ExternalStorage("s3://bucket/x", object_store=store, file_size=1)
    urls = spill(storage, b"a" * MIB, b"b" * MIB)
    empty = Fixed(
        lambda: Answer.of(200, b"<DeleteResult/>"), lambda call: is_bulk_delete(call.path)
    )
    with proxy.speak(empty):
        storage.delete_spilled_objects(urls)
    assert fsspec.filesystem("s3").find("bucket") == []


def test_a_destroy_that_leaves_files_says_so(
    proxy: FaultProxy, store: InMemoryObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    """The number, the directory, one file with its reason, and what to do."""
    storage = ExternalStorage("s3://bucket/x", object_store=store, file_size=1)
    storage.spill_objects(fill(store, 3, MIB))
    with proxy.inject(Fault.DELETE_DENIED, method="POST"):
        storage.destroy_external_storage()
    assert "3 files are left in s3://bucket/x" in caplog.text
    assert "fsspill clean" in caplog.text


def test_versions_are_named_by_paths_and_by_answers() -> None:
    """Null is the version of what was written without versioning."""
    versions = ObjectVersions(None)
    assert versions.note({"VersionId": "null"}) == versions.note("<html>") == ""
    assert not versions.are_kept
    assert versions.note({"VersionId": "v1"}) == "v1"
    assert versions.note({"VersionId": "null"}) == "null"
    assert versioned_path("b/k", "") == "b/k"
    assert versions.split(versioned_path("b/k", "v1")) == ("b/k", ["v1"])
    versions.are_deletable = False
    assert versions.split(versioned_path("b/k", "v1")) == ("b/k", [""])


async def remove_as_in_2023(fs: Any, container: str, keys: list[str]) -> None:
    """Delete files as adlfs 2023.8 does."""
    async with fs.service_client.get_container_client(container=container) as client:
        for key in keys:
            await client.delete_blob(key)


@pytest.mark.parametrize("old", [False, True])
def test_directories_that_are_objects_are_removed(
    old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Azure's hierarchical namespace makes them with the first file, and keeps them.

    Also with an adlfs of 2023, which cannot delete a single file.
    """
    adlfs = pytest.importorskip("adlfs")
    if old:
        monkeypatch.setattr(adlfs.AzureBlobFileSystem, "_rm_file", AsyncFileSystem._rm_file)
        monkeypatch.setattr(adlfs.AzureBlobFileSystem, "_rm_files", remove_as_in_2023)
    logging.getLogger("azure").setLevel(logging.ERROR)
    with FaultProxy("http://127.0.0.1:1") as proxy, proxy.speak(Fixed(lambda: Answer.of(202))):
        account = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=YQ==;"
        options = {"connection_string": f"{account}BlobEndpoint={proxy.endpoint_url}/a"}
        client = open_client("az://c/p", options)
        client.run(client.remove_directories, ["c/p/s/node", "c/p/s"])
        assert [request.path.partition("?")[0] for request in proxy.requests] == [
            "/a/c/p/s/node",
            "/a/c/p/s",
        ]
