"""Several URIs, of which one fails: the others are served."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest

from fsspill import ExternalStorage, StoragePermissionError
from fsspill.storage import client_pool
from fsspill.storage.client import StorageClient
from fsspill.testing.filesystems import FaultyFileSystem, register
from tests.timeouts import PATIENT

OPTIONS = {"target_protocol": "memory"}


@pytest.fixture
def faulty() -> Iterator[FaultyFileSystem]:
    register()
    yield fsspec.filesystem("faulty", **OPTIONS)
    FaultyFileSystem.clear_instance_cache()
    fsspec.filesystem("memory").store.clear()


def two_uris() -> ExternalStorage:
    """Return storage with four files, two under each URI."""
    storage = ExternalStorage(
        ["faulty://a", "faulty://b"],
        session_name="s",
        node_id="n",
        storage_options=OPTIONS,
        file_size=1,
        stall_timeout=PATIENT,
    )
    for number in range(4):
        storage.object_store.put(number, b"data")  # type: ignore[attr-defined]
    return storage


def names(bucket: str) -> list[str]:
    return list(fsspec.filesystem("memory").find(f"/{bucket}"))


@pytest.mark.parametrize("down", ["a", "b"])
def test_files_are_removed_where_another_uri_is_down(
    faulty: FaultyFileSystem,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    down: str,
) -> None:
    """The failure is logged; files of the other URI are removed."""
    storage = two_uris()
    storage.spill_objects(range(4))
    assert names("a")
    assert names("b")
    find = StorageClient.find

    async def refuse(self: StorageClient, directory: str) -> Any:
        if directory.startswith(f"{down}/"):
            raise PermissionError("refused")
        return await find(self, directory)

    monkeypatch.setattr(StorageClient, "find", refuse)
    storage.destroy_external_storage()
    assert [bool(names(bucket)) for bucket in "ab"] == [down == "a", down == "b"]
    assert any(f"{down}/s" in record.getMessage() for record in caplog.records)


def test_every_uri_that_is_down_is_logged(
    faulty: FaultyFileSystem, caplog: pytest.LogCaptureFixture
) -> None:
    """A second failure is not hidden by the first."""
    storage = two_uris()
    storage.spill_objects(range(4))
    faulty.fail("find", PermissionError("refused"))
    with caplog.at_level(logging.WARNING):
        storage.destroy_external_storage()
    assert "cannot list a/s/" in caplog.text
    assert "cannot list b/s/" in caplog.text


@pytest.mark.parametrize("closed", ["a", "b"])
def test_a_uri_that_cannot_be_opened_does_not_stop_the_other(
    faulty: FaultyFileSystem, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    """The credentials of one may be missing: files are written to the other."""
    open_client = client_pool.open_client

    def refuse(uri: str, *arguments: Any, **options: Any) -> Any:
        if uri == f"faulty://{closed}":
            raise StoragePermissionError("no credentials")
        return open_client(uri, *arguments, **options)

    monkeypatch.setattr(client_pool, "open_client", refuse)
    storage = two_uris()
    assert len(storage.spill_objects(range(4))) == 4
    other = "b" if closed == "a" else "a"
    assert len(names(other)) == 4
    storage.destroy_external_storage()
    assert names(other) == []
