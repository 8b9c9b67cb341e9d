"""Requests to S3, bulk deletion, and errors of S3."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import md5
from typing import Any

import pytest

from fsspill import (
    ExternalStorage,
    InMemoryObjectStore,
    StorageNotFoundError,
    StoragePermissionError,
    StorageUnavailableError,
)
from fsspill.format.digest import Digests
from fsspill.storage.client_pool import open_client
from fsspill.storage.s3 import PartTags
from fsspill.storage.upload_body import UploadBody
from fsspill.testing.contract import split_url
from fsspill.testing.s3_server import S3Server
from tests.altered_answers import alter_s3_answers
from tests.at_rest import keys
from tests.recording import RequestRecorder
from tests.spilling import fill
from tests.timeouts import IMPATIENT, cleanup_limit
from tests.users import only_user

KIB, MIB = 2**10, 2**20


@pytest.mark.parametrize(("tag", "are"), [(f'"{md5(b"abcd").hexdigest()}"', True), ("x-1", False)])
def test_the_first_part_tells_whether_etags_are_digests(tag: str, are: bool) -> None:
    """Of the bytes alone: then a part may be sent twice. No other part is read for that."""
    tags = PartTags()
    assert not tags.are_digests
    tags.note(tag, UploadBody([b"ab", b"cd"]))
    tags.note('"another"', UploadBody([b"x"]))
    assert tags.are_digests == are


def test_creating_a_storage_makes_no_request(
    recorder: RequestRecorder, storage: ExternalStorage
) -> None:
    """An IO worker starts without using the network."""
    assert recorder.methods() == {}


def test_check_makes_four_requests(recorder: RequestRecorder, storage: ExternalStorage) -> None:
    """The head writes, reads, lists and deletes two bytes."""
    storage.check()
    assert recorder.methods() == {"PUT": 1, "GET": 2, "DELETE": 1}


def test_one_request_per_file_per_small_object_and_per_deletion(
    recorder: RequestRecorder, storage: ExternalStorage, store: InMemoryObjectStore
) -> None:
    """One PUT per fused file, one GET per small object, one POST to delete; no HEAD, no LIST."""
    refs = fill(store, 100, 400 * KIB)
    urls = storage.spill_objects(refs)
    files = {split_url(url)[0] for url in urls}
    assert recorder.methods() == {"PUT": len(files)}
    assert len(files) == 5
    for ref, url in zip(refs[:7], urls[:7], strict=True):
        store.delete(ref)
        storage.restore_spilled_objects([ref], [url])
    assert recorder.methods() == {"GET": 7}
    storage.delete_spilled_objects(urls)
    assert recorder.methods() == {"POST": 1}


def test_files_of_two_buckets_are_deleted_by_one_request_each(
    s3_server: S3Server, s3_bucket: str, store: InMemoryObjectStore, recorder: RequestRecorder
) -> None:
    """The deletion of s3fs cannot delete from two buckets in one call."""
    s3_server.create_bucket("second")
    storage = ExternalStorage([f"s3://{s3_bucket}/a", "s3://second/b"], object_store=store)
    urls = storage.spill_objects(fill(store, 4, 8 * MIB))
    recorder.requests()
    storage.delete_spilled_objects(urls)
    assert recorder.methods() == {"POST": 2}
    assert keys(s3_bucket) == keys("second") == []


def test_files_of_two_uris_of_a_bucket_are_deleted_by_one_request(
    s3_bucket: str, store: InMemoryObjectStore, recorder: RequestRecorder
) -> None:
    """Requests are counted by bucket, not by URI."""
    storage = ExternalStorage([f"s3://{s3_bucket}/a", f"s3://{s3_bucket}/b"], object_store=store)
    urls = storage.spill_objects(fill(store, 4, 8 * MIB))
    recorder.requests()
    storage.delete_spilled_objects(urls)
    assert recorder.methods() == {"POST": 1}
    assert keys(s3_bucket) == []


def test_a_missing_bucket_is_reported_by_name(s3_bucket: str) -> None:
    """The FileNotFoundError states that fsspill creates no buckets."""
    with pytest.raises(StorageNotFoundError, match=r"s3://no-such-bucket/x.*never buckets"):
        ExternalStorage("s3://no-such-bucket/x").check()


def test_errors_name_server_and_region(s3_bucket: str, s3_server: S3Server) -> None:
    """S3's own words name neither."""
    host = s3_server.endpoint_url.removeprefix("http://")
    storage = ExternalStorage("s3://no-such-bucket/x")
    with pytest.raises(
        StorageNotFoundError, match=rf"x at {host} \(region us-east-1\): .*HTTP 404"
    ):
        storage.check()


def test_a_refused_connection_is_reported_with_the_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is an OSError that tells what to check."""
    options = {"endpoint_url": "http://127.0.0.1:9", "key": "a", "secret": "b"}
    storage = ExternalStorage("s3://bucket/x", storage_options=options, stall_timeout=IMPATIENT)
    dead = pytest.raises(StorageUnavailableError, match=r"s3://bucket/x.*check the endpoint")
    with cleanup_limit(IMPATIENT), dead:
        storage.check()
    storage.destroy_external_storage()


@pytest.fixture
def strict_server(
    checking_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[S3Server]:
    """Yield a server that knows only one user, who has no permission."""
    with only_user(checking_server, monkeypatch) as server:
        yield server


@pytest.mark.parametrize("right_secret", [False, True])
def test_refused_credentials_raise_permission_errors(
    strict_server: S3Server, monkeypatch: pytest.MonkeyPatch, right_secret: bool
) -> None:
    """A wrong secret and a user without permission raise errors that tell what to do."""
    if not right_secret:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    storage = ExternalStorage("s3://bucket/x")
    with pytest.raises(StoragePermissionError, match=r"s3://bucket/x.*check the credentials"):
        storage.check()
    digest = Digests.of("xxh3_128", [[b"x"]]).parameter()
    with pytest.raises(PermissionError):
        storage.restore_spilled_objects(
            [b"x"], ["s3://bucket/x/session/ray_spilled_objects_1/f?offset=0&size=24&" + digest]
        )


@pytest.fixture
def s3_answers(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the altered answers to S3's calls, by name."""
    return alter_s3_answers(monkeypatch)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"Uploads": None},
        {"Uploads": [{}, {"Key": "p/x"}, {"UploadId": "1"}]},
        {"IsTruncated": True},
        {"IsTruncated": True, "NextKeyMarker": "", "Uploads": []},
        {"IsTruncated": True, "NextKeyMarker": "p/x", "NextUploadIdMarker": "1"},
    ],
)
def test_malformed_listings_of_uploads_end(
    s3_answers: dict[str, Any], answer: dict[str, Any]
) -> None:
    """Uploads without key or id are left out; a page that is its own successor is the last."""
    s3_answers["list_multipart_uploads"] = lambda _, **kwargs: answer
    client = open_client("s3://bucket/p", {})
    assert client.run(client.list_uploads, "bucket/p") == []
