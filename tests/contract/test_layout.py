"""The byte layout is Ray's: golden file, independent decoder, and Ray's own class on both sides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fsspill import ExternalStorage, InMemoryObjectStore
from fsspill.testing.contract import decode_frame, split_url

GOLDEN_FILE = Path(__file__).parent / "data" / "fused_file.bin"
GOLDEN: dict[bytes, tuple[bytes, bytes, bytes | None]] = {
    b"\x01" * 28: (b"owner of the first", b"PYTHON", b"some data"),
    b"\x02" * 28: (b"", b"metadata only", None),
    b"\x03" * 28: (b"another owner", b"", b""),
    b"\x04" * 28: (b"owner", b"RAW", bytes(range(256)) * 3),
}


def golden_store() -> InMemoryObjectStore:
    store = InMemoryObjectStore()
    for ref, (_, metadata, data) in GOLDEN.items():
        store.put(ref, data, metadata=metadata)
    return store


def assert_golden(store: InMemoryObjectStore) -> None:
    for ref, (owner_address, metadata, data) in GOLDEN.items():
        assert store.owner_address(ref) == owner_address
        assert store.metadata(ref) == metadata
        assert store.get(ref) == (data or b"")


def test_fsspill_writes_the_golden_file(tmp_path: Path) -> None:
    """The same objects give, byte for byte, the file that Ray wrote."""
    storage = ExternalStorage(f"file://{tmp_path}", object_store=golden_store())
    urls = storage.spill_objects(list(GOLDEN), [owner for owner, _, _ in GOLDEN.values()])
    assert Path(split_url(urls[0])[0]).read_bytes() == GOLDEN_FILE.read_bytes()


def test_golden_file_decodes_to_its_objects() -> None:
    """An independent decoder of the layout finds the objects one after another."""
    data = GOLDEN_FILE.read_bytes()
    for owner_address, metadata, buffer in GOLDEN.values():
        size = 24 + len(owner_address) + len(metadata) + len(buffer or b"")
        assert decode_frame(data[:size]) == (owner_address, metadata, buffer or b"")
        data = data[size:]
    assert data == b""


def test_fsspill_restores_the_golden_file(tmp_path: Path) -> None:
    """Objects are restored from the file that Ray wrote."""
    node = tmp_path / "ray_spilled_objects_ab"
    node.mkdir()
    (node / "golden").write_bytes(GOLDEN_FILE.read_bytes())
    urls, offset = [], 0
    for owner_address, metadata, buffer in GOLDEN.values():
        size = 24 + len(owner_address) + len(metadata) + len(buffer or b"")
        urls.append(f"{node}/golden?offset={offset}&size={size}")
        offset += size
    storage = ExternalStorage(f"file://{tmp_path}")
    storage.restore_spilled_objects(list(GOLDEN), urls)
    assert isinstance(storage.object_store, InMemoryObjectStore)
    assert_golden(storage.object_store)


def ray_storage(directory: Path, store: InMemoryObjectStore) -> Any:
    """Return Ray's own class for local directories, on an in-memory object store."""
    ray_module = pytest.importorskip("ray._private.external_storage")

    class OnInMemoryStore(ray_module.FileSystemStorage):  # type: ignore[misc, name-defined]
        def _get_objects_from_store(self, object_refs: Any) -> Any:
            return [(*found, None) for found in store.get_if_local(object_refs)]

        def _put_object_to_store(self, *arguments: Any) -> None:
            store.put_file_like_object(*arguments)

    return OnInMemoryStore("node1", str(directory))


def test_ray_restores_files_of_fsspill(tmp_path: Path) -> None:
    """Ray's FileSystemStorage reads fsspill's files by fsspill's URLs."""
    storage = ExternalStorage(f"file://{tmp_path}", object_store=golden_store(), node_id="node1")
    urls = storage.spill_objects(list(GOLDEN), [owner for owner, _, _ in GOLDEN.values()])
    restored = InMemoryObjectStore()
    ray_storage(tmp_path, restored).restore_spilled_objects(list(GOLDEN), urls)
    assert_golden(restored)


def test_fsspill_restores_and_deletes_files_of_ray(tmp_path: Path) -> None:
    """Fsspill reads the files of Ray's FileSystemStorage by its URLs, and deletes them."""
    owners = [owner for owner, _, _ in GOLDEN.values()]
    urls = ray_storage(tmp_path, golden_store()).spill_objects(list(GOLDEN), owners)
    restored = InMemoryObjectStore()
    storage = ExternalStorage(f"file://{tmp_path}", object_store=restored)
    storage.restore_spilled_objects(list(GOLDEN), urls)
    assert_golden(restored)
    storage.delete_spilled_objects(urls)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_node_local_urls_match_the_pattern_of_the_raylet(tmp_path: Path) -> None:
    """A plain path and exactly two parameters: the pattern that the raylet parses in C++."""
    storage = ExternalStorage(f"file://{tmp_path}", object_store=golden_store(), node_id="ab12")
    for url in storage.spill_objects(list(GOLDEN)):
        base, _, _ = split_url(url)
        assert base.startswith(f"{tmp_path}/ray_spilled_objects_ab12/")
        assert url.decode().count("&") == 1
