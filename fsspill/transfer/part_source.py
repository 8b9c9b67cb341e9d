"""The source of an upload's bytes: one file, as a whole, in parts, or as a stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple

from fsspill.format.encoding import Buffers, EncodedFrame
from fsspill.storage.client import STREAM_BLOCK_SIZE, StorageClient
from fsspill.storage.retry import Retrier
from fsspill.storage.s3 import MAX_PARTS, PART_SIZE
from fsspill.transfer import cpu
from fsspill.transfer.limiter import InFlightLimiter
from fsspill.transfer.spill_file import SpillFile

__all__ = ["Part", "PartSource", "RawParts", "copied_bytes"]


class Part(NamedTuple):
    """One part of a multipart upload.

    Attributes
    ----------
    number : int
        Its number, from 1.
    buffers : list of buffer
        Its bytes.
    offset : int
        Its place in the file.
    """

    number: int
    buffers: Buffers
    offset: int


class PartSource(ABC):
    """The bytes of one file as they are stored.

    Attributes
    ----------
    max_nbytes : int
        Upper bound of the file's length.
    copies : int
        How many times the bytes of a file are held in memory when it is taken as a whole, besides
        the objects' own.
    frames : list of EncodedFrame
        The frames as they are stored, once `encode` and the upload are done.
    """

    max_nbytes: int
    copies: int
    frames: list[EncodedFrame]

    @property
    def nbytes(self) -> int:
        """Length of the file at rest, once it is encoded."""
        return sum(frame.size for frame in self.frames)

    @abstractmethod
    async def encode(self) -> None:
        """Do the part of the work that can be done while the file is uploaded."""

    @abstractmethod
    async def whole(self) -> Buffers:
        """Return the whole file."""

    @abstractmethod
    def stream(self) -> Generator[Buffers, None, None]:
        """Return the file as consecutive parts, for one attempt to write one after another."""

    @abstractmethod
    def parts(
        self, client: StorageClient, limiter: InFlightLimiter, retrier: Retrier
    ) -> AbstractAsyncContextManager[Sequence[AbstractAsyncContextManager[Part | None]]]:
        """Return the parts of a multipart upload, all of one length but the last.

        They are valid within the context. Each waits for its reservation when it is entered, and
        holds it until it is left; None stands for a part that turned out not to exist.
        """

    def close(self) -> None:  # noqa: B027 (most sources hold nothing)
        """Drop all references to the objects."""


class RawParts(PartSource):
    """The bytes of a file without compression: views of the objects' own memory.

    Parameters
    ----------
    file : SpillFile
        The file.
    """

    copies = 0

    def __init__(self, file: SpillFile) -> None:
        self.max_nbytes = file.nbytes
        self.frames = []
        self._file = file

    async def encode(self) -> None:
        """Hash the frames."""
        digest, nbytes = self._file.encoding.digest, self._file.nbytes
        inline = digest is None or nbytes <= cpu.INLINE_HASH_BYTES[digest]
        self.frames = await cpu.HASH.run(self._file.encode_raw, inline=inline)

    @property
    def nbytes(self) -> int:
        """Length of the file."""
        return self.max_nbytes

    async def whole(self) -> Buffers:
        """Return the whole file."""
        return list(self._file.buffers())

    def stream(self) -> Generator[Buffers, None, None]:
        """Return the file as consecutive parts."""
        return self._file.parts(STREAM_BLOCK_SIZE)

    @asynccontextmanager
    async def parts(
        self, client: StorageClient, limiter: InFlightLimiter, retrier: Retrier
    ) -> AsyncIterator[Sequence[AbstractAsyncContextManager[Part | None]]]:
        """Yield parts of one size; the last may be a little smaller."""
        size = _part_size(self.max_nbytes)
        yield [
            _reserved(Part(index + 1, buffers, index * size), client, limiter)
            for index, buffers in enumerate(self._file.parts(size))
        ]


def copied_bytes(buffers: Buffers) -> int:
    """Return the bytes of memory that buffers take: views are the objects' own."""
    return sum(len(buffer) for buffer in buffers if isinstance(buffer, bytes))


@asynccontextmanager
async def _reserved(
    part: Part, client: StorageClient, limiter: InFlightLimiter
) -> AsyncIterator[Part]:
    async with limiter.reserve(client.body_memory(sum(map(len, part.buffers)))):
        yield part


def _part_size(nbytes: int) -> int:
    """Return the size of nearly equal parts: the header of a frame must not make one of its own."""
    count = min(-(-nbytes // (PART_SIZE + PART_SIZE // 16)), MAX_PARTS)
    return -(-nbytes // count)
