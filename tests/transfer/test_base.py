"""References to frames, as their URLs describe them."""

from __future__ import annotations

import pytest

from fsspill import CorruptObjectError
from fsspill.format.encoding import FrameEncoder, encode_raw
from fsspill.format.frame import Frame
from fsspill.format.url import SpillURL
from fsspill.storage.layout import FileRef, SpillLocation
from fsspill.transfer.base import FrameRef
from fsspill.transfer.spill_file import WrittenFile
from tests.samples import MIB, compressible_bytes

LOCATION = SpillLocation("memory://b", prefix="", session_name="s", node_id="n", shared=False)
FILE = FileRef(LOCATION, f"{LOCATION.node_path}/f")


def frame(nbytes: int) -> Frame:
    return Frame.of(b"owner", b"metadata", compressible_bytes(nbytes))


def test_blocks_of_a_raw_frame_cover_it_in_order() -> None:
    """There is one block per digest, and no byte outside of them."""
    first, second = frame(100), frame(20 * MIB)
    written = WrittenFile(FILE, [encode_raw(each, "xxh3_128") for each in (first, second)])
    url = SpillURL.parse(list(written.urls())[1])
    ref = FrameRef.of(url, FILE, verified=True)
    assert (ref.start, ref.stop) == (first.nbytes, first.nbytes + second.nbytes)
    assert ref.nbytes == second.nbytes
    assert ref.digests is not None
    assert len(ref.blocks) == len(ref.digests.values) > 1
    starts, stops = zip(*ref.blocks, strict=True)
    assert (starts[0], stops[-1]) == (ref.start, ref.stop)
    assert starts[1:] == stops[:-1]


def test_blocks_of_a_compressed_frame_are_those_at_rest() -> None:
    """`nbytes` is the length before compression, `stop - start` that at rest."""
    pytest.importorskip("zstandard")
    encoder = FrameEncoder([frame(20 * MIB)], ["zstd"], "xxh3_128")
    sizes = [sum(map(len, block)) for block in encoder]
    [url] = WrittenFile(FILE, encoder.encoded).urls()
    ref = FrameRef.of(SpillURL.parse(url), FILE, verified=True)
    assert [stop - start for start, stop in ref.blocks] == sizes
    assert ref.stop - ref.start == sum(sizes) < ref.nbytes == frame(20 * MIB).nbytes


def test_a_frame_without_verification_is_one_block() -> None:
    """The raylet reads such files too, by URLs without digests."""
    ref = FrameRef.of(SpillURL.parse("/a?offset=3&size=40"), FILE, verified=False)
    assert (ref.digests, ref.compression, ref.blocks) == (None, None, [(3, 43)])


def test_a_verified_frame_needs_digests() -> None:
    """A URL without them is refused before anything is read."""
    with pytest.raises(CorruptObjectError, match="expected a URL that carries the digest"):
        FrameRef.of(SpillURL.parse("/a?offset=3&size=40"), FILE, verified=True)


def test_the_url_for_messages_has_no_digests() -> None:
    """Messages name the file, the offset and the size."""
    ref = FrameRef(FILE, 3, 43, None)
    assert ref.url == "memory://b/s/ray_spilled_objects_n/f?offset=3&size=40"
