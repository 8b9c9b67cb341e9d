"""The look into spilled files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsspill import (
    ExternalStorage,
    InMemoryObjectStore,
    InvalidArgumentError,
    StorageNotFoundError,
)
from fsspill.inspection import InspectedFile, inspect
from tests.recording import RequestRecorder
from tests.samples import compressible_bytes, random_bytes

OWNER = b"\x0a\x1c" * 60
SIZE = 20_000
FRAME = 24 + len(OWNER) + len(b"PYTHON") + SIZE


def spill(
    uri: Path | str, objects: Sequence[bytes] = (), **parameters: Any
) -> tuple[str, list[str]]:
    """Return the base URL of a file with the frames of three objects, and their URLs."""
    store = InMemoryObjectStore()
    storage = ExternalStorage(
        uri,
        object_store=store,
        session_name="session",
        node_id="node",
        shared=isinstance(uri, Path),
        **parameters,
    )
    refs = []
    for number, data in enumerate(objects or [random_bytes(SIZE, seed) for seed in range(3)]):
        refs.append(str(number).encode())
        store.put(refs[-1], data, metadata=b"PYTHON")
    urls = [url.decode() for url in storage.spill_objects(refs, [OWNER] * len(refs))]
    [base_url] = {url.partition("?")[0] for url in urls}
    return base_url, urls


def inspected(*targets: str) -> InspectedFile:
    [file] = inspect(targets)
    return file


def offsets(file: InspectedFile) -> list[tuple[int, int]]:
    return [(frame.offset, frame.size) for frame in file.frames]


def verdicts(file: InspectedFile) -> list[str]:
    return [frame.verdict for frame in file.frames]


def test_the_frames_of_a_file_are_found_without_urls(tmp_path: Path) -> None:
    """With the owner and the metadata of each; the digests are not in the file."""
    path, _ = spill(tmp_path)
    file = inspected(path)
    assert file.is_sound
    assert (file.url, file.nbytes, file.gaps) == (path, 3 * FRAME, [])
    assert (file.named_objects, file.named_bytes) == (3, 3 * FRAME)
    assert offsets(file) == [(0, FRAME), (FRAME, FRAME), (2 * FRAME, FRAME)]
    for frame in file.frames:
        assert frame.header == (len(OWNER), len(b"PYTHON"), SIZE)
        assert (frame.owner_address, frame.metadata) == (OWNER, b"PYTHON")
        assert (frame.verdict, frame.codec, frame.problem) == ("unchecked", None, "")


def test_a_relative_path_and_a_link_name_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user has named them: unlike a name that is found in a directory, they are followed."""
    path, urls = spill(tmp_path)
    (tmp_path / "link").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    file = inspected("link", os.path.relpath(path), f"file://{path}", urls[1])
    assert file.url == path
    assert verdicts(file) == ["unchecked", "right", "unchecked"]


def test_frames_of_given_urls_are_verified(tmp_path: Path) -> None:
    """And the others are found between them."""
    _, urls = spill(tmp_path)
    progress: list[tuple[str, int, int]] = []
    [file] = inspect(urls[::2], progress=lambda *step: progress.append(step))
    assert file.is_sound
    assert offsets(file) == [(0, FRAME), (FRAME, FRAME), (2 * FRAME, FRAME)]
    assert verdicts(file) == ["right", "unchecked", "right"]
    assert [frame.algorithm for frame in file.frames] == ["xxh3_128", None, "xxh3_128"]
    assert file.frames[0].owner_address == OWNER
    assert progress[0] == ("finding frames", 0, 0)
    assert progress[-1] == ("MiB verified", 1, 1)


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_compressed_frames_are_described_by_their_urls_only(tmp_path: Path, codec: str) -> None:
    """Without them they are no frames, though the file may well be right."""
    pytest.importorskip({"zstd": "zstandard", "lz4": "lz4"}[codec])
    objects = [compressible_bytes(SIZE), random_bytes(SIZE), compressible_bytes(SIZE)]
    path, urls = spill(tmp_path, objects, compression=codec)
    file = inspected(*urls)
    assert file.is_sound
    assert [frame.codec for frame in file.frames] == [codec, None, codec]
    assert verdicts(file) == ["right"] * 3
    assert [frame.header for frame in file.frames] == [(len(OWNER), len(b"PYTHON"), SIZE)] * 3
    assert [frame.metadata for frame in file.frames] == [b"PYTHON"] * 3
    file = inspected(path)
    assert not file.is_sound
    [gap] = file.gaps
    assert (gap.start, gap.stop) == (0, Path(path).stat().st_size)
    assert "compressed" in gap.reason
    # One URL is enough to find what follows it, up to the next that is compressed.
    file = inspected(urls[0])
    assert verdicts(file) == ["right", "unchecked"]
    assert len(file.gaps) == 1


def test_an_altered_frame_is_named(tmp_path: Path) -> None:
    """With the bytes that are wrong; the others are right."""
    path, urls = spill(tmp_path)
    with Path(path).open("r+b") as file:
        file.seek(2 * FRAME - 1)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([last ^ 1]))
    found = inspected(*urls)
    assert not found.is_sound
    assert verdicts(found) == ["right", "wrong", "right"]
    assert f"bytes {FRAME} to {2 * FRAME}" in found.frames[1].problem


