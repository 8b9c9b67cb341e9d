"""What moving spilled bytes means: the promises, the limits, the pieces.

`Transfer` is the contract that `fsspill.local` (this machine's directories) and
`fsspill.remote` (everything else that fsspec reaches) fulfil.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from types import TracebackType

from fsspill.errors import ConfigError
from fsspill.frame import Frame
from fsspill.url import ParsedURL

__all__ = ["FrameStream", "Limits", "SpillFile", "Transfer"]

MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """How large the pieces are and how many of them move at once, in one process.

    Attributes
    ----------
    file_size : int
        Bytes that objects are fused up to. A larger object gets a file of its own. Small
        files upload side by side and free their space sooner; large ones cost fewer requests.
    range_size : int
        Bytes of one ranged read. Objects up to half of it are read with exactly one request,
        others in several ranges at once; see `fsspill.planning.plan_ranges`.
    max_requests_in_flight : int
        Requests at once.
    max_bytes_in_flight : int
        Bytes of copies held at once, whatever the size of a batch or an object: on the way
        up the bodies of requests, on the way down ranges that were asked for and not yet
        copied into the object store. Ray runs up to 8 IO worker processes a node, each with
        limits of its own.
    """

    file_size: int = 8 * MIB
    range_size: int = 4 * MIB
    max_requests_in_flight: int = 64
    max_bytes_in_flight: int = 128 * MIB

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise ConfigError(f"cannot use {field.name}={value!r}: expected an integer.")
            if value < 1:
                raise ConfigError(f"cannot use {field.name}={value!r}: expected 1 or more.")
        if self.max_bytes_in_flight < 16 * MIB:
            raise ConfigError(
                f"cannot use max_bytes_in_flight={self.max_bytes_in_flight}: expected at least "
                f"{16 * MIB} bytes, three parts of a multipart upload."
            )
        for name in ("file_size", "range_size"):
            if getattr(self, name) > self.max_bytes_in_flight:
                raise ConfigError(
                    f"cannot use {name}={getattr(self, name)}: expected no more than "
                    f"max_bytes_in_flight={self.max_bytes_in_flight}, or not even one fits."
                )


class SpillFile:
    """A fused file that is to be written.

    Parameters
    ----------
    url : str
        Its base URL.
    frames : sequence of Frame
        Its objects. They pin memory of the object store until `release` is called.
    """

    def __init__(self, url: str, frames: Sequence[Frame]) -> None:
        self.url = url
        self.frame_sizes = [frame.nbytes for frame in frames]
        self.nbytes = sum(self.frame_sizes)
        self._frames = list(frames)

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Yield the whole file as consecutive pieces, uncopied."""
        for frame in self._frames:
            yield from frame.chunks()

    def parts(self, part_size: int) -> Iterator[list[memoryview]]:
        """Yield the file in parts of `part_size` bytes (the last may be shorter), uncopied."""
        part: list[memoryview] = []
        room = part_size
        for chunk in self.chunks():
            view = memoryview(chunk)
            while view:
                part.append(view[:room])
                room -= len(part[-1])
                view = view[len(part[-1]) :]
                if not room:
                    yield part
                    part, room = [], part_size
        if part:
            yield part

    def release(self) -> None:
        """Drop the objects: the memory of the object store is free to be reused."""
        self._frames.clear()


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
        """Wait until all that the limits let be held has arrived."""

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
    One thread at a time, as an IO worker calls. All methods take base URLs that lie under one
    of the configured URIs. All but `remove` and `destroy` raise `FsspillError`.
    """

    @abstractmethod
    def check(self) -> None:
        """Prove that every URI can be written, read and deleted.

        Makes three requests per URI and leaves nothing behind.
        """

    @abstractmethod
    def write_files(self, files: Sequence[SpillFile]) -> tuple[int, Exception | None]:
        """Store files, and release the objects of each as soon as they are copied.

        Returns
        -------
        stored : int
            How many of the leading files are stored in full. What was stored of those behind
            them has been removed as far as the storage allowed.
        error : Exception or None
            Why the next one could not be stored; None if all are.
        """

    @abstractmethod
    def open_frame(self, location: ParsedURL) -> FrameStream:
        """Begin to read a frame."""

    @abstractmethod
    def remove(self, urls: Sequence[str]) -> dict[str, Exception]:
        """Delete files; those that are already gone are fine.

        Returns
        -------
        dict
            The base URLs of files that may still be there, and why. Never raises.
        """

    @abstractmethod
    def list_files(self) -> list[str]:
        """Return the base URLs of the files in the directory of this node, by a listing."""

    @abstractmethod
    def destroy(self) -> None:
        """Remove the directory of this node, and that of the session if it is empty then."""
