"""Compression parameters of URLs, blocks and heuristics: bytes in, bytes out."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspill import CorruptObjectError
from fsspill.format.compression import CODECS, Compression, compress, is_compressible
from fsspill.format.planning import count_blocks
from tests.samples import KIB, MIB, compressible_bytes, random_bytes

lz4_block = pytest.importorskip("lz4.block")
zstandard = pytest.importorskip("zstandard")

URL = "s3://bucket/session/ray_spilled_objects_1/file?offset=0&size=24"

codecs = pytest.mark.parametrize("codec", sorted(CODECS))


@given(
    st.sampled_from(sorted(CODECS)),
    st.lists(st.binary(max_size=200) | st.just(bytes(5000)), min_size=1, max_size=4),
)
def test_blocks_round_trip(codec: str, buffers: list[bytes]) -> None:
    """Decompression returns the bytes, however they were split into buffers before and at rest."""
    data = b"".join(buffers) or b"x"
    at_rest = compress(codec, [memoryview(data)])
    assert compress(codec, [data[:3], data[3:]]) == at_rest
    compression = Compression(codec, len(data), (len(at_rest),))
    assert compression.decompress(0, [at_rest], URL) == data
    assert compression.decompress(0, [at_rest[:5], memoryview(at_rest)[5:]], URL) == data


@given(st.sampled_from(sorted(CODECS)), st.integers(1, 2**35), st.data())
def test_url_carries_lengths(codec: str, length: int, data: st.DataObject) -> None:
    """The parameter is parsed to the same value, and the blocks at rest are contiguous."""
    count = count_blocks(length)
    sizes = (data.draw(st.integers(1, 10**7)),) * count
    compression = Compression(codec, length, sizes)
    url = f"{URL}&{compression.parameter()}"
    assert Compression.of_url(url, size=sum(sizes), blocks=count) == compression
    plan = compression.plan(7)
    assert [stop - start for start, stop in plan] == list(sizes)
    assert [start for start, _ in plan] == [7, *(stop for _, stop in plan[:-1])]


def test_url_without_codec_is_not_compressed() -> None:
    """Other parameters are ignored."""
    assert Compression.of_url(f"{URL}&brotli=1.1&xxh3_128=abc", size=24, blocks=1) is None


@pytest.mark.parametrize(
    "parameters",
    [
        "zstd=",
        "zstd",
        "zstd=100",
        "zstd=100.",
        "zstd=100.24.",
        "zstd=100..24",
        "zstd=100.23",
        "zstd=100.25",
        "zstd=100.12.12",
        "zstd=100.024",
        "zstd=0.24",
        "zstd=100.24.0",
        "zstd=-100.24",
        "zstd=+100.24",
        "zstd=1_0.24",
        "zstd=100.2\u0664",
        "zstd=10000000.24",
        "zstd=9999999999999999999.24",
        "zstd=" + "9" * 5000 + ".24",
        "zstd=100.24&zstd=100.24",
        "zstd=100.24&lz4=100.24",
    ],
)
def test_malformed_parameter_is_refused(parameters: str) -> None:
    """Missing, differently written, wrongly summed, surplus and absurd numbers are corrupt."""
    assert Compression.of_url(f"{URL}&zstd=100.24", size=24, blocks=1)
    with pytest.raises(CorruptObjectError, match="expected one parameter zstd"):
        Compression.of_url(f"{URL}&{parameters}", size=24, blocks=1)


def test_every_block_has_a_digest() -> None:
    """A URL with more blocks than digests is refused."""
    url = f"{URL}&zstd={10 * MIB}.10.14"
    assert Compression.of_url(url, size=24, blocks=2)
    with pytest.raises(CorruptObjectError, match="of its 1 blocks"):
        Compression.of_url(url, size=24, blocks=1)


def zstd_without_length(data: bytes) -> bytes:
    """Compress with zstd to a block that does not announce its decompressed length."""
    context = zstandard.ZstdCompressor().compressobj()
    compressed: bytes = context.compress(data) + context.flush()
    return compressed


def lz4_without_length(data: bytes) -> bytes:
    """Compress with lz4 to a block that does not announce its decompressed length."""
    compressed: bytes = lz4_block.compress(data, store_size=False)
    return compressed


@pytest.mark.parametrize(
    ("codec", "make"),
    [("lz4", lz4_without_length), ("zstd", zstandard.compress), ("zstd", zstd_without_length)],
)
@pytest.mark.parametrize("length", [64 * MIB, 999, 1001])
def test_decompression_bomb_is_bounded(
    codec: str, make: Callable[[bytes], bytes], length: int
) -> None:
    """A block of more or fewer bytes than planned is corrupt, and takes no further memory."""
    at_rest = make(bytes(length))
    compression = Compression(codec, 1000, (len(at_rest),))
    tracemalloc.start()
    try:
        with pytest.raises(CorruptObjectError, match=r"decompress .* to 1000 bytes"):
            compression.decompress(0, [at_rest], URL)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


@codecs
def test_trailing_bytes_are_refused(codec: str) -> None:
    """A compressed block is exactly its bytes: more than that is corrupt."""
    at_rest = compress(codec, [bytes(1000)]) + b"x"
    with pytest.raises(CorruptObjectError, match="decompress"):
        Compression(codec, 1000, (len(at_rest),)).decompress(0, [at_rest], URL)


@codecs
@pytest.mark.parametrize("size", [4 * KIB, 100 * KIB, 20 * MIB])
def test_samples_detect_compressible_data(codec: str, size: int) -> None:
    """Random data is not compressible; compressible data with a random head and tail is."""
    assert not is_compressible(codec, memoryview(random_bytes(size)))
    assert is_compressible(codec, memoryview(compressible_bytes(size)))
    edge = random_bytes(size // 16)
    assert is_compressible(codec, memoryview(edge + bytes(size - 2 * len(edge)) + edge))


@codecs
def test_small_frames_are_not_compressed(codec: str) -> None:
    """Frames below 4 KiB are stored raw."""
    assert not is_compressible(codec, memoryview(bytes(4 * KIB - 1)))
    assert not is_compressible(codec, memoryview(b""))
