"""Strategies for whatever comes in: bytes at rest, URLs, numbers, texts."""

from __future__ import annotations

import struct

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

__all__ = [
    "COMPRESSIBLE",
    "at_rest",
    "examples_of",
    "flipped",
    "fuzz",
    "near_bytes",
    "near_to",
    "numbers",
    "strings",
]

# How many examples: few in every run, many at night.
fuzz = pytest.mark.parametrize(
    "examples",
    [100, pytest.param(1_000, marks=[pytest.mark.nightly, pytest.mark.timeout(1800)])],
)


def examples_of(count: int) -> settings:
    return settings(max_examples=count, suppress_health_check=list(HealthCheck))


# Lengths that nearly fit, and such that overflow.
near = st.integers(0, 40) | st.sampled_from([2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1])
headers = st.builds(lambda *lengths: struct.pack("<3Q", *lengths), near, near, near)
at_rest = st.builds(bytes.__add__, headers, st.binary(max_size=60)) | st.binary(max_size=60)
# Numbers in a URL have up to 19 digits.
numbers = near.filter(lambda number: number < 10**19) | st.just(10**19 - 1)
COMPRESSIBLE = b"".join(b"%d, " % (number * number) for number in range(1500))


def near_bytes(data: bytes) -> st.SearchStrategy[bytes]:
    """Return a strategy for `data` with a part of it replaced."""
    return st.builds(
        lambda start, length, new: data[:start] + new + data[start + length :] or b"x",
        st.integers(0, len(data)),
        st.integers(0, 40),
        st.binary(max_size=8),
    )


def flipped(data: bytes) -> st.SearchStrategy[bytes]:
    """Return a strategy for `data` with one bit inverted."""

    def flip(bit: int) -> bytes:
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        return bytes(changed)

    return st.integers(0, 8 * len(data) - 1).map(flip)


PARTS_OF_URLS = "? & = # / offset= size= offset ?offset=1&size=2 0 7 -1 %3F +1 1_0 0x1 s3://b"
tokens = st.sampled_from(
    [*PARTS_OF_URLS.split(), "9" * 19, "9" * 20, "\u0661", "\uff11", " ", "\n", "\0"]
)
strings = st.lists(tokens | st.text(max_size=5), max_size=12).map("".join)


def near_to(text: str) -> st.SearchStrategy[str]:
    """Return a strategy for `text` with a part of it replaced."""
    instead = st.sampled_from(
        ["", "/", "//", "..", "/../", "\0", "\n", "é", "%2f", "x" * 5000, "#"]
    )
    place = st.integers(0, len(text))
    return st.builds(
        lambda start, length, new: text[:start] + new + text[start + length :],
        place,
        st.integers(0, 40),
        instead | st.text(max_size=4),
    )
