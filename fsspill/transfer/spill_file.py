"""A fused file before it is written, and the outcomes of a write."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

from fsspill.errors import FsspillError
from fsspill.format.compression import is_compressible
from fsspill.format.encoding import Buffers, EncodedFrame, encode_raw, split_buffers
from fsspill.format.frame import Frame
from fsspill.format.url import create_url_with_offset, version_parameter
from fsspill.storage.layout import FileRef

__all__ = ["Encoding", "FailedWrite", "SpillFile", "WrittenFile"]


class Encoding(NamedTuple):
    """The encoding of the frames of files.

    Attributes
    ----------
    digest : str or None
        Algorithm of their digests; None for files that the raylet reads itself.
    codec : str or None
        Codec of the frames that are compressible; None to store all raw.
    """

    digest: str | None
    codec: str | None = None


class SpillFile:
    """A fused file that is to be written. Immutable, but for `release`.

    Parameters
    ----------
    frames : sequence of Frame
        Its objects. They pin memory of the object store until `release` is called.
    encoding : Encoding
        Encoding of the frames.
    names : sequence of str
        Names of the objects, for messages and to know them again.

    Attributes
    ----------
    frames : list of Frame
        As given; empty once released.
    encoding, names
        As given.
    nbytes : int
        Bytes of the file before compression: an upper bound of its length at rest, give or take
        1/250.
    """

    def __init__(
        self, frames: Sequence[Frame], encoding: Encoding, names: Sequence[str] = ()
    ) -> None:
        self.frames = list(frames)
        self.encoding = encoding
        self.names = names
        self.nbytes = sum(frame.nbytes for frame in frames)

    def split(self) -> tuple[SpillFile, SpillFile] | None:
        """Return two files with half of the objects each; None if there is only one object."""
        middle = len(self.frames) // 2
        if not middle:
            return None
        first = SpillFile(self.frames[:middle], self.encoding, self.names[:middle])
        return first, SpillFile(self.frames[middle:], self.encoding, self.names[middle:])

    def buffers(self) -> Iterator[bytes | memoryview]:
        """Yield the whole file as consecutive buffers, uncopied."""
        for frame in self.frames:
            yield from frame.buffers()

    def parts(self, part_size: int) -> Generator[Buffers, None, None]:
        """Yield the file in parts of `part_size` bytes (the last may be shorter), uncopied."""
        sizes = [part_size] * -(-self.nbytes // part_size)
        return split_buffers(self.buffers(), sizes)

    def select_codecs(self) -> list[str | None]:
        """Return the codec of each frame, None for one that does not shrink; compresses samples."""
        codec = self.encoding.codec
        return [
            codec if codec and is_compressible(codec, frame.buffer) else None
            for frame in self.frames
        ]

    def encode_raw(self) -> list[EncodedFrame]:
        """Return the frames as they are stored uncompressed; reads every byte to hash it."""
        return [encode_raw(frame, self.encoding.digest) for frame in self.frames]

    def release(self) -> None:
        """Drop the objects: the memory of the object store is free to be reused."""
        self.frames.clear()


class WrittenFile(NamedTuple):
    """A fused file that is stored in full.

    Attributes
    ----------
    ref : FileRef
        The file.
    frames : list of EncodedFrame
        Its frames, in order.
    abandoned : list of FileRef
        Files that attempts before may have left, or may still write: the caller deletes them.
    """

    ref: FileRef
    frames: list[EncodedFrame]
    abandoned: Sequence[FileRef] = ()

    def urls(self) -> Iterator[str]:
        """Yield the URL of each frame, with its digests and compression."""
        offset = 0
        for frame in self.frames:
            url = create_url_with_offset(url=self.ref.url, offset=offset, size=frame.size)
            yield "&".join([url, *frame.parameters, *version_parameter(self.ref.version)])
            offset += frame.size


class FailedWrite(NamedTuple):
    """A fused file that is not stored.

    Attributes
    ----------
    error : FsspillError
        The reason.
    abandoned : list of FileRef
        Files that its attempts may have left, or may still write: the caller deletes them.
    """

    error: FsspillError
    abandoned: Sequence[FileRef]
