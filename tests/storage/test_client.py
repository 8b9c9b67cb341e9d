"""Operations that every filesystem has."""

from __future__ import annotations

import asyncio
import ftplib
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from fsspill import (
    ExternalStorage,
    FsspillError,
    InMemoryObjectStore,
    StorageNotFoundError,
    StoragePermissionError,
    StorageUnavailableError,
)
from fsspill.storage.client import StorageClient
from fsspill.storage.client_pool import open_client
from tests import virtual_time
from tests.altered_answers import refuse_deletion
from tests.at_rest import files
from tests.faults.dialects import Fixed, answer_with_code
from tests.faults.fault_proxy import FaultProxy


def delete(uri: str, paths: Sequence[str]) -> dict[str, FsspillError]:
    client = open_client(uri, {})
    return client.run(client.delete, paths, 8)


@pytest.mark.parametrize("size", [None, "12", "missing"])
def test_an_answer_without_a_size_is_a_transient_error(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch, size: Any
) -> None:
    """Such an answer does not tell how long the file is."""
    client = open_client(f"s3://{s3_bucket}/p", {})

    async def info(path: str) -> dict[str, Any]:
        return {} if size == "missing" else {"size": size}

    monkeypatch.setattr(client.connection.fs, "_info", info)
    with pytest.raises(StorageUnavailableError, match="expected a number of bytes"):
        client.run(client.size, f"{s3_bucket}/p/a")


def test_names_are_never_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deleting ``[ab]*`` deletes the file of that name alone; failures have their own paths."""
    names = ["[ab]*", "a", "b", "c"]
    for name in names:
        (tmp_path / name).write_bytes(b"abc")
    refuse_deletion(monkeypatch).add("c")
    failures = delete(
        f"file://{tmp_path}", [f"{tmp_path}/{name}" for name in ("[ab]*", "c", "missing")]
    )
    assert {path: type(error) for path, error in failures.items()} == {
        f"{tmp_path}/c": StoragePermissionError
    }
    assert sorted(path.name for path in files(tmp_path)) == ["a", "b", "c"]


@pytest.fixture
def client(memory_uri: str) -> StorageClient:
    return open_client(memory_uri, {})


@pytest.fixture(params=["memory", "file", "s3"])
def any_client(request: pytest.FixtureRequest, memory_uri: str, tmp_path: Path) -> StorageClient:
    if request.param == "s3":
        return open_client(f"s3://{request.getfixturevalue('s3_bucket')}/p", {})
    return open_client({"memory": memory_uri, "file": f"file://{tmp_path}/p"}[request.param], {})


def test_a_file_is_stored_read_and_deleted(any_client: StorageClient) -> None:
    """Its directory is created where there are any; deleting it again succeeds."""
    path = f"{any_client.root}/new/directory/file"
    any_client.run(any_client.put, path, b"0123456789")
    assert any_client.run(any_client.size, path) == 10
    assert any_client.run(any_client.read, path, 4) == b"0123"
    for _ in range(2):
        any_client.run(any_client.delete_file, path)
    assert any_client.run(any_client.find, any_client.root) == {}


def test_listings_have_the_files_below_and_the_entries_within(any_client: StorageClient) -> None:
    """`find` descends, `list_directory` does not; a missing directory has no entries."""
    root = any_client.root
    for name in ("a", "d/b", "d/e/c"):
        any_client.run(any_client.put, f"{root}/{name}", b"x")
    found = any_client.run(any_client.find, root)
    assert sorted(path.lstrip("/") for path in found) == [
        f"{root}/{name}".lstrip("/") for name in ("a", "d/b", "d/e/c")
    ]
    entries = any_client.run(any_client.list_directory, f"{root}/d")
    assert sorted(entries) == [f"{root}/d/b", f"{root}/d/e"]
    assert any_client.run(any_client.list_directory, f"{root}/missing") == {}
    assert any_client.run(any_client.find, f"{root}/missing") == {}


def test_only_empty_directories_are_removed(tmp_path: Path) -> None:
    """One with a file stays, and that is no error."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_bytes(b"")
    client = open_client(f"file://{tmp_path}", {})
    client.run(client.remove_directories, [f"{tmp_path}/{name}" for name in ("empty", "full", "x")])
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_a_failed_stream_is_not_committed(s3_bucket: str) -> None:
    """An error of the parts is raised; a filesystem that can discard an open file has none."""
    client = open_client(f"s3://{s3_bucket}/p", {})

    def parts() -> Generator[list[bytes | memoryview], None, None]:
        yield [b"first"]
        raise ValueError("no more")

    path = f"{client.root}/file"
    with pytest.raises(ValueError, match="no more"):
        client.run(client.write_stream, path, parts, lambda nbytes: None)
    assert client.run(client.find, client.root) == {}


