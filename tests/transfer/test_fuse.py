"""Batches of objects, fused into files."""

from __future__ import annotations

import pytest

from fsspill import ObjectNotFoundError, Settings
from fsspill.transfer.fuse import fuse_objects, match_owners
from fsspill.transfer.spill_file import SpillFile

KIB = 2**10


def fuse(settings: Settings, *buffers: bytes | None, metadata: bytes = b"m") -> list[SpillFile]:
    refs = [bytes([number]) for number in range(len(buffers))]
    owners = [b"owner-%d" % number for number in range(len(buffers))]
    return fuse_objects(refs, owners, [(buffer, metadata) for buffer in buffers], settings)


def test_objects_keep_their_order_and_their_owners() -> None:
    """The files one after another hold the objects of the batch."""
    buffers = [bytes([number]) * KIB for number in range(10)]
    files = fuse(Settings("memory://b", file_size=3 * KIB), *buffers)
    assert len(files) > 1
    frames = [frame for file in files for frame in file.frames]
    assert [bytes(frame.buffer) for frame in frames] == buffers
    assert [frame.owner_address for frame in frames] == [b"owner-%d" % n for n in range(10)]


def test_objects_of_metadata_only_are_fused() -> None:
    """Such an object has no buffer."""
    [file] = fuse(Settings("memory://b"), None)
    [frame] = file.frames
    assert (bytes(frame.buffer), frame.metadata) == (b"", b"m")


def test_a_missing_object_is_named() -> None:
    """Without a buffer and metadata there is no such object: the batch is refused."""
    with pytest.raises(ObjectNotFoundError, match="cannot spill object 01: "):
        fuse_objects([b"\1"], [b""], [(None, b"")], Settings("memory://b"))
    with pytest.raises(ObjectNotFoundError, match="cannot spill object 'name': "):
        fuse_objects(["name"], [b""], [(None, None)], Settings("memory://b"))


@pytest.mark.parametrize(
    ("uri", "shared", "digest"),
    [
        ("memory://b", False, "sha256"),
        ("file:///disk", True, "sha256"),
        ("file:///disk", False, None),
    ],
)
def test_only_node_local_files_have_no_digests(uri: str, shared: bool, digest: str | None) -> None:
    """The raylet reads them itself, by URLs that have no room for digests."""
    [file] = fuse(Settings(uri, shared=shared, digest="sha256"), b"data")
    assert file.encoding.digest == digest


def test_owners_are_empty_or_one_per_object() -> None:
    """Another number is an error that says both."""
    assert match_owners([1, 2], None) == [b"", b""]
    assert match_owners([1, 2], [b"a", b"b"]) == [b"a", b"b"]
    with pytest.raises(ValueError, match="cannot spill 2 objects with 1 owner addresses"):
        match_owners([1, 2], [b"a"])
