"""Plans of a batch's files, and of a frame's blocks and ranges. Pure functions of sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import inf, isqrt

__all__ = ["count_blocks", "plan_blocks", "plan_files", "plan_ranges"]

BLOCK_SIZE = 8 * 2**20
"""Bytes, give or take, that one digest covers."""

SMALLEST_RANGE, LARGEST_RANGE = 2**20, 2**22
"""Bytes between which the size of ranges is chosen. Finer ones would save less than the round trip
takes, and storage bills and throttles by the request; coarser ones leave connections idle."""

_NODE_BANDWIDTH = 640_000_000
"""Bytes per second that 8 processes of a node move over one connection each, 80 MB/s as S3 grants
one. Where requests are limited, each costs all of them the time of one."""


def plan_files(frame_sizes: Sequence[int], file_size: int) -> Iterator[slice]:
    """Split a batch into fused files of neighbouring objects.

    Parameters
    ----------
    frame_sizes : sequence of int
        Bytes of each frame, in the order of the batch.
    file_size : int
        Bytes that a file may have. A larger frame gets a file of its own.

    Yields
    ------
    slice
        The objects of the next file. The slices cover the batch without gap or overlap, so
        the files written so far always hold a prefix of the batch.
    """
    start = filled = 0
    for index, size in enumerate(frame_sizes):
        if index > start and filled + size > file_size:
            yield slice(start, index)
            start, filled = index, 0
        filled += size
    if start < len(frame_sizes):
        yield slice(start, len(frame_sizes))


def plan_blocks(start: int, stop: int, count: int) -> list[tuple[int, int]]:
    """Split the bytes from `start` to `stop` into `count` blocks of nearly equal length."""
    length = stop - start
    edges = [start + length * index // count for index in range(count + 1)] if count else []
    return list(pairwise(edges))


def count_blocks(length: int) -> int:
    """Return the number of blocks in a frame of `length` bytes.

    Blocks have up to 8 MiB, 1/16 more at most: the header of a frame must not push an object of
    a round size into one block more. A block is held in memory as a whole before it is used; its
    digest takes 22 characters in the URL, so that of an object of 4 GiB has 11 KB.
    """
    return _count(length, BLOCK_SIZE)


def plan_ranges(
    blocks: Sequence[tuple[int, int]],
    range_size: int | None,
    bytes_per_request: int = 0,
    requests_per_second: float = inf,
) -> list[list[tuple[int, int]]]:
    """Split the blocks of a frame into the ranges of requests.

    Parameters
    ----------
    blocks : sequence of (int, int)
        Offsets in the file, in bytes; the second is that of the first byte not wanted.
    range_size : int or None
        Approximate bytes of a range; None to choose.
    bytes_per_request : int
        What one connection moves in the time that a request costs the CPU; 0 if it costs none.
    requests_per_second : float
        Limit of all processes of the node. Ranges then have up to 8 MiB, a whole block.

    Returns
    -------
    list of list of (int, int)
        The ranges of each block, in order, without gap or overlap, of nearly equal length. None
        is empty: a request for an empty range returns the whole file on some filesystems.

    Notes
    -----
    A frame in n concurrent ranges takes the time of one range and that of n requests. The sum
    is smallest for ranges of the square root of frame times `bytes_per_request`: so small frames
    are cut finer than large ones.

    No range is more than 1/16 above the size, for the same reason as with blocks.
    """
    nbytes = sum(stop - start for start, stop in blocks)
    cost = max(bytes_per_request, int(_NODE_BANDWIDTH / requests_per_second))
    best = isqrt(nbytes * cost)
    largest = LARGEST_RANGE if requests_per_second == inf else BLOCK_SIZE
    longest = range_size or largest
    wanted = range_size or min(longest, max(best, SMALLEST_RANGE))

    def count(length: int) -> int:
        return max(_count(length, longest), round(length * 16 / (17 * wanted)))

    return [plan_blocks(start, stop, count(stop - start)) for start, stop in blocks if start < stop]


def _count(length: int, wanted: int) -> int:
    return -(-length // (wanted + wanted // 16))
