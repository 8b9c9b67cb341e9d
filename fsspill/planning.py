"""How a batch becomes files, and a frame becomes ranged reads. Pure functions of sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

__all__ = ["plan_files", "plan_ranges"]

_MEDIUM_RANGES = 8


def plan_files(frame_sizes: Sequence[int], file_size: int) -> Iterator[slice]:
    """Cut a batch into fused files of neighbouring objects.

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


def plan_ranges(start: int, stop: int, range_size: int) -> list[tuple[int, int]]:
    """Cut the bytes from `start` to `stop` into ranges of nearly equal length.

    Parameters
    ----------
    start, stop : int
        Offsets in the file, in bytes; `stop` is the first byte not wanted.
    range_size : int
        Bytes that a range may have, give or take.

    Returns
    -------
    list of (int, int)
        In order, without gap or overlap. None is empty: a request for an empty range returns
        the whole file on some filesystems.

    Notes
    -----
    Up to half of `range_size` is one range. Above, medium frames are cut finer than large ones:
    down to half of `range_size` if that gives them up to 8 ranges, since a frame of 20 MiB is
    bound by the bandwidth of its connections, one of 200 MiB by the cost of requests (measured at
    30 ms and 80 MB/s a connection: 20 MiB in 4 MiB ranges 228 MiB/s, in 2 MiB ranges 283).

    No range is more than 1/16 above `range_size`: the header of a frame must not push an object
    of a round size into one range more.
    """
    length = stop - start
    wanted = max(range_size // 2, min(range_size, length // _MEDIUM_RANGES), 1)
    count = -(-length // (wanted + wanted // 16))
    edges = [start + length * index // count for index in range(count + 1)] if count else []
    return list(pairwise(edges))
