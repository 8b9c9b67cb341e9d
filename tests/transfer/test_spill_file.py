"""Fused files before and after they are written."""

from __future__ import annotations

import pytest

from fsspill.format.frame import Frame
from fsspill.format.url import SpillURL
from fsspill.storage.layout import FileRef, SpillLocation
from fsspill.transfer.spill_file import Encoding, SpillFile, WrittenFile
from tests.samples import KIB, compressible_bytes, random_bytes

LOCATION = SpillLocation("memory://b", prefix="", session_name="s", node_id="n", shared=False)


def make(*objects: bytes | bytearray, codec: str | None = None) -> SpillFile:
    frames = [Frame.of(b"owner", b"m", data) for data in objects]
    return SpillFile(frames, Encoding("xxh3_128", codec))


@pytest.mark.parametrize("part_size", [1, 7, 64, 1000, 10_000])
def test_parts_are_the_file_in_equal_sizes(part_size: int) -> None:
    """Together they are the whole file; only the last may be shorter."""
    file = make(b"first", b"", bytes(range(256)) * 9)
    parts = [b"".join(part) for part in file.parts(part_size)]
    assert b"".join(parts) == b"".join(file.buffers())
    assert {len(part) for part in parts[:-1]} <= {part_size}
    assert 0 < len(parts[-1]) <= part_size
    assert file.nbytes == sum(map(len, parts))


def test_released_files_hold_no_memory() -> None:
    """The object's memory can be resized again; the length is still known."""
    data = bytearray(100)
    file = make(data)
    nbytes = file.nbytes
    with pytest.raises(BufferError):
        data.append(0)
    file.release()
    data.append(0)
    assert (file.frames, file.nbytes) == ([], nbytes)


def test_codecs_are_selected_for_each_frame() -> None:
    """Frames that do not shrink are stored raw; without a codec all are."""
    pytest.importorskip("zstandard")
    objects = compressible_bytes(100 * KIB), random_bytes(100 * KIB), b"small"
    assert make(*objects, codec="zstd").select_codecs() == ["zstd", None, None]
    assert make(*objects).select_codecs() == [None, None, None]


def test_urls_of_a_written_file_are_contiguous() -> None:
    """Each frame begins where the one before it ends, and carries its digests."""
    file = make(b"first", b"", bytes(1000))
    ref = FileRef(LOCATION, f"{LOCATION.node_path}/f")
    urls = list(map(SpillURL.parse, WrittenFile(ref, file.encode_raw()).urls()))
    assert [url.size for url in urls] == [frame.nbytes for frame in file.frames]
    assert [url.offset for url in urls] == [0, urls[0].size, urls[0].size + urls[1].size]
    assert {url.digests().algorithm for url in urls} == {"xxh3_128"}
    assert {url.base_url for url in urls} == {ref.url}
