"""Frames that were compressed, described in their URLs. Bytes only, no I/O.

::

    <file>?offset=<int>&size=<int>&zstd=<bytes of the frame>.<at rest of block 1>.<of block 2>...

`offset` and `size` are those of the bytes at rest. Each block is compressed by itself, so that
blocks are read concurrently; what is checked against its digest are the bytes at rest, before a
byte of them is decompressed.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from fsspill.errors import ConfigError, CorruptObjectError, MissingPackageError
from fsspill.format.planning import count_blocks, plan_blocks

__all__ = [
    "CODECS",
    "INLINE_DECOMPRESS_BYTES",
    "Compression",
    "check_codec",
    "compress",
    "is_compressible",
]

CODECS = {"lz4": "lz4.block", "zstd": "zstandard"}
"""By the name of the URL's parameter: the module that does it. One core, GiB/s of what is
compressed, on blocks of 8 MiB (measured): ``lz4`` 0.5 to 0.7 and back 1.2 to 2.1, ``zstd`` (level
1) 0.4 and 0.9 to 1.0. At rest, of the bytes before: an Arrow table of ids, timestamps and words 59
and 31 %, pickled records 47 and 35 %, integers below 1,000 as int64 39 and 20 %, random normals 100
and 92 %."""

_ZSTD_LEVEL = 1

SMALLEST_FRAME = 4 * 2**10
"""Bytes under which a frame is stored as it is."""

MAX_RATIO = 0.8
"""What the samples of a frame must shrink to. Compressing takes three times the CPU of a plain
upload (measured): for a tenth of the bytes, as with photographs, that is too much on any link."""

_SAMPLES = 4
_SMALLEST_SAMPLE, _LARGEST_SAMPLE = SMALLEST_FRAME // _SAMPLES, 64 * 2**10
_PARTS_OF_A_BUFFER = 32  # of which each sample is one

INLINE_DECOMPRESS_BYTES = 512 * 2**10
"""Bytes that take 0.5 ms: a thread does not pay below, see `fsspill.format.digest`."""

_NUMBERS = re.compile(r"[1-9][0-9]{0,18}(\.[1-9][0-9]{0,18})+")


class Compression(NamedTuple):
    """Codec and block sizes of a compressed frame.

    Attributes
    ----------
    codec : str
        One of `CODECS`.
    length : int
        Bytes of the frame before.
    sizes : tuple of int
        Bytes at rest of each block, in order. The blocks are those of the frame, nearly equal
        before they were compressed (`fsspill.format.planning`).
    """

    codec: str
    length: int
    sizes: tuple[int, ...]

    def parameter(self) -> str:
        """Return the parameter of a URL, ``name=value``."""
        return f"{self.codec}={'.'.join(map(str, (self.length, *self.sizes)))}"

    @classmethod
    def from_parameter(
        cls, codec: str, value: str, *, size: int, blocks: int
    ) -> Compression | None:
        """Return the compression in a URL's parameter; None if the value does not fit the frame.

        Parameters
        ----------
        codec, value : str
            Name and value of the parameter.
        size : int
            Bytes of the frame at rest, from the URL.
        blocks : int
            Number of digests that the URL carries.
        """
        if not _NUMBERS.fullmatch(value):
            return None
        length, *sizes = map(int, value.split("."))
        if sum(sizes) != size or not len(sizes) == blocks == count_blocks(length):
            return None
        return cls(codec, length, tuple(sizes))

    def plan(self, start: int) -> list[tuple[int, int]]:
        """Return the range of each block at rest, of a frame that begins at `start` of its file."""
        return list(pairwise(accumulate(self.sizes, initial=start)))

    @property
    def longest(self) -> int:
        """Bytes of the longest block before it was compressed."""
        return max(self._lengths)

    @property
    def _lengths(self) -> list[int]:
        blocks = plan_blocks(0, self.length, len(self.sizes))
        return [stop - start for start, stop in blocks]

    def decompress(self, index: int, block: Sequence[bytes | memoryview], url: str) -> bytes:
        """Return the block at `index`, decompressed.

        Parameters
        ----------
        index : int
            Which.
        block : sequence of bytes-like
            Its bytes at rest.
        url : str
            For the message.

        Raises
        ------
        CorruptObjectError
            Not the bytes of a compressed block of that length. Whatever they are, no more memory
            is taken than that length.
        """
        length = self._lengths[index]
        data = _decompress(self.codec, _joined(block), length)
        if len(data) != length:
            raise CorruptObjectError(
                f"cannot restore {url}: expected block {index} of the frame to decompress "
                f"({self.codec}) to {length} bytes, found others. The URL belongs to another file, "
                "or is not as spill_objects returned it."
            )
        return data


def check_codec(codec: object, url: str) -> None:
    """Raise unless `codec` is the name of one whose package is installed.

    Raises
    ------
    ConfigError
        There is no such codec.
    MissingPackageError
        Its package is not installed.
    """
    if not isinstance(codec, str) or codec not in CODECS:
        raise ConfigError(
            f"cannot use compression={codec!r}: expected one of {', '.join(CODECS)}, or None."
        )
    try:
        _library(codec)
    except ImportError as error:
        raise MissingPackageError(
            f"cannot use {url} with compression {codec}: the package for it is not installed in "
            'this Python environment. Install it on every node: pip install "fsspill[compression]"'
        ) from error


def compress(codec: str, block: Sequence[bytes | memoryview]) -> bytes:
    """Compress one block, given as consecutive buffers."""
    data = _joined(block)
    if codec == "lz4":
        compressed: bytes = _library(codec).compress(data, store_size=False)
        return compressed
    # A copy, since zstandard's bytes keep the memory of the longest that they could have become.
    return bytes(memoryview(_library(codec).ZstdCompressor(level=_ZSTD_LEVEL).compress(data)))


def is_compressible(codec: str, buffer: memoryview) -> bool:
    """Return True if `buffer` shrinks enough, by samples spread over it: up to 256 KiB."""
    if len(buffer) < SMALLEST_FRAME:
        return False
    length = min(max(len(buffer) // _PARTS_OF_A_BUFFER, _SMALLEST_SAMPLE), _LARGEST_SAMPLE)
    step = (len(buffer) - length) // (_SAMPLES - 1)
    samples = [buffer[step * number :][:length] for number in range(_SAMPLES)]
    return len(compress(codec, samples)) < MAX_RATIO * length * _SAMPLES


def _library(codec: str) -> Any:
    return importlib.import_module(CODECS[codec])


def _joined(block: Sequence[bytes | memoryview]) -> bytes | memoryview:
    return block[0] if len(block) == 1 else b"".join(block)


def _decompress(codec: str, data: bytes | memoryview, length: int) -> bytes:
    """Return up to `length` bytes; none if `data` cannot be decompressed to so many."""
    return (_decompress_lz4 if codec == "lz4" else _decompress_zstd)(data, length)


def _decompress_lz4(data: bytes | memoryview, length: int) -> bytes:
    library = _library("lz4")
    try:
        found: bytes = library.decompress(data, uncompressed_size=length)
    except library.LZ4BlockError:
        return b""
    return found


def _decompress_zstd(data: bytes | memoryview, length: int) -> bytes:
    library = _library("zstd")
    try:
        # The package takes as much memory as the data announce.
        if library.get_frame_parameters(data).content_size != length:
            return b""
        found: bytes = library.ZstdDecompressor().decompress(data, allow_extra_data=False)
    except library.ZstdError:
        return b""
    return found
