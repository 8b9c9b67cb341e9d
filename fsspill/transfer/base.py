"""What moving spilled bytes means: the promises, the limits, the blocks.

`Transfer` is the contract that `fsspill.transfer.local` (this machine's directories) and
`fsspill.transfer.remote` (everything else that fsspec reaches) fulfil.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import NamedTuple

from fsspill.errors import FsspillError
from fsspill.format.compression import Compression, is_compressible
from fsspill.format.digest import Digests, hash_off_loop
from fsspill.format.encoding import Buffers, EncodedFrame, FrameEncoder, encode_raw, split_buffers
from fsspill.format.frame import Frame
from fsspill.format.planning import plan_blocks
from fsspill.format.url import ParsedURL
from fsspill.settings import MIB as MIB
from fsspill.storage.layout import SpillLocation
from fsspill.storage.retry import Retrier

__all__ = ["FrameRef", "FrameStream", "SpillFile", "Transfer"]


class SpillFile:
    """A fused file that is to be written.

    Parameters
    ----------
    frames : sequence of Frame
        Its objects. They pin memory of the object store until `release` is called.
    algorithm : str or None
        The digests that the frames get; None for files that the raylet reads itself.
    codec : str or None
        What compresses the frames that shrink; None to store all as they are.

    Attributes
    ----------
    url : str
        Its base URL, once `move_to` has given it a place.
    location : SpillLocation
        Where it shall lie, likewise.
    nbytes : int
        Bytes of the file, before compression: no more than that will lie there, give or take
        1/250.
    codec : str or None
        As given; None once `choose` has found that nothing is_compressible.
    stored : list of EncodedFrame
        Its frames as they lie there; empty until it was hashed or stored.
    """

    url: str
    location: SpillLocation

    def __init__(
        self, frames: Sequence[Frame], algorithm: str | None, codec: str | None = None
    ) -> None:
        self.nbytes = sum(frame.nbytes for frame in frames)
        self.codec = codec
        self.stored: list[EncodedFrame] = []
        self._codecs: list[str | None] = []
        self._frames = list(frames)
        self._algorithm = algorithm

    def move_to(self, location: SpillLocation) -> None:
        """Let it lie at `location`, under a new name."""
        self.location = location
        self.url = location.new_file(len(self._frames), self.nbytes)

    async def hash(self) -> None:
        """Hash the frames of a file without codec; let the event loop go on if that takes long."""
        await hash_off_loop(self._algorithm, self.nbytes, self.compute_digests)

    def compute_digests(self) -> None:
        """Hash the frames of a file without codec, once; reads every byte."""
        if not self.stored and not self.codec:
            self.stored = [encode_raw(frame, self._algorithm) for frame in self._frames]

    def choose(self) -> None:
        """Find out, once, which frames shrink; compresses samples of them."""
        if self.codec and not self._codecs:
            codec = self.codec
            self._codecs = [
                codec if is_compressible(codec, f.buffer) else None for f in self._frames
            ]
            self.codec = codec if any(self._codecs) else None

    def pack(self) -> FrameEncoder:
        """Return a pass over a file with codec that was chosen; its outcome goes to `stored`."""
        assert self._algorithm is not None
        return FrameEncoder(self._frames, self._codecs, self._algorithm)

    def buffers(self) -> Iterator[bytes | memoryview]:
        """Yield the whole file as consecutive blocks, uncopied."""
        for frame in self._frames:
            yield from frame.buffers()

    def parts(self, part_size: int) -> Iterator[Buffers]:
        """Yield the file in parts of `part_size` bytes (the last may be shorter), uncopied."""
        sizes = [part_size] * -(-self.nbytes // part_size)
        return split_buffers(self.buffers(), sizes)

    def release(self) -> None:
        """Drop the objects: the memory of the object store is free to be reused."""
        self._frames.clear()


class FrameRef(NamedTuple):
    """What is known of a frame before a byte of it was read.

    Attributes
    ----------
    location : ParsedURL
        Where it lies.
    digests : Digests or None
        What its bytes at rest must be; None for files that the raylet reads itself.
    compression : Compression or None
        How it was compressed; None if it lies there as it is.
    """

    location: ParsedURL
    digests: Digests | None
    compression: Compression | None = None

    @property
    def url(self) -> str:
        """Its URL with offset, for messages: without the digests."""
        return self.location.url

    @property
    def length(self) -> int:
        """Bytes of the frame, before it was compressed if it was."""
        return self.compression.length if self.compression else self.location.size

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """Offsets in the file of the blocks that are checked one by one."""
        if self.compression:
            return self.compression.plan(self.start)
        count = len(self.digests.values) if self.digests else 1
        return plan_blocks(self.start, self.stop, count)

    @property
    def start(self) -> int:
        """Offset in the file of its first byte."""
        return self.location.offset

    @property
    def stop(self) -> int:
        """Offset in the file of the byte behind its last."""
        return self.location.offset + self.location.size


class FrameStream(ABC):
    """The bytes of one frame, read once from the first to the last.

    Every method raises an `FsspillError` that names the URL when the storage fails, and
    `CorruptObjectError` when the file ends before the frame does. None returns short.
    """

    @abstractmethod
    def read(self, length: int) -> bytes:
        """Return the next `length` bytes; fewer only where the frame itself ends."""

    @abstractmethod
    def prefetch(self) -> None:
        """Wait until the whole frame has arrived, or half of what the limits let be held."""

    @abstractmethod
    def readinto(self, buffer: memoryview, /) -> int:
        """Copy at least one byte into `buffer` and return how many."""

    @abstractmethod
    def close(self) -> None:
        """Give up what was not read."""

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
    """Moves fused files between memory and storage.

    Notes
    -----
    One thread at a time, as an IO worker calls; but for `check`, which may be called from any. All
    methods take base URLs that lie under one of the configured URIs.
    """

    @abstractmethod
    def check(self, location: SpillLocation) -> None:
        """Prove that a URI can be written, read and deleted.

        Makes three requests and leaves nothing behind. Raises FsspillError.
        """

    @abstractmethod
    def write_files(
        self, files: Sequence[SpillFile], retriers: Mapping[SpillLocation, Retrier]
    ) -> list[FsspillError | None]:
        """Store files and compute the digests of their frames.

        Parameters
        ----------
        files : sequence of SpillFile
            They keep their objects: the caller releases them.
        retriers : mapping
            The patience with each location.

        Returns
        -------
        list of FsspillError or None
            Why each file is not stored; None if it is, in full. Of a file that is not, something
            may be there: the caller removes it. Once one has failed, no other of its location is
            begun (`RequestSkippedError`).
        """

    @abstractmethod
    def open_frame(self, source: FrameRef) -> FrameStream:
        """Begin to read a frame. Raises FsspillError."""

    def renew(self, base_url: str) -> bool:
        """Look for the credentials of a file's storage anew, after they were refused.

        Returns
        -------
        bool
            Whether that was done, and another try makes sense.
        """
        return False

    @abstractmethod
    def remove(self, urls: Sequence[str], *, seconds: float) -> dict[str, FsspillError]:
        """Delete files; those that are already gone are fine.

        Parameters
        ----------
        urls : sequence of str
            Their base URLs.
        seconds : float
            That it may take in all, its retries included.

        Returns
        -------
        dict
            The base URLs of files that may still be there, and why. Never raises.
        """

    @abstractmethod
    def list_files(self) -> list[str]:
        """Return the base URLs of the files in the directory of this node, by a listing."""

    @abstractmethod
    def write_heartbeat(self, name: str) -> None:
        """Write `SpillLocation.heartbeat_file` under every URI. Raises FsspillError."""

    @abstractmethod
    def destroy(self) -> None:
        """Remove the directory and the heartbeat of this node.

        If nothing of the session is left then but the heartbeat of its head, that goes too.
        """