def test_a_stream_reports_its_bytes(client: StorageClient) -> None:
    """The totals grow to the length of the file."""
    totals: list[int] = []

    def parts() -> Generator[list[bytes | memoryview], None, None]:
        yield [b"ab", memoryview(b"c")]
        yield [b"de"]

    path = f"{client.root}/file"
    client.run(client.write_stream, path, parts, totals.append)
    assert totals == [3, 5]
    assert client.run(client.read, path, 10) == b"abcde"


@pytest.mark.parametrize("bucket", ["bucket", "no-such-bucket"])
def test_a_missing_bucket_is_detected(s3_bucket: str, bucket: str) -> None:
    """The bucket itself is asked for, not a file in it."""
    client = open_client(f"s3://{bucket}/p", {})
    assert client.run(client.is_bucket_missing) == (bucket != s3_bucket)


def test_a_pass_that_takes_too_long_is_not_made_again_in_full() -> None:
    """Files that were deleted before it was cancelled are done: many of them need several."""
    client = open_client("memory://x", {})
    requests: Counter[str] = Counter()

    async def delete_file(path: str) -> None:
        requests[path] += 1
        await asyncio.sleep(1.0)

    client.delete_file = delete_file  # type: ignore[method-assign]
    paths = [f"/x/{number}" for number in range(15)]
    failures, seconds = virtual_time.run(client.delete_with_retry(paths, 1, 20.0))
    assert failures == {}
    assert seconds < 20
    assert requests.total() <= len(paths) + 1


def test_a_deletion_that_fails_at_once_ends_in_time() -> None:
    """Also where an attempt fails at the very moment at which the time is over."""
    client = open_client("memory://x", {})

    async def delete(
        paths: Sequence[str], max_requests: int, failures: dict[str, FsspillError]
    ) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() > 7.0:
            pytest.fail("goes on without end")
        # Due after the limit, and within the resolution of the clock: in the same step.
        await asyncio.sleep(1.0 - loop.time() % 1.0 + 5e-10)

    client.delete = delete  # type: ignore[method-assign,assignment]
    failures, seconds = virtual_time.run(client.delete_with_retry(["/x/a"], 1, 5.0))
    assert list(failures) == ["/x/a"]
    assert seconds < 7.0


@pytest.mark.parametrize("uri", ["s3://bucket/p", "gs://bucket/p"])
def test_a_listing_of_a_bucket_that_is_not_there_is_not_empty(uri: str) -> None:
    """Files that cannot be seen must not count as removed."""
    pytest.importorskip({"s3": "s3fs", "gs": "gcsfs"}[uri.partition("://")[0]])
    with FaultProxy("http://127.0.0.1:1") as proxy:
        options: dict[str, Any] = {"endpoint_url": proxy.endpoint_url}
        options |= {"token": "anon"} if uri.startswith("gs") else {"key": "a", "secret": "b"}
        client = open_client(uri, options)
        missing = Fixed(lambda: answer_with_code(404, "NoSuchBucket"))
        with proxy.speak(missing), pytest.raises(FileNotFoundError):
            client.run(client.find, client.root)


class OwnError(OSError):
    """Like those of SMB, which have the number of FileNotFoundError and not its class."""


class OwnErrorsFileSystem(LocalFileSystem):  # type: ignore[misc]
    """A local filesystem whose errors have a class of their own."""

    protocol = "ownerrors"
    make_error: Callable[[Exception], Exception]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(str(path).removeprefix("ownerrors://")))

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in ("_open", "pipe_file", "cat_file", "rm_file", "info", "ls", "find"):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            try:
                return found(*arguments, **options)
            except FileNotFoundError as error:
                raise type(self).make_error(error) from None

        return call


@pytest.mark.parametrize(
    "make_error",
    [
        lambda error: OwnError(2, str(error)),
        lambda error: ftplib.error_perm(f"550 {error}"),
        lambda error: FileNotFoundError(str(error)),
    ],
    ids=["smb", "ftp", "python"],
)
def test_directories_are_made_whatever_class_says_that_they_are_missing(
    make_error: Callable[[Exception], Exception], tmp_path: Path, store: InMemoryObjectStore
) -> None:
    """Filesystems such as SMB and FTP have errors of their own: files are spilled and deleted."""
    fsspec.register_implementation("ownerrors", OwnErrorsFileSystem, clobber=True)
    OwnErrorsFileSystem.make_error = staticmethod(make_error)
    storage = ExternalStorage(f"ownerrors://{tmp_path}/new/spill", object_store=store)
    storage.check()
    store.put(b"a", b"data")
    urls = storage.spill_objects([b"a"])
    store.delete(b"a")
    storage.restore_spilled_objects([b"a"], urls)
    assert bytes(store.get(b"a") or b"") == b"data"
    storage.delete_spilled_objects(urls * 2)
    with pytest.raises(StorageNotFoundError):
        storage.restore_spilled_objects([b"a"], urls)
    storage.destroy_external_storage()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
