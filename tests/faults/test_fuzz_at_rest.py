"""Any bytes in place of a spilled file: the object is restored, or it is corrupt."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspill import (
    CorruptObjectError,
    ExternalStorage,
    InMemoryObjectStore,
    create_url_with_offset,
)
from fsspill.testing.contract import decode_frame
from tests.faults.storages import CONTENT, make_storage, object_store_of
from tests.fuzzing import COMPRESSIBLE, at_rest, examples_of, flipped, fuzz, numbers
from tests.spilling import spill


@fuzz
def test_any_bytes_on_this_node_are_a_frame_or_corrupt(examples: int, tmp_path: Path) -> None:
    """With any bytes and any numbers in the URL, the frame there is restored, or it is corrupt."""
    storage = make_storage("node-local", tmp_path)
    store = object_store_of(storage)
    [url] = spill(storage, CONTENT)
    base_url = url.partition("?")[0]

    @examples_of(examples)
    @given(data=at_rest, offset=numbers, size=numbers)
    def check(data: bytes, offset: int, size: int) -> None:
        Path(base_url).write_bytes(data)
        named = create_url_with_offset(url=base_url, offset=offset, size=size)
        try:
            count = storage.restore_spilled_objects([b"back"], [named])
        except CorruptObjectError:
            assert b"back" not in store
        else:
            _, _, buffer = decode_frame(data[offset : offset + size])
            assert bytes(store.get(b"back")) == buffer
            assert count == len(buffer)
            store.delete(b"back")

    check()


def check_replaced_bytes(storage: ExternalStorage, url: str, content: bytes, examples: int) -> None:
    """Replace the bytes of a file: the spilled object is restored, or it is corrupt."""
    store = object_store_of(storage)
    fs, path = fsspec.core.url_to_fs(url.partition("?")[0])
    right: bytes = fs.cat_file(path)
    part = st.sampled_from([right, right[:-1], right[1:], right[:24], content, b"", b"x"])
    anything = st.lists(part | at_rest, max_size=3).map(b"".join)

    @examples_of(examples)
    @given(data=anything | flipped(right))
    def check(data: bytes) -> None:
        fs.pipe_file(path, data)
        try:
            storage.restore_spilled_objects([b"back"], [url])
        except CorruptObjectError:
            assert b"back" not in store
            assert data[: len(right)] != right
        else:
            assert data[: len(right)] == right
            assert bytes(store.get(b"back")) == content
            store.delete(b"back")

    check()


@fuzz
@pytest.mark.parametrize("kind", ["memory", "shared"])
def test_any_bytes_in_storage_are_the_object_or_corrupt(
    examples: int, kind: str, tmp_path: Path
) -> None:
    """With any bytes in the file, the spilled object is restored, or it is corrupt."""
    storage = make_storage(kind, tmp_path)
    [url] = spill(storage, CONTENT)
    check_replaced_bytes(storage, url, CONTENT, examples)


@fuzz
@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_any_compressed_bytes_are_the_object_or_corrupt(
    examples: int, codec: str, tmp_path: Path
) -> None:
    """With any bytes in the file, the spilled object is restored, or it is corrupt."""
    pytest.importorskip("lz4")
    pytest.importorskip("zstandard")
    store = InMemoryObjectStore()
    storage = ExternalStorage(
        f"file://{tmp_path}", shared=True, compression=codec, object_store=store
    )
    [url] = spill(storage, COMPRESSIBLE)
    assert Path(url.partition("?")[0]).stat().st_size < len(COMPRESSIBLE)
    check_replaced_bytes(storage, url, COMPRESSIBLE, examples)
