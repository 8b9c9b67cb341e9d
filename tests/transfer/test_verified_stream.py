"""Streams of verified blocks, and the errors of blocks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fsspill import CorruptObjectError, StorageNotFoundError, StorageUnavailableError
from fsspill.format.digest import Digests
from fsspill.transfer.verified_stream import (
    BlockStream,
    Buffer,
    bucket_missing_error,
    digest_mismatch_error,
    truncated_error,
    unstable_block_error,
)

URL = "memory://b/f?offset=0&size=9"
BLOCKS: list[list[Buffer]] = [[b"abc", memoryview(b"d")], [b"efgh"], [b"i"]]


class Blocks(BlockStream):
    """A stream of given blocks."""

    tier = "bucket"

    def __init__(self, blocks: Sequence[Sequence[Buffer]]) -> None:
        super().__init__()
        self.left = list(blocks)

    def _next_block(self) -> Sequence[Buffer]:
        return self.left.pop(0) if self.left else ()

    def prefetch(self) -> None:
        """Do nothing: all blocks are there."""


@pytest.mark.parametrize("length", range(1, 11))
def test_read_crosses_blocks_and_is_short_only_at_the_end(length: int) -> None:
    """Any length gives the bytes in order, however they are split into buffers."""
    stream = Blocks(BLOCKS)
    found = iter(lambda: stream.read(length), b"")
    assert list(found) == [b"abcdefghi"[start : start + length] for start in range(0, 9, length)]


def test_readinto_copies_up_to_the_end_of_a_buffer() -> None:
    """It is called until the frame is complete, and always copies at least one byte."""
    stream = Blocks(BLOCKS)
    target = bytearray(9)
    done, counts = 0, []
    while done < 9:
        counts.append(stream.readinto(memoryview(target)[done : done + 2]))
        done += counts[-1]
    assert bytes(target) == b"abcdefghi"
    assert counts == [2, 1, 1, 2, 2, 1]


def test_readinto_beyond_the_end_raises() -> None:
    """To return 0 would loop for ever in Ray."""
    stream = Blocks([])
    with pytest.raises(CorruptObjectError, match="more bytes than the frame has"):
        stream.readinto(memoryview(bytearray(1)))


def test_blocks_are_requested_only_when_they_are_needed() -> None:
    """Reading the header does not wait for the whole frame."""
    stream = Blocks(BLOCKS)
    assert stream.read(3) == b"abc"
    assert len(stream.left) == 2


def test_leaving_the_context_drops_the_buffers() -> None:
    """A stream that was closed holds no memory."""
    data = bytearray(b"abc")
    with Blocks([[memoryview(data)]]) as stream:
        stream.read(1)
    data.append(0)  # raises BufferError while there is a view of it


def test_bytes_that_are_wrong_at_rest_differ_from_bytes_altered_on_their_way() -> None:
    """Equal wrong bytes each time are lost for good; different ones each time may pass."""
    digests = Digests.of("sha256", [[b"abc"]])
    place = (URL, digests, 0, 0, 9)
    altered, unstable = digest_mismatch_error(*place), unstable_block_error(*place)
    assert isinstance(altered, CorruptObjectError)
    assert isinstance(unstable, StorageUnavailableError)
    for error in (altered, unstable):
        assert str(error).startswith(f"cannot restore {URL}: expected bytes 0 to 9 ")
        assert digests.values[0].hex() in str(error)


def test_a_file_in_an_invisible_bucket_is_not_lost() -> None:
    """Its error may pass, that of a truncated file does not."""
    missing = bucket_missing_error(StorageNotFoundError(f"cannot restore {URL}."), "b")
    assert isinstance(missing, StorageUnavailableError)
    assert str(missing).startswith(f"cannot restore {URL}. b itself is not visible")
    truncated = truncated_error(URL, 9, 5)
    assert isinstance(truncated, CorruptObjectError)
    assert "expected a file of at least 9 bytes, found 5" in str(truncated)
