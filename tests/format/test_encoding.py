"""Frames as they are stored: split into blocks, compressed or raw, hashed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspill.format.compression import Compression
from fsspill.format.digest import Digests
from fsspill.format.encoding import FrameEncoder, encode_raw, split_buffers
from fsspill.format.frame import Frame
from tests.samples import MIB, compressible_bytes

pytest.importorskip("lz4.block")


@given(st.lists(st.binary(max_size=20), max_size=5), st.lists(st.integers(0, 30), max_size=6))
def test_split_buffers_keeps_the_bytes(buffers: list[bytes], sizes: list[int]) -> None:
    """Every part has its size, as far as there are bytes, and together they are those bytes."""
    parts = [b"".join(part) for part in split_buffers(buffers, sizes)]
    data = b"".join(buffers)
    assert b"".join(parts) == data[: sum(sizes)]
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    assert [len(part) for part in parts] == [
        max(0, min(size, len(data) - start)) for start, size in zip(starts, sizes, strict=True)
    ]


def test_compressed_and_raw_frames_are_encoded_in_one_pass() -> None:
    """Sizes and parameters describe the blocks of each frame, in order."""
    large, small = (
        Frame.of(b"owner", b"metadata", data) for data in (compressible_bytes(20 * MIB), b"small")
    )
    encoder = FrameEncoder([large, small], ["lz4", None], "xxh3_128")
    blocks = [b"".join(block) for block in encoder]
    compressed, raw = encoder.stored
    assert len(blocks) == encoder.count
    assert compressed.size == sum(map(len, blocks[:-1])) < large.nbytes
    compression = Compression("lz4", large.nbytes, tuple(map(len, blocks[:-1])))
    digests = Digests.of("xxh3_128", [[block] for block in blocks[:-1]])
    assert compressed.parameters == (compression.parameter(), digests.parameter())
    assert raw == encode_raw(small, "xxh3_128")
    assert blocks[-1] == b"".join(small.buffers())


def test_every_pass_starts_over() -> None:
    """A second pass, after one that was not finished, yields the same blocks and records."""
    frame = Frame.of(b"owner", b"metadata", compressible_bytes(20 * MIB))
    encoder = FrameEncoder([frame], ["lz4"], "xxh3_128")
    next(iter(encoder))
    first = [b"".join(block) for block in encoder]
    stored = encoder.stored
    assert [b"".join(block) for block in encoder] == first
    assert encoder.stored == stored
