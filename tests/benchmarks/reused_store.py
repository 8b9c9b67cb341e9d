"""An object store whose memory is warm, as Ray's is: shared, mapped and reused."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from fsspill.object_store import FileLike
from fsspill.transfer.base import MIB

__all__ = ["METADATA", "OWNER_ADDRESS", "ReusedStore", "random_bytes"]

METADATA = b"RAW"
OWNER_ADDRESS = bytes(range(64))
"""As long as those that Ray writes, give or take."""


class ReusedStore:
    """Hands out slices of one buffer, and restores every object into one other buffer.

    Parameters
    ----------
    data : memoryview
        What objects are cut from.

    Attributes
    ----------
    sources : mapping
        The data of every object.

    Notes
    -----
    Fresh memory costs a page fault every 4 KiB, which is more than most of what is measured. An
    IO worker of Ray finds the pages of its object store mapped, so here they are as well: only
    the last restored object is kept.
    """

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._restored = memoryview(bytearray(len(data)))
        self._length = 0
        self.sources: Mapping[bytes, memoryview] = {}

    def fill(self, count: int, size: int) -> list[bytes]:
        """Hold `count` objects of `size` bytes from now on, and return their refs."""
        refs = [b"%028d" % number for number in range(count)]
        starts = (number * size for number in range(count))
        slices = (self._data[start : start + size] for start in starts)
        self.sources = dict(zip(refs, slices, strict=True))
        return refs

    def get_if_local(
        self, object_refs: Sequence[bytes], /
    ) -> list[tuple[memoryview, bytes, bytes]]:
        """Return data, metadata and owner address of each object."""
        return [(self.sources[ref], METADATA, OWNER_ADDRESS) for ref in object_refs]

    def put_file_like_object(
        self,
        metadata: bytes,
        data_size: int,
        file_like: FileLike,
        object_ref: Any,
        owner_address: bytes,
        /,
    ) -> None:
        """Read an object in the way of Ray's core worker."""
        view = self._restored[:data_size]
        filled = 0
        while filled < data_size:
            count = file_like.readinto(view[filled:])
            if not count:
                raise EOFError(f"expected {data_size} bytes for {object_ref!r}, found {filled}.")
            filled += count
        self._length = filled

    def verify(self, object_ref: bytes) -> None:
        """Compare the object restored last with its source, and wipe it.

        Raises
        ------
        ValueError
            They differ, or nothing was restored since the last comparison.
        """
        source = self.sources[object_ref]
        same = self._length == len(source)
        for start in range(0, self._length, MIB):
            block = self._restored[start : min(start + MIB, self._length)]
            same = same and bytes(block) == bytes(source[start : start + MIB])
            # Lest the next one passes by what this one left behind.
            block[:] = bytes(len(block))
        self._length = 0
        if not same:
            raise ValueError(f"object {object_ref!r} came back with other bytes than it had")


def random_bytes(nbytes: int) -> memoryview:
    """Return `nbytes` that nothing can compress."""
    data = memoryview(bytearray(nbytes))
    for start in range(0, nbytes, MIB):
        block = data[start : start + MIB]
        block[:] = os.urandom(len(block))
    return data.toreadonly()
