"""Frames: one object as bytes."""

from __future__ import annotations

import array
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspill import CorruptObjectError
from fsspill.format.frame import HEADER_LENGTH, Frame, FrameHeader
from fsspill.testing.contract import decode_frame

lengths = st.integers(0, 2**64 - 1)
short = st.integers(0, 20)
headers = st.builds(lambda a, m, b: struct.pack("<3Q", a, m, b), short, short, short)


@given(address=st.binary(), metadata=st.binary(), buffer=st.binary())
def test_a_frame_decodes_to_its_object(address: bytes, metadata: bytes, buffer: bytes) -> None:
    """An independent decoder finds owner address, metadata and buffer; nbytes is the length."""
    frame = Frame.of(address, metadata, buffer)
    data = b"".join(frame.buffers())
    assert decode_frame(data) == (address, metadata, buffer)
    assert frame.nbytes == len(data) == frame.header.frame_length


@given(a=lengths, m=lengths, b=lengths)
def test_unpack_is_the_inverse_of_pack(a: int, m: int, b: int) -> None:
    """Any three lengths are unpacked to the same values."""
    header = FrameHeader(a, m, b)
    assert FrameHeader.unpack(header.pack(), size=header.frame_length, url="u") == header


@given(data=st.binary(max_size=64) | headers, size=st.integers(0, 100))
def test_a_header_that_contradicts_its_url_is_corrupt(data: bytes, size: int) -> None:
    """Whatever the bytes: either the lengths add up to the URL's size, or it is an error."""
    announced = struct.unpack("<3Q", data[:24]) if len(data) >= 24 else None
    if announced and sum(announced) + 24 == size:
        assert FrameHeader.unpack(data, size=size, url="u") == announced
    else:
        with pytest.raises(CorruptObjectError, match=f"u: expected a frame of {size} bytes"):
            FrameHeader.unpack(data, size=size, url="u")


def test_the_buffer_is_not_copied() -> None:
    """The frame holds a flat view of the object's own memory, whatever its item type."""
    numbers = array.array("d", [1.0, 2.0])
    frame = Frame.of(b"", b"", numbers)
    numbers[1] = 3.0
    assert bytes(frame.buffer) == numbers.tobytes()


def test_an_object_without_data_has_an_empty_buffer() -> None:
    """An object that is metadata only has a buffer of 0 bytes."""
    assert Frame.of(b"a", b"m", None).nbytes == HEADER_LENGTH + 2


@pytest.mark.parametrize("length", [0, 1, 23])
def test_a_truncated_header_is_corrupt(length: int) -> None:
    """Fewer than 24 bytes are not a frame."""
    with pytest.raises(CorruptObjectError, match=f"found {length} bytes"):
        FrameHeader.unpack(bytes(length), size=30, url="u")
