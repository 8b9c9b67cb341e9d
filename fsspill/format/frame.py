"""The frame of one object in a fused file, bit for bit as Ray writes it. Bytes only, no I/O.

::

    address_len u64le | metadata_len u64le | buffer_len u64le | owner_address | metadata | buffer

Frames follow one another without a gap. `Frame` is one object to be written, `FrameHeader` the 24
bytes by which it is parsed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from fsspill.errors import CorruptObjectError

__all__ = ["HEADER_LENGTH", "Frame", "FrameHeader"]

_HEADER = struct.Struct("<QQQ")
HEADER_LENGTH = _HEADER.size
"""Bytes of the three lengths that open a frame."""


class FrameHeader(NamedTuple):
    """The lengths, in bytes, of the three parts of a frame."""

    address_length: int
    metadata_length: int
    buffer_length: int

    @property
    def frame_length(self) -> int:
        """Bytes of the whole frame, header included: the ``size`` in its URL."""
        return HEADER_LENGTH + sum(self)

    def pack(self) -> bytes:
        """Return the 24 bytes that open the frame."""
        return _HEADER.pack(*self)

    @classmethod
    def parse(cls, data: bytes) -> FrameHeader:
        """Read the lengths in 24 bytes, whatever they are."""
        return cls(*_HEADER.unpack_from(data))

    @classmethod
    def unpack(cls, data: bytes, *, size: int, url: str) -> FrameHeader:
        """Read the header of the frame that `url` names.

        Parameters
        ----------
        data : bytes
            The first bytes of the frame; those after the 24th are not looked at.
        size : int
            Bytes that the frame must have, from its URL.
        url : str
            For the message.

        Raises
        ------
        CorruptObjectError
            Fewer than 24 bytes, or lengths that do not add up to `size`.
        """
        if len(data) < HEADER_LENGTH:
            raise CorruptObjectError(
                f"cannot restore {url}: expected a frame of {size} bytes that opens with a header "
                f"of {HEADER_LENGTH}, found {len(data)} bytes. The file was truncated or replaced."
            )
        header = cls.parse(data)
        if header.frame_length != size:
            raise CorruptObjectError(
                f"cannot restore {url}: expected a frame of {size} bytes, found a header that "
                f"announces {header.frame_length} (owner address {header.address_length}, metadata "
                f"{header.metadata_length}, buffer {header.buffer_length}). The file was replaced, "
                "or the URL belongs to another file."
            )
        return header


@dataclass(frozen=True)
class Frame:
    """One object on its way into a fused file.

    Attributes
    ----------
    owner_address, metadata : bytes
        As Ray gave them.
    buffer : memoryview
        The object's data as flat bytes, a view of the object store: it pins the object until
        the frame is dropped. Empty for an object that is metadata only.
    """

    owner_address: bytes
    metadata: bytes
    buffer: memoryview

    @classmethod
    def of(cls, owner_address: bytes, metadata: bytes, buffer: object | None) -> Frame:
        """Frame an object as the object store hands it out.

        Parameters
        ----------
        owner_address, metadata : bytes
            Copied if they are not `bytes` yet; they are short.
        buffer : buffer or None
            Anything with the buffer protocol, not copied; None if the object has no data.
        """
        flat = memoryview(b"" if buffer is None else buffer).cast("B")  # type: ignore[arg-type]
        return cls(bytes(owner_address), bytes(metadata), flat)

    @property
    def header(self) -> FrameHeader:
        """The lengths of the three parts."""
        return FrameHeader(len(self.owner_address), len(self.metadata), self.buffer.nbytes)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole frame."""
        return HEADER_LENGTH + len(self.owner_address) + len(self.metadata) + self.buffer.nbytes

    def buffers(self) -> tuple[bytes, memoryview]:
        """Return the bytes of the frame before its buffer, and the buffer, uncopied."""
        return self.header.pack() + self.owner_address + self.metadata, self.buffer
