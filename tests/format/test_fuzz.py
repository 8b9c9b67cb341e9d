"""Any bytes and any URL: the format accepts them in full, or refuses them with one error."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspill import CorruptObjectError, create_url_with_offset, parse_url_with_offset
from fsspill.format.compression import Compression, compress
from fsspill.format.frame import FrameHeader
from tests.format.urls import parse_compression
from tests.fuzzing import (
    COMPRESSIBLE,
    at_rest,
    examples_of,
    flipped,
    fuzz,
    near_bytes,
    near_to,
    numbers,
    strings,
)


@fuzz
def test_any_header_is_consistent_or_corrupt(examples: int) -> None:
    """The lengths of an accepted header add up to the size; all others are corrupt."""

    @examples_of(examples)
    @given(data=at_rest, size=numbers)
    def check(data: bytes, size: int) -> None:
        try:
            header = FrameHeader.unpack(data, size=size, url="u")
        except CorruptObjectError:
            assert len(data) < 24 or 24 + sum(struct.unpack("<3Q", data[:24])) != size
        else:
            assert 24 + sum(header) == header.frame_length == size
            assert header.pack() == data[:24]

    check()


def require_codecs() -> None:
    pytest.importorskip("lz4")
    pytest.importorskip("zstandard")


@fuzz
@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_any_block_has_its_planned_length_or_is_corrupt(examples: int, codec: str) -> None:
    """Decompression returns as many bytes as planned, or the block is corrupt."""
    require_codecs()
    right = compress(codec, [COMPRESSIBLE])
    lengths = st.integers(1, 2**20) | st.just(len(COMPRESSIBLE))

    @examples_of(examples)
    @given(data=flipped(right) | st.binary(min_size=1) | near_bytes(right), length=lengths)
    def check(data: bytes, length: int) -> None:
        try:
            found = Compression(codec, length, (len(data),)).decompress(0, [data], "u")
        except CorruptObjectError:
            assert (data, length) != (right, len(COMPRESSIBLE))
        else:
            assert len(found) == length

    check()


@fuzz
def test_any_compression_parameter_round_trips_or_is_corrupt(examples: int) -> None:
    """An accepted parameter has consistent numbers and is written the same way again."""
    require_codecs()
    made = Compression("zstd", 20 * 2**20, (5, 6, 7)).parameter()
    sizes = st.integers(-1, 20) | st.sampled_from([18, 2**23, 2**63, 10**19])
    built = st.lists(sizes, max_size=5).map(lambda found: "lz4=" + ".".join(map(str, found)))

    @examples_of(examples)
    @given(parameter=near_to(made) | built | strings, blocks=st.integers(0, 4))
    def check(parameter: str, blocks: int) -> None:
        try:
            found = parse_compression(f"{parameter}&x=1", size=18, blocks=blocks)
        except ValueError:  # a CorruptObjectError, or a second offset
            return
        if found is None:
            assert not [i for i in parameter.split("&") if i.partition("=")[0] in ("lz4", "zstd")]
        else:
            assert sum(found.sizes) == 18
            assert len(found.sizes) == blocks
            assert found.length <= blocks * 9 * 2**20
            assert found.parameter() in parameter.split("&")

    check()


@fuzz
def test_any_string_round_trips_as_a_url_or_is_refused(examples: int) -> None:
    """A string is a URL that is created the same way again, or a ValueError."""

    @examples_of(examples)
    @given(string=strings | strings.map(lambda base: f"{base}?offset=1&size=2"))
    def check(string: str) -> None:
        try:
            parsed = parse_url_with_offset(string)
        except ValueError:
            return
        assert string.startswith(f"{parsed.base_url}?")
        again = create_url_with_offset(url=parsed.base_url, offset=parsed.offset, size=parsed.size)
        assert parse_url_with_offset(again) == parsed
        query = string[len(parsed.base_url) + 1 :].split("&")
        assert [int(item[7:]) for item in query if item.startswith("offset=")] == [parsed.offset]
        assert [int(item[5:]) for item in query if item.startswith("size=")] == [parsed.size]

    check()
