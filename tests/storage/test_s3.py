"""What S3 sees: how many requests, and what is left when something fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import fsspec
import pytest

from fsspill import (
    ExternalStorage,
    InMemoryObjectStore,
    StorageNotFoundError,
    StoragePermissionError,
    StorageUnavailableError,
)
from fsspill.format.digest import Digests
from fsspill.testing.contract import split_url
from fsspill.testing.s3_server import Request, S3Server
from fsspill.transfer import part_source
from tests.at_rest import keys, open_uploads
from tests.timeouts import IMPATIENT, cleanup_limit, limited_attempts

KIB, MIB = 2**10, 2**20


@pytest.fixture
def storage(s3_bucket: str, store: InMemoryObjectStore) -> ExternalStorage:
    return ExternalStorage(f"s3://{s3_bucket}/prefix", object_store=store)


class Recorder:
    """The requests that the server answered since it was made or last asked."""

    def __init__(self, server: S3Server) -> None:
        self._server = server
        self._seen = len(server.requests())

    def methods(self) -> Counter[str]:
        return Counter(request.method for request in self.requests())

    def requests(self) -> list[Request]:
        requests = self._server.requests()[self._seen :]
        self._seen += len(requests)
        return requests


@pytest.fixture
def recorder(s3_server: S3Server, s3_bucket: str) -> Recorder:
    return Recorder(s3_server)


def fill(store: InMemoryObjectStore, count: int, size: int) -> list[bytes]:
    refs = [b"%d-%d" % (size, number) for number in range(count)]
    for number, ref in enumerate(refs):
        store.put(ref, bytes([number % 251]) * size, metadata=b"m")
    return refs


def test_making_a_storage_makes_no_request(recorder: Recorder, storage: ExternalStorage) -> None:
    """An IO worker starts without asking the network."""
    assert recorder.methods() == {}


def test_check_makes_three_requests(recorder: Recorder, storage: ExternalStorage) -> None:
    """The head writes, reads and deletes one byte."""
    storage.check()
    assert recorder.methods() == {"PUT": 1, "GET": 1, "DELETE": 1}


def test_one_request_per_file_per_small_object_and_per_deletion(
    recorder: Recorder, storage: ExternalStorage, store: InMemoryObjectStore
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


def test_a_large_object_is_read_in_ranges_of_exactly_its_bytes(
    recorder: Recorder, storage: ExternalStorage, store: InMemoryObjectStore, s3_bucket: str
) -> None:
    """One GET per range, no HEAD, and not a byte more than the frame."""
    [ref] = fill(store, 1, 10 * MIB)
    urls = storage.spill_objects([ref])
    store.delete(ref)
    recorder.requests()
    storage.restore_spilled_objects([ref], urls)
    requests = recorder.requests()
    assert [(request.method, request.status) for request in requests] == [("GET", 206)] * 10
    assert store.get(ref) == bytes(10 * MIB)


def test_a_deletion_of_files_in_two_buckets(
    s3_server: S3Server, s3_bucket: str, store: InMemoryObjectStore, recorder: Recorder
) -> None:
    """One bulk request for each bucket, though s3fs cannot delete from two at once."""
    s3_server.create_bucket("second")
    storage = ExternalStorage([f"s3://{s3_bucket}/a", "s3://second/b"], object_store=store)
    urls = storage.spill_objects(fill(store, 4, 8 * MIB))
    recorder.requests()
    storage.delete_spilled_objects(urls)
    assert recorder.methods() == {"POST": 2}
    assert keys(s3_bucket) == keys("second") == []


def test_a_deletion_of_files_under_two_uris_of_a_bucket(
    s3_bucket: str, store: InMemoryObjectStore, recorder: Recorder
) -> None:
    """One bulk request, because it is one bucket."""
    storage = ExternalStorage([f"s3://{s3_bucket}/a", f"s3://{s3_bucket}/b"], object_store=store)
    urls = storage.spill_objects(fill(store, 4, 8 * MIB))
    recorder.requests()
    storage.delete_spilled_objects(urls)
    assert recorder.methods() == {"POST": 1}
    assert keys(s3_bucket) == []


def test_a_file_above_the_limit_goes_up_in_parts(
    recorder: Recorder, storage: ExternalStorage, store: InMemoryObjectStore, s3_bucket: str
) -> None:
    """40 MiB go up as a multipart upload of 5 parts side by side, and come back."""
    [ref] = fill(store, 1, 40 * MIB)
    urls = storage.spill_objects([ref])
    assert recorder.methods() == {"POST": 2, "PUT": 5}
    store.delete(ref)
    assert storage.restore_spilled_objects([ref], urls) == 40 * MIB
    assert store.get(ref) == bytes(40 * MIB)
    assert open_uploads(s3_bucket) == []


def test_a_failed_multipart_upload_is_aborted(
    store: InMemoryObjectStore, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the server refuses to complete it, no part stays, and the object is let go."""
    # S3 refuses parts under 5 MiB, at the very end.
    monkeypatch.setattr(part_source, "PART_SIZE", MIB)
    storage = ExternalStorage(f"s3://{s3_bucket}/prefix", object_store=store)
    data = bytearray(33 * MIB)
    store.put(b"x", data)
    with limited_attempts(2), pytest.raises(StorageUnavailableError):
        storage.spill_objects([b"x"])
    store.delete(b"x")
    data.append(0)  # raises BufferError while anybody holds a view
    assert open_uploads(s3_bucket) == []
    assert keys(s3_bucket) == []
    storage.destroy_external_storage()


