"""Plans of files for a batch, and of ranges for a frame."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspill.format.planning import count_blocks, plan_blocks, plan_files, plan_ranges
from fsspill.storage.range_reader import FilesystemReader, ObstoreReader

MIB = 2**20
sizes = st.lists(st.integers(24, 500), max_size=60)


@given(sizes=sizes, file_size=st.integers(1, 1000))
def test_files_cover_the_batch_in_order(sizes: list[int], file_size: int) -> None:
    """Each object is in exactly one file, and the files hold consecutive objects."""
    planned = list(plan_files(sizes, file_size))
    assert [i for part in planned for i in range(part.start, part.stop)] == list(range(len(sizes)))
    assert all(part.start < part.stop for part in planned)


@given(sizes=sizes, file_size=st.integers(1, 1000))
def test_files_are_filled_up_to_the_size(sizes: list[int], file_size: int) -> None:
    """None exceeds the size unless it is one object; no neighbours would fit into one."""
    filled = [(len(sizes[part]), sum(sizes[part])) for part in plan_files(sizes, file_size)]
    assert all(total <= file_size or count == 1 for count, total in filled)
    starts = [sizes[part.start] for part in plan_files(sizes, file_size)]
    for (_, total), following in zip(filled, starts[1:], strict=False):
        assert total + following > file_size


@given(start=st.integers(0, 2**40), length=st.integers(0, 5000), size=st.integers(1, 999))
def test_ranges_cover_the_bytes_in_order(start: int, length: int, size: int) -> None:
    """No gap, no overlap, none empty, all nearly equal, none above the size by more than 1/16."""
    ranges = [range_ for block in plan_ranges([(start, start + length)], size) for range_ in block]
    assert [byte for a, b in ranges for byte in range(a, b)] == list(range(start, start + length))
    assert all(0 < b - a <= size + size // 16 for a, b in ranges)
    assert all(abs((b - a) - length / len(ranges)) < 1 for a, b in ranges)


@pytest.mark.parametrize(
    ("frame", "cheap", "dear"),
    [
        (0, 0, 0),
        (1, 1, 1),
        (MIB + 100, 1, 1),
        (4 * MIB + 100, 4, 3),
        (20 * MIB + 100, 18, 9),
        (200 * MIB + 100, 96, 48),
        (4096 * MIB + 100, 964, 964),
    ],
)
def test_small_frames_and_cheap_requests_have_smaller_ranges(
    frame: int, cheap: int, dear: int
) -> None:
    """Sizes are those of each engine where the user gives none; the header belongs to the frame."""
    for reader, ranges in ((ObstoreReader, cheap), (FilesystemReader, dear)):
        plan = plan_blocks(7, 7 + frame, count_blocks(frame))
        blocks = plan_ranges(plan, None, reader.bytes_per_request)
        assert sum(map(len, blocks)) == ranges


@given(length=st.integers(1, 2**33), per_request=st.integers(0, 10**7))
def test_ranges_have_between_1_and_4_mebibytes(length: int, per_request: int) -> None:
    """However cheap or expensive requests are, ranges stay within these bounds."""
    [ranges] = plan_ranges([(0, length)], None, per_request)
    longest = max(stop - start for start, stop in ranges)
    assert longest <= 4 * MIB + MIB // 4
    assert len(ranges) == 1 or longest >= MIB * 2 // 3


@given(start=st.integers(0, 2**40), length=st.integers(1, 5000), count=st.integers(1, 9))
def test_ranges_do_not_cross_blocks(start: int, length: int, count: int) -> None:
    """Each block of a frame is exactly the bytes of its ranges."""
    blocks = plan_blocks(start, start + length, count)
    expected = [block for block in blocks if block[0] < block[1]]
    planned = plan_ranges(blocks, 100)
    assert [(block[0][0], block[-1][1]) for block in planned] == expected


@pytest.mark.parametrize(("size", "ranges"), [(MIB // 2, 39), (4 * MIB, 6), (8 * MIB, 3)])
def test_a_given_range_size_is_used(size: int, ranges: int) -> None:
    """Whatever requests cost, 20 MiB are split into ranges of that size."""
    for bytes_per_request in (0, 10**6):
        blocks = plan_ranges(plan_blocks(0, 20 * MIB, 3), size, bytes_per_request)
        assert sum(map(len, blocks)) == ranges


def test_ranges_are_coarser_where_requests_are_limited() -> None:
    """Up to whole blocks; a limit that hardly matters changes little, and a given size nothing."""
    plan = plan_blocks(0, 40 * MIB, count_blocks(40 * MIB))
    per_request = ObstoreReader.bytes_per_request

    def count(rate: float, size: int | None = None) -> int:
        return sum(map(len, plan_ranges(plan, size, per_request, rate)))

    assert count(inf) == 40
    assert count(200.0) == len(plan) == 5
    assert 5 < count(3000.0) < 20
    assert count(200.0, MIB) == count(inf, MIB) == 40
