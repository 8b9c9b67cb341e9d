"""Frames as they are stored in a file: split into blocks, compressed where that pays, hashed."""

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
"""Consecutive bytes: copies are `bytes`, views are the objects' own memory."""


class EncodedFrame(NamedTuple):
    """A frame as it is stored in its file.

    Attributes
    ----------
    size : int
        Bytes at rest.
    parameters : tuple of str
        Parameters of its URL after offset and size, each as ``name=value``.
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
        Codec of each frame, one of `fsspill.format.compression.CODECS`; None to store it raw.
    algorithm : str
        Algorithm of the digests, which are those of the blocks at rest.

    Attributes
    ----------
    encoded : list of EncodedFrame
        The frames that the pass has completed so far.
    block_count : int
        Number of blocks of all frames.

    Notes
    -----
    Iterating yields the file as consecutive blocks, each made when it is asked for: compressed ones
    are copies of up to 8.5 MiB, others the objects' own memory. Every iteration is a pass of its
    own, from the first frame.
    """

    def __init__(
        self, frames: Sequence[Frame], codecs: Sequence[str | None], algorithm: str
    ) -> None:
        self.encoded: list[EncodedFrame] = []
        self.block_count = sum(count_blocks(frame.nbytes) for frame in frames)
        self._frames = frames
        self._codecs = codecs
        self._algorithm = algorithm

    def __iter__(self) -> Generator[Buffers, None, None]:
        self.encoded = []
        for frame, codec in zip(self._frames, self._codecs, strict=True):
            encoded = yield from self._encode(frame, codec)
            self.encoded.append(encoded)

    def _encode(self, frame: Frame, codec: str | None) -> Generator[Buffers, None, EncodedFrame]:
        sizes: list[int] = []
        digests: list[bytes] = []
        for block in _split_frame(frame):
            # Not bound to a local: a suspended generator would keep the last block alive.
            yield self._encode_block(block, codec, sizes, digests)
        parameters = [Digests(self._algorithm, tuple(digests)).parameter()]
        if codec:
            parameters.insert(0, Compression(codec, frame.nbytes, tuple(sizes)).parameter())
        return EncodedFrame(sum(sizes), tuple(parameters))

    def _encode_block(
        self, block: Buffers, codec: str | None, sizes: list[int], digests: list[bytes]
    ) -> Buffers:
        """Return a block as it is stored, and note its size and its digest."""
        at_rest: Buffers = [compress(codec, block)] if codec else block
        sizes.append(sum(map(len, at_rest)))
        digests.append(digest_of(self._algorithm, at_rest))
        return at_rest


def encode_raw(frame: Frame, algorithm: str | None) -> EncodedFrame:
    """Return a frame that is stored uncompressed; reads every byte to hash it.

    Parameters
    ----------
    frame : Frame
        The frame.
    algorithm : str or None
        Algorithm of its digests; None for files that the raylet reads itself, which have none.
    """
    if algorithm is None:
        return EncodedFrame(frame.nbytes, ())
    digests = Digests.of(algorithm, _split_frame(frame))
    return EncodedFrame(frame.nbytes, (digests.parameter(),))


def split_buffers(
    buffers: Iterable[bytes | memoryview], sizes: Iterable[int]
) -> Generator[Buffers, None, None]:
    """Split consecutive buffers into parts of the given sizes, in bytes, without copying."""
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


def _split_frame(frame: Frame) -> Iterator[Buffers]:
    """Split a frame into the blocks that are hashed one by one, without copying."""
    blocks = plan_blocks(0, frame.nbytes, count_blocks(frame.nbytes))
    return split_buffers(frame.buffers(), [stop - start for start, stop in blocks])
