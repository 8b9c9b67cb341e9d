"""An object store in mapped and reused memory, such as Ray's."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from fsspill.object_store import FileLike, fill
from fsspill.settings import MIB

__all__ = ["METADATA", "OWNER_ADDRESS", "ReusedStore", "random_bytes"]

METADATA = b"RAW"
OWNER_ADDRESS = bytes(range(64))
"""About as long as an owner address of Ray."""


class ReusedStore:
    """An object store of slices of one buffer, which restores every object into another buffer.

    Parameters
    ----------
    data : memoryview
        Data of which objects are slices.

    Attributes
    ----------
    sources : mapping
        The data of every object.

    Notes
    -----
    Fresh memory costs a page fault every 4 KiB, more than most of the measured work. The pages of
    Ray's object store are mapped in its IO workers, and so they are here: only the object restored
    last is kept.
    """

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._restored = memoryview(bytearray(len(data)))
        self._length = 0
        self.sources: Mapping[bytes, memoryview] = {}

    def fill(self, count: int, size: int) -> list[bytes]:
        """Replace all objects by `count` objects of `size` bytes, and return their refs."""
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
        """Read an object as Ray's core worker does."""
        fill(self._restored[:data_size], file_like, object_ref)
        self._length = data_size

    def verify(self, object_ref: bytes) -> None:
        """Compare the object restored last with its source, and overwrite it with zeros.

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
            # Or an object restored later could pass with the bytes of this one.
            block[:] = bytes(len(block))
        self._length = 0
        if not same:
            raise ValueError(f"object {object_ref!r} was restored with other bytes than it had")


def random_bytes(nbytes: int) -> memoryview:
    """Return `nbytes` incompressible bytes."""
    data = memoryview(bytearray(nbytes))
    for start in range(0, nbytes, MIB):
        block = data[start : start + MIB]
        block[:] = os.urandom(len(block))
    return data.toreadonly()