@pytest.mark.parametrize("missing", [1, FRAME - 1, FRAME - 24, FRAME, FRAME + 1])
def test_a_file_that_was_cut_off_is_told(tmp_path: Path, missing: int) -> None:
    """Within a frame, a header, or between two frames; with and without URLs."""
    path, urls = spill(tmp_path)
    os.truncate(path, 3 * FRAME - missing)
    left = (3 * FRAME - missing) // FRAME
    file = inspected(path)
    assert not file.is_sound
    assert verdicts(file) == ["unchecked"] * left
    told = [gap.reason for gap in file.gaps] or [file.problem]
    assert [text for text in told if "cut off" in text or "too short" in text] == told
    file = inspected(*urls)
    assert not file.is_sound
    assert verdicts(file) == ["right"] * left + ["wrong"] * (3 - left)
    assert "truncated" in file.frames[-1].problem


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"some text " * 10, "no frame: other"), (bytes(50), "zeros"), (b"x", "short")],
)
def test_what_is_after_the_last_frame_is_told(tmp_path: Path, data: bytes, reason: str) -> None:
    """And what it begins with."""
    path, urls = spill(tmp_path)
    with Path(path).open("ab") as file:
        file.write(data)
    for targets in ([path], urls):
        found = inspected(*targets)
        assert not found.is_sound
        assert len(found.frames) == 3
        [gap] = found.gaps
        assert (gap.start, gap.stop) == (3 * FRAME, 3 * FRAME + len(data))
        assert gap.first_bytes == data[:16]
        assert reason in gap.reason


def test_a_url_without_digests_is_compared_by_its_size(tmp_path: Path) -> None:
    """As those of files on a node's own disk are, and those in messages."""
    path, _ = spill(tmp_path)
    file = inspected(f"{path}?offset={FRAME}&size={FRAME}")
    assert file.is_sound
    assert verdicts(file) == ["unchecked"] * 3
    for offset, size in ((FRAME, FRAME - 1), (1, FRAME), (9 * FRAME, FRAME)):
        file = inspected(f"{path}?offset={offset}&size={size}")
        assert not file.is_sound
        [problem] = [frame.problem for frame in file.frames if frame.problem]
        assert problem == f"no frame of {size:,} bytes is there"


def test_a_url_of_another_file_is_wrong(tmp_path: Path) -> None:
    """Also where it overlaps the frames that are there."""
    path, urls = spill(tmp_path)
    _, others = spill(tmp_path, [random_bytes(SIZE - 5, seed) for seed in range(3)])
    swapped = path + others[1][others[1].index("?") :]
    file = inspected(urls[0], swapped)
    assert verdicts(file)[:2] == ["right", "wrong"]
    assert not file.is_sound


def test_what_cannot_be_read_does_not_hide_the_rest(tmp_path: Path) -> None:
    """A file that is gone, a directory, a pipe: an error in the place of each."""
    path, _ = spill(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    gone = str(tmp_path / "gone")
    files = inspect([gone, str(tmp_path), path, str(tmp_path / "pipe")])
    assert [bool(file.error) for file in files] == [True, True, False, True]
    assert isinstance(files[0].error, StorageNotFoundError)
    assert gone in str(files[0].error)
    for file in (files[1], files[3]):
        assert "expected a file" in str(file.error)
    assert not files[0].is_sound


@pytest.mark.parametrize("target", ["", "s3://bucket", "s3://bucket/", "x?offset=1", "/x/?size=1"])
def test_what_is_neither_url_nor_file_is_refused(target: str) -> None:
    """Before anything is read."""
    with pytest.raises(InvalidArgumentError):
        inspect([target])


def test_an_object_in_a_bucket_is_read_in_ranges(s3_bucket: str, recorder: RequestRecorder) -> None:
    """The headers alone without URLs, with them each frame once."""
    url, urls = spill(f"s3://{s3_bucket}/x", [random_bytes(10**6, seed) for seed in range(3)])
    recorder.requests()
    file = inspected(url)
    assert file.is_sound
    assert verdicts(file) == ["unchecked"] * 3
    # The size, and a range for each header.
    assert recorder.methods() == {"HEAD": 1, "GET": 3}
    file = inspected(*urls)
    assert verdicts(file) == ["right"] * 3
    [directory] = inspect([f"s3://{s3_bucket}/x"])
    assert directory.error


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.just(bytes(30)),
            st.tuples(*[st.integers(0, 40)] * 3).map(
                lambda lengths: b"".join(n.to_bytes(8, "little") for n in lengths)
            ),
        ),
        max_size=8,
    )
)
def test_frames_and_gaps_cover_any_file(tmp_path: Path, pieces: list[bytes]) -> None:
    """Without overlap, whatever it holds."""
    path = tmp_path / "file"
    path.write_bytes(b"".join(pieces))
    file = inspected(str(path))
    assert file.error is None
    places = [(frame.offset, frame.stop) for frame in file.frames]
    places += [(gap.start, gap.stop) for gap in file.gaps]
    position = 0
    for start, stop in sorted(places):
        assert position == start < stop
        position = stop
    assert position == file.nbytes == path.stat().st_size
