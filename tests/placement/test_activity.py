"""Metrics and lines of the log of what a node spills, restores and deletes."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from fsspill import ExternalStorage
from fsspill.format.frame import HEADER_LENGTH
from tests.spilling import restore, spill

SIZES = (10, 3000, 70_000)
BYTES = sum(SIZES) + len(SIZES) * HEADER_LENGTH


def objects() -> list[bytes]:
    return [bytes([number]) * size for number, size in enumerate(SIZES)]


def test_spilled_and_restored_bytes_are_those_of_the_frames(memory_uri: str) -> None:
    """By URI and tier; each batch and each object is an observation of its time."""
    storage = ExternalStorage(memory_uri)
    urls = spill(storage, *objects())
    for url in urls:
        restore(storage, url)
    stats, place = storage.stats(), {"uri": memory_uri, "tier": "bucket"}
    for name in ("fsspill_spilled_bytes", "fsspill_stored_bytes", "fsspill_restored_bytes"):
        assert stats.total(name, **place) == BYTES
    for name in ("fsspill_spilled_objects", "fsspill_restored_objects"):
        assert stats.total(name, **place) == len(SIZES)
    assert stats.total("fsspill_spilled_files", **place) == 1
    assert stats.total("fsspill_spill_seconds_count", tier="bucket") == 1
    assert stats.total("fsspill_restore_seconds_count", tier="bucket") == len(SIZES)
    storage.delete_spilled_objects(urls)
    assert storage.stats().total("fsspill_deleted_files", uri=memory_uri) == 1


def test_the_gain_of_compression_is_what_is_not_stored(memory_uri: str) -> None:
    """Spilled are the bytes before, stored those after; restored again those before."""
    pytest.importorskip("lz4")
    storage = ExternalStorage(memory_uri, compression="lz4")
    [url] = spill(storage, b"a" * 1_000_000)
    restore(storage, url)
    stats = storage.stats()
    assert stats.total("fsspill_spilled_bytes") == 1_000_000 + HEADER_LENGTH
    assert stats.total("fsspill_restored_bytes") == 1_000_000 + HEADER_LENGTH
    assert 0 < stats.total("fsspill_stored_bytes") < 100_000


@pytest.mark.parametrize("shared", [False, True])
def test_a_local_directory_is_a_tier_of_its_own(tmp_path: Path, shared: bool) -> None:
    """Shared between nodes or not; there are no requests."""
    storage = ExternalStorage(f"file://{tmp_path}", shared=shared)
    restore(storage, spill(storage, b"data")[0])
    stats = storage.stats()
    assert stats.total("fsspill_spilled_objects", tier="local") == 1
    assert stats.total("fsspill_restored_objects", tier="local") == 1
    assert stats.total("fsspill_requests") == 0


def test_a_restore_from_a_copy_is_of_that_tier(s3_bucket: str, tmp_path: Path) -> None:
    """Until the copy is wrong, which is counted, and the bucket answers."""
    storage = ExternalStorage(f"s3://{s3_bucket}", cache_dir=tmp_path, cache_max_bytes=10**9)
    [url] = spill(storage, b"data" * 1000)
    restore(storage, url)
    stats = storage.stats()
    assert stats.total("fsspill_restored_objects", tier="copy") == 1
    assert stats.total("fsspill_copied_bytes") == stats.total("fsspill_spilled_bytes") > 0
    assert stats.total("fsspill_copy_bytes") == stats.total("fsspill_spilled_bytes")
    [copy] = tmp_path.rglob("*-multi-*")
    copy.write_bytes(b"x" * copy.stat().st_size)
    restore(storage, url)
    stats = storage.stats()
    assert stats.total("fsspill_restored_objects", tier="bucket") == 1
    assert stats.total("fsspill_digest_mismatches", tier="copy") == 1


def test_evicted_copies_are_counted(s3_bucket: str, tmp_path: Path) -> None:
    """Files and bytes that went to make room for others."""
    storage = ExternalStorage(
        f"s3://{s3_bucket}", cache_dir=tmp_path, cache_max_bytes=100_000, file_size=1
    )
    spill(storage, *[bytes([number]) * 30_000 for number in range(8)])
    stats = storage.stats()
    assert stats.total("fsspill_copy_evictions") >= 1
    evicted = stats.total("fsspill_copy_evicted_bytes")
    assert evicted >= 30_000 * stats.total("fsspill_copy_evictions")
    assert stats.total("fsspill_copy_bytes") <= 100_000


def test_a_restore_that_fails_is_not_counted(memory_uri: str) -> None:
    """Restored is what the object store has."""
    storage = ExternalStorage(memory_uri)
    [url] = spill(storage, b"data")
    storage.delete_spilled_objects([url])
    with pytest.raises(FileNotFoundError):
        restore(storage, url)
    stats = storage.stats()
    assert stats.total("fsspill_restored_objects") == 0
    assert stats.total("fsspill_requests", operation="get", outcome="missing") >= 1


def test_each_spill_and_restore_is_one_line(
    memory_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    """At DEBUG, with words that a program can split."""
    storage = ExternalStorage(memory_uri)
    with caplog.at_level(logging.DEBUG, "fsspill.placement.activity"):
        [url, *_] = spill(storage, *objects())
        restore(storage, url)
    spilled, restored = [record.getMessage() for record in caplog.records]
    words = dict(word.split("=", 1) for word in spilled.split()[1:])
    assert words.pop("seconds")
    assert words == {
        "objects": "3", "files": "1", "bytes": str(BYTES), "stored_bytes": str(BYTES),
        "uris": memory_uri,
    }  # fmt: skip
    assert restored.startswith(f"restored bytes={SIZES[0] + HEADER_LENGTH} tier=bucket seconds=")
    assert "url=memory://" in restored
