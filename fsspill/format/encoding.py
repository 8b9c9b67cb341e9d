"""Frames as they lie in their file: cut into blocks, compressed where that pays, hashed."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from fsspill.format.compression import Compression, compress
from fsspill.format.digest import Digests, digest_of
from fsspill.format.frame import Frame
from fsspill.format.planning import count_blocks, plan_blocks

__all__ = ["Buffers", "EncodedFrame", "FrameEncoder", "encode_raw", "split_buffers"]

Buffers: TypeAlias = list[bytes | memoryview]
"""Consecutive bytes: those that were copied are `bytes`, the object's own memory a view."""


class EncodedFrame(NamedTuple):
    """A frame in its file.

    Attributes
    ----------
    size : int
        Bytes at rest.
    parameters : tuple of str
        What its URL carries besides offset and size, each as ``name=value``.
    """

    size: int
    parameters: tuple[str, ...]


class FrameEncoder:
    """One pass over the frames of a file that compresses some of them.

    Parameters
    ----------
    frames : sequence of Frame
        The frames.
    codecs : sequence of str or None
        What compresses each, one of `fsspill.format.compression.CODECS`; None to leave it as it is.
    algorithm : str
        Of the digests that their blocks get, over the bytes at rest.

    Attributes
    ----------
    stored : list of EncodedFrame
        What has become of the frames that were passed so far.
    count : int
        How many blocks there are.

    Notes
    -----
    Iterating yields the file as consecutive blocks, each made when it is asked for: compressed ones
    are copies of up to 8.5 MiB, others the object's own memory. A second pass begins anew.
    """

    def __init__(
        self, frames: Sequence[Frame], codecs: Sequence[str | None], algorithm: str
    ) -> None:
        self.stored: list[EncodedFrame] = []
        self.count = sum(count_blocks(frame.nbytes) for frame in frames)
        self._frames = frames
        self._codecs = codecs
        self._algorithm = algorithm

    def __iter__(self) -> Generator[Buffers, None, None]:
        self.stored = []
        for frame, codec in zip(self._frames, self._codecs, strict=True):
            stored = yield from self._pack(frame, codec)
            self.stored.append(stored)

    def _pack(self, frame: Frame, codec: str | None) -> Generator[Buffers, None, EncodedFrame]:
        sizes: list[int] = []
        digests: list[bytes] = []
        for block in split_frame(frame):
            # By no name here: a pass that waits to go on must not hold what it made last.
            yield self._store(block, codec, sizes, digests)
        parameters = [Digests(self._algorithm, tuple(digests)).parameter()]
        if codec:
            parameters.insert(0, Compression(codec, frame.nbytes, tuple(sizes)).parameter())
        return EncodedFrame(sum(sizes), tuple(parameters))

    def _store(
        self, block: Buffers, codec: str | None, sizes: list[int], digests: list[bytes]
    ) -> Buffers:
        """Return a block as it will lie at rest, and note its size and its digest."""
        at_rest: Buffers = [compress(codec, block)] if codec else block
        sizes.append(sum(map(len, at_rest)))
        digests.append(digest_of(self._algorithm, at_rest))
        return at_rest


def encode_raw(frame: Frame, algorithm: str | None) -> EncodedFrame:
    """Return what a frame is in its file that is not compressed; reads every byte to hash it."""
    if algorithm is None:
        return EncodedFrame(frame.nbytes, ())
    return EncodedFrame(frame.nbytes, (Digests.of(algorithm, split_frame(frame)).parameter(),))


def split_frame(frame: Frame) -> Iterator[Buffers]:
    """Cut a frame into the blocks that are checked one by one, uncopied."""
    blocks = plan_blocks(0, frame.nbytes, count_blocks(frame.nbytes))
    return split_buffers(frame.buffers(), [stop - start for start, stop in blocks])


def split_buffers(buffers: Iterable[bytes | memoryview], sizes: Iterable[int]) -> Iterator[Buffers]:
    """Cut consecutive buffers of memory into parts of the given sizes, uncopied."""
    views = deque(memoryview(buffer) for buffer in buffers if len(buffer))
    for size in sizes:
        part: Buffers = []
        room = size
        while room and views:
            view = views.popleft()
            part.append(view[:room])
            if len(view) > room:
                views.appendleft(view[room:])
            room -= len(part[-1])
        yield part
