"""Digests of frames, in URLs."""

from __future__ import annotations

import hashlib

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from fsspill.errors import CorruptObjectError
from fsspill.format.digest import ALGORITHMS, Digests
from tests.format.urls import parse_digests

MIB = 2**20


@given(
    st.sampled_from(sorted(ALGORITHMS)),
    st.lists(st.lists(st.binary(max_size=50), max_size=3), min_size=1, max_size=9),
)
def test_a_url_carries_the_digests(algorithm: str, blocks: list[list[bytes]]) -> None:
    """The parameter is parsed to the digests of the same blocks."""
    digests = Digests.of(algorithm, blocks)
    found = parse_digests(f"&{digests.parameter()}")
    assert found == digests
    assert all(found.match(index, block) for index, block in enumerate(blocks))


@given(
    st.sampled_from(sorted(ALGORITHMS)), st.binary(min_size=1, max_size=200), st.integers(0, 2**30)
)
def test_a_flipped_bit_changes_the_digest(algorithm: str, data: bytes, bit: int) -> None:
    """A block with one bit flipped does not match."""
    digests = Digests.of(algorithm, [[data]])
    wrong = bytearray(data)
    wrong[bit // 8 % len(data)] ^= 1 << bit % 8
    assert not digests.match(0, [bytes(wrong)])


def test_digests_are_those_of_the_standard_libraries() -> None:
    """Those of the bytes of a block, however they are split into buffers."""
    blocks = [[b"one", b"", b"block"], [b"another"]]
    assert Digests.of("xxh3_128", blocks).values == (
        xxhash.xxh3_128(b"oneblock").digest(),
        xxhash.xxh3_128(b"another").digest(),
    )
    assert Digests.of("sha256", blocks).values[1] == hashlib.sha256(b"another").digest()


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_parameters_have_no_character_that_ray_splits_at(algorithm: str) -> None:
    """They have 22 or 43 characters, whatever the bytes."""
    for number in range(200):
        name, _, value = Digests.of(algorithm, [[b"%d" % number]]).parameter().partition("=")
        assert name == algorithm
        assert not set(value) & set("=&?#/+ ")
        assert len(value) == {"xxh3_128": 22, "sha256": 43}[algorithm]


@pytest.mark.parametrize(
    "parameters",
    [
        "",
        "&xxh3_128=",
        "&xxh3_128=abc",
        "&xxh3_128=" + "!" * 22,
        "&md5=" + "a" * 22,
        "&xxh3_128=" + "a" * 22 + "&xxh3_128=" + "a" * 22,
        "&xxh3_128=" + "a" * 22 + "&sha256=" + "a" * 43,
        "&sha256=" + "a" * 22,
    ],
)
def test_a_url_without_valid_digests_is_refused(parameters: str) -> None:
    """No digest, half of one, an unknown and a second one: nothing is restored unverified."""
    with pytest.raises(CorruptObjectError, match="expected a URL that carries the digest"):
        parse_digests(parameters)
