"""The contract of moving spilled bytes.

`Transfer` is what `fsspill.transfer.local` (this machine's directories) and
`fsspill.transfer.remote` (everything else that fsspec reaches) fulfil.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import NamedTuple

from fsspill.errors import FsspillError
from fsspill.format.compression import Compression
from fsspill.format.digest import Digests
from fsspill.format.planning import plan_blocks
from fsspill.format.url import SpillURL, create_url_with_offset
from fsspill.storage.layout import FileRef, SpillLocation
from fsspill.storage.retry import Retrier
from fsspill.transfer.spill_file import FailedWrite, SpillFile, WrittenFile

__all__ = ["FrameRef", "FrameStream", "Transfer"]


class FrameRef(NamedTuple):
    """A frame in a file, as its URL describes it.

    Attributes
    ----------
    file : FileRef
        The fused file.
    start, stop : int
        Offsets in the file of its first byte, and of the byte after its last.
    digests : Digests or None
        Digests of its blocks at rest; None for files that the raylet reads itself.
    compression : Compression or None
        Codec and block sizes; None if it is stored raw.
    """

    file: FileRef
    start: int
    stop: int
    digests: Digests | None
    compression: Compression | None = None

    @classmethod
    def of(cls, url: SpillURL, file: FileRef, *, verified: bool) -> FrameRef:
        """Return the frame that a URL names.

        Parameters
        ----------
        url : SpillURL
            The URL.
        file : FileRef
            Its file.
        verified : bool
            True if the frame's blocks are verified; False for files that the raylet reads itself,
            whose URLs have no room for digests.

        Raises
        ------
        CorruptObjectError, MissingPackageError
            As `SpillURL.digests` and `SpillURL.compression`.
        """
        start, stop = url.offset, url.offset + url.size
        if not verified:
            return cls(file, start, stop, None)
        digests = url.digests()
        return cls(file, start, stop, digests, url.compression(len(digests.values)))

    @property
    def url(self) -> str:
        """URL with offset, for messages: without the digests."""
        size = self.stop - self.start
        return create_url_with_offset(url=self.file.url, offset=self.start, size=size)

    @property
    def nbytes(self) -> int:
        """Bytes of the frame before compression."""
        return self.compression.length if self.compression else self.stop - self.start

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """Offsets in the file of the blocks that are verified one by one."""
        if self.compression:
            return self.compression.plan(self.start)
        count = len(self.digests.values) if self.digests else 1
        return plan_blocks(self.start, self.stop, count)


class FrameStream(ABC):
    """The bytes of one frame, read once from the first to the last.

    Every method raises an `FsspillError` that names the URL when the storage fails, and
    `CorruptObjectError` when the file ends before the frame does. None returns short.
    """

    @property
    @abstractmethod
    def tier(self) -> str:
        """Source of the bytes, as a label of metrics: "bucket", "copy" or "local"."""

    @abstractmethod
    def read(self, length: int) -> bytes:
        """Return the next `length` bytes; fewer only where the frame itself ends."""

    @abstractmethod
    def prefetch(self) -> None:
        """Wait until the whole frame has arrived, or half of what the limits allow to be held."""

    @abstractmethod
    def readinto(self, buffer: memoryview, /) -> int:
        """Copy at least one byte into `buffer` and return how many."""

    @abstractmethod
    def close(self) -> None:
        """Drop what was not read."""

    def __enter__(self) -> FrameStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Transfer(ABC):
    """Movement of fused files between memory and storage.

    Notes
    -----
    One thread at a time, as an IO worker calls; others may call `delete` meanwhile. All files are
    under one of the configured URIs.

    Attributes
    ----------
    tier : str
        Destination of the bytes, as a label of metrics: "bucket" or "local".
    """

    tier: str

    @abstractmethod
    def write(
        self,
        files: Sequence[tuple[SpillFile, FileRef]],
        retriers: Mapping[SpillLocation, Retrier],
    ) -> list[WrittenFile | FailedWrite]:
        """Write files, and compute the digests of their frames.

        Parameters
        ----------
        files : sequence of (SpillFile, FileRef)
            The files and their names. They keep their objects: the caller releases them.
        retriers : mapping
            The retrier of each location.

        Returns
        -------
        list of WrittenFile or FailedWrite
            Each file as it is stored, in full; or the reason why it is not. Either names files that
            the caller deletes. Once one has failed, no other of its location is begun
            (`RequestSkippedError`).
        """

    @abstractmethod
    def open(self, frame: FrameRef) -> FrameStream:
        """Begin to read a frame. Raises FsspillError."""

    @abstractmethod
    def delete(self, files: Sequence[FileRef], *, seconds: float) -> dict[FileRef, FsspillError]:
        """Delete files; those that are already gone are fine.

        Parameters
        ----------
        files : sequence of FileRef
            The files.
        seconds : float
            Time limit, retries included.

        Returns
        -------
        dict
            The files that may still be there, and why. Never raises.
        """

    @abstractmethod
    def list_files(self) -> list[FileRef]:
        """Return the files in the directories of this node, by listing them."""

    @abstractmethod
    def destroy(self) -> None:
        """Remove the directories and the heartbeat of this node.

        If nothing of the session remains then but the heartbeat of its head, that goes too.
        """
