"""`CountingFileSystem` counts operations and bytes."""

from __future__ import annotations

import fsspec
import pytest

from fsspill import InMemoryObjectStore
from fsspill.storage.connection import connect
from tests.testing.wrappers import (
    KIB,
    MEMORY,
    WrapperContract,
    fill,
    make_storage,
    sizes_at_rest,
)


class TestContractThroughCounting(WrapperContract):
    pass


class TestContractThroughCountingOnS3(WrapperContract):
    target = "s3"

    @pytest.fixture
    def uri(self, s3_bucket: str) -> str:
        return f"counting://{s3_bucket}/prefix"


def test_the_storage_uses_the_instance_of_the_test(store: InMemoryObjectStore) -> None:
    """A spill, a restore and a deletion make one request each, and list nothing."""
    fs = fsspec.filesystem("counting", **MEMORY)
    storage = make_storage("counting", MEMORY, store)
    [url] = storage.spill_objects(fill(store, KIB))
    assert fs.counts == {"pipe_file": 1}
    nbytes = fs.bytes_written
    assert sizes_at_rest(storage) == [nbytes]
    fs.reset()
    store.delete(b"0")
    storage.restore_spilled_objects([b"0"], [url])
    assert fs.counts == {"cat_ranges": 1}
    assert (fs.bytes_read, fs.bytes_written) == (nbytes, 0)
    fs.reset()
    storage.delete_spilled_objects([url])
    assert fs.counts == {"rm_file": 1}
    assert (fs.bytes_read, fs.bytes_written) == (0, 0)


def test_blocks_of_a_file_are_counted(
    store: InMemoryObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each block written through an open file counts as one operation, with its bytes."""
    monkeypatch.setattr("fsspill.storage.client.StorageClient.single_put_size", 0)
    monkeypatch.setattr("fsspill.storage.client.STREAM_BLOCK_SIZE", 10 * KIB)
    monkeypatch.setattr("fsspill.transfer.part_source.STREAM_BLOCK_SIZE", 10 * KIB)
    fs = fsspec.filesystem("counting", **MEMORY)
    storage = make_storage("counting", MEMORY, store)
    storage.spill_objects(fill(store, 25 * KIB))
    assert fs.counts == {"open": 1, "write": 3, "close": 1}
    assert sizes_at_rest(storage) == [fs.bytes_written]


def test_failed_operations_are_counted_without_bytes() -> None:
    """A failed operation was a request as well, but transferred no data."""
    fs = fsspec.filesystem("counting", **MEMORY)
    with pytest.raises(FileNotFoundError):
        fs.cat_file("missing")
    assert fs.counts == {"cat_file": 1}
    assert fs.bytes_read == 0


def test_bytes_of_answers_are_counted() -> None:
    """The ranges of a list add up; an error among them counts as no bytes."""
    fs = fsspec.filesystem("counting", **MEMORY)
    fs.pipe_file("a", bytes(10))
    fs.cat_ranges(["a", "missing", "a"], [0, 0, 1], [3, 3, 10], on_error="return")
    assert fs.counts == {"pipe_file": 1, "cat_ranges": 1}
    assert (fs.bytes_written, fs.bytes_read) == (10, 12)


def test_a_renewed_filesystem_shares_the_counts() -> None:
    """Refused credentials lead to a second instance, which counts with the first."""
    first = fsspec.filesystem("counting", **MEMORY)
    renewed = connect("counting://bucket", MEMORY, renew=True).fs
    assert renewed is not first
    renewed.pipe_file("a", b"x")
    assert first.counts == {"pipe_file": 1}


def test_filesystems_of_other_options_count_separately() -> None:
    """Counts belong to the options."""
    first = fsspec.filesystem("counting", **MEMORY)
    second = fsspec.filesystem("counting", **MEMORY, target_options={"global_store": True})
    second.pipe_file("a", b"x")
    assert first.counts == {}