def test_destroying_aborts_uploads_that_nobody_knows(
    storage: ExternalStorage, s3_bucket: str
) -> None:
    """Those of the node whose id was lost with an answer, or with a worker; and no others."""
    node = storage.files.locations[0].node_directory.removeprefix(f"s3://{s3_bucket}/")
    fs = fsspec.filesystem("s3")
    for key in (f"{node}/file", f"{node}2/file", "prefix/of-others"):
        fs.call_s3("create_multipart_upload", Bucket=s3_bucket, Key=key)
    storage.destroy_external_storage()
    assert open_uploads(s3_bucket) == [
        "prefix/of-others",
        f"{node}2/file",
    ]


@pytest.mark.parametrize("first", [True, False])
def test_a_write_goes_to_the_next_healthy_uri(
    s3_bucket: str, store: InMemoryObjectStore, first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one URI does not take, another gets in the same call; all objects are spilled."""
    monkeypatch.setattr("fsspill.placement.placement.randrange", lambda n: 0)
    uris = [f"s3://{s3_bucket}/good", "s3://no-such-bucket/bad"]
    storage = ExternalStorage(uris[::-1] if first else uris, object_store=store)
    refs = fill(store, 6, 8 * MIB)
    urls = storage.spill_objects(refs)
    assert sorted(keys(s3_bucket)) == sorted(split_url(url)[0][len("s3://") :] for url in urls)
    for ref in refs:
        store.delete(ref)
    assert storage.restore_spilled_objects(refs, urls) == 6 * 8 * MIB
    storage.destroy_external_storage()


def test_a_failed_spill_lets_go_of_the_objects(s3_bucket: str, store: InMemoryObjectStore) -> None:
    """Nothing pins the objects after an error, not even its traceback."""
    storage = ExternalStorage("s3://no-such-bucket/x", object_store=store)
    data = [bytearray(MIB) for _ in range(3)]
    for number, buffer in enumerate(data):
        store.put(number, buffer)
    with pytest.raises(StorageNotFoundError) as caught:
        storage.spill_objects([0, 1, 2])
    for number, buffer in enumerate(data):
        store.delete(number)
        buffer.append(0)  # raises BufferError while anybody holds a view
    assert caught.value is not None
    storage.destroy_external_storage()  # or the probe of the URI goes on while other tests run


def test_a_bucket_that_is_not_seen_is_no_lost_object(
    s3_server: S3Server, s3_bucket: str, store: InMemoryObjectStore
) -> None:
    """A node with the wrong endpoint or account must not take what others see for gone."""
    storage = ExternalStorage(f"s3://{s3_bucket}/x", object_store=store)
    [ref] = fill(store, 1, KIB)
    urls = storage.spill_objects([ref])
    store.delete(ref)
    s3_server.reset()
    invisible = pytest.raises(StorageUnavailableError, match="bucket itself is not visible")
    with limited_attempts(2), invisible:
        storage.restore_spilled_objects([ref], urls)
    s3_server.create_bucket(s3_bucket)
    with pytest.raises(StorageNotFoundError):
        storage.restore_spilled_objects([ref], urls)


def test_a_missing_bucket_is_named(s3_bucket: str) -> None:
    """It is a FileNotFoundError that says that buckets are not made."""
    with pytest.raises(StorageNotFoundError, match=r"s3://no-such-bucket/x.*never buckets"):
        ExternalStorage("s3://no-such-bucket/x").check()


def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection is an OSError that names the URI and says what to check."""
    options = {"endpoint_url": "http://127.0.0.1:9", "key": "a", "secret": "b"}
    storage = ExternalStorage("s3://bucket/x", storage_options=options, stall_timeout=IMPATIENT)
    dead = pytest.raises(StorageUnavailableError, match=r"s3://bucket/x.*check the endpoint")
    with cleanup_limit(IMPATIENT), dead:
        storage.check()
    storage.destroy_external_storage()


@pytest.fixture
def strict_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """Return a server of its own that knows one user, without any right, and no other."""
    botocore = pytest.importorskip("botocore.session")
    with S3Server() as server:
        server.create_bucket("bucket")
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        iam = botocore.get_session().create_client("iam", region_name="us-east-1")
        iam.create_user(UserName="nobody")
        key = iam.create_access_key(UserName="nobody")["AccessKey"]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        server.check_credentials()
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield server
        iam.close()
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.mark.parametrize("right_secret", [False, True])
def test_refused_credentials(
    strict_server: S3Server, monkeypatch: pytest.MonkeyPatch, right_secret: bool
) -> None:
    """A wrong secret, and a user without the right, are PermissionErrors that say what to do."""
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
