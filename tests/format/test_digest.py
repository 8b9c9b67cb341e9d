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
    """What the parameter says is read back, and matches the blocks it was made of."""
    digests = Digests.of(algorithm, blocks)
    found = parse_digests(f"&{digests.parameter()}")
    assert found == digests
    assert all(found.match(index, block) for index, block in enumerate(blocks))


@given(
    st.sampled_from(sorted(ALGORITHMS)), st.binary(min_size=1, max_size=200), st.integers(0, 2**30)
)
def test_one_bit_makes_a_difference(algorithm: str, data: bytes, bit: int) -> None:
    """A block with one bit flipped does not match."""
    digests = Digests.of(algorithm, [[data]])
    wrong = bytearray(data)
    wrong[bit // 8 % len(data)] ^= 1 << bit % 8
    assert not digests.match(0, [bytes(wrong)])


def test_the_digests_are_the_standard_ones() -> None:
    """Of the bytes of a block, however they are cut, as the libraries compute them."""
    blocks = [[b"one", b"", b"block"], [b"another"]]
    assert Digests.of("xxh3_128", blocks).values == (
        xxhash.xxh3_128(b"oneblock").digest(),
        xxhash.xxh3_128(b"another").digest(),
    )
    assert Digests.of("sha256", blocks).values[1] == hashlib.sha256(b"another").digest()


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_a_parameter_is_what_ray_takes(algorithm: str) -> None:
    """No character that Ray's raylet splits a URL at, whatever the bytes; 22 or 43 of them."""
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
def test_a_url_without_digests_is_refused(parameters: str) -> None:
    """Nothing is restored unchecked: no digest, half of one, an unknown or a second one."""
    with pytest.raises(CorruptObjectError, match="expected a URL that carries the digest"):
        parse_digests(parameters)
