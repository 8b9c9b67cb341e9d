"""Samples of data that compresses well, and of data that does not."""

from __future__ import annotations

import random

KIB, MIB = 2**10, 2**20


def random_bytes(nbytes: int, seed: int = 0) -> bytes:
    """Return bytes that no codec makes smaller."""
    return random.Random(seed).randbytes(nbytes)


def compressible_bytes(nbytes: int, seed: int = 0) -> bytes:
    """Return bytes of which every part compresses to about a half."""
    made = random.Random(seed)
    return b"".join(made.randbytes(500) + bytes(500) for _ in range(nbytes // 1000 + 1))[:nbytes]
