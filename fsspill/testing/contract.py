"""The contract of an external storage as a test class for subclassing. Needs pytest.

Examples
--------
Test fsspill on another filesystem (the fixture returns a fresh, empty location)::

    class TestMyFileSystem(ExternalStorageContract):
        @pytest.fixture
        def uri(self):
            return "mine://bucket/prefix"
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Mapping
from typing import Any

import fsspec
import pytest

from fsspill.errors import (
    ConfigError,
    CorruptObjectError,
    FsspillError,
    ObjectNotFoundError,
    StorageNotFoundError,
)
from fsspill.external_storage import ExternalStorage
from fsspill.object_store import InMemoryObjectStore

__all__ = ["ExternalStorageContract", "decode_frame", "split_url"]

KIB = 2**10

_SESSION = f"session_{uuid.uuid4().hex}"
"""Unique to this run: the processes of a node share records of failures by session name."""


def decode_frame(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Split a frame into owner address, metadata and buffer.

    Follows Ray's layout and shares no code with fsspill.
    """
    address_length, metadata_length, buffer_length = struct.unpack("<3Q", data[:24])
    address, rest = data[24 : 24 + address_length], data[24 + address_length :]
    metadata, buffer = rest[:metadata_length], rest[metadata_length:]
    assert len(buffer) == buffer_length
    return address, metadata, buffer


def split_url(url: bytes) -> tuple[str, int, int]:
    """Split a URL with offset into file, offset and size, without the code under test."""
    base, query = url.decode().split("?")
    offset, size = query.split("&")[:2]
    assert offset.startswith("offset=")
    assert size.startswith("size=")
    return base, int(offset[7:]), int(size[5:])


class ExternalStorageContract:
    """The guarantees of an external storage on any filesystem, as tests.

    Subclasses define the fixture `uri`. They may override `storage_arguments`, and
    `files_at_rest`, `write_at_rest` and `frame_of`, which access the storage without fsspill.
    """

    file_size = 64 * KIB
    range_size = 16 * KIB

    checked = True
    """True if restored bytes are checked against a digest. They are not on a node's own disk: Ray's
    raylet itself reads those files, by URLs that cannot carry a digest."""

    @pytest.fixture
    def uri(self) -> str:
        """Return the URI of an empty location; the overriding fixture cleans it up."""
        raise NotImplementedError("define the fixture 'uri' in the subclass")

    def storage_arguments(self) -> dict[str, Any]:
        """Return further arguments for `ExternalStorage`."""
        return {}

    @pytest.fixture
    def store(self) -> InMemoryObjectStore:
        """Return the object store to spill from and restore to."""
        return InMemoryObjectStore()

    def make_storage(
        self, uri: str | list[str], store: InMemoryObjectStore, node_id: str = "node1"
    ) -> ExternalStorage:
        """Return a storage with small files and ranges."""
        return ExternalStorage(
            uri,
            object_store=store,
            node_id=node_id,
            session_name=_SESSION,
            file_size=self.file_size,
            range_size=self.range_size,
            **self.storage_arguments(),
        )

    @pytest.fixture
    def storage(self, uri: str, store: InMemoryObjectStore) -> ExternalStorage:
        """Return the storage under test."""
        return self.make_storage(uri, store)

    def files_at_rest(self, uri: str) -> dict[str, bytes]:
        """Return every file under `uri`, by its base URL."""
        fs, root = fsspec.core.url_to_fs(uri)
        fs.invalidate_cache()
        prefix = root if uri.startswith("file:") else uri
        return {prefix + path[len(root) :]: fs.cat_file(path) for path in fs.find(root)}

    def write_at_rest(self, base_url: str, data: bytes) -> None:
        """Replace a file."""
        fs, path = fsspec.core.url_to_fs(base_url)
        fs.pipe_file(path, data)

    def fill(
        self, store: InMemoryObjectStore, sizes: Mapping[bytes, int | None]
    ) -> dict[bytes, tuple[bytes, bytes, bytes]]:
        """Put objects into the store, and return owner address, metadata and data of each."""
        made = {}
        for number, (ref, size) in enumerate(sizes.items()):
            data = None if size is None else self.make_data(number, size)
            made[ref] = (b"owner-%d" % number, b"meta-%d" % number, data or b"")
            store.put(ref, data, metadata=made[ref][1])
        return made

    def make_data(self, number: int, size: int) -> bytes:
        """Return the data of an object."""
        return bytes([number % 251]) * size

    def frame_of(self, at_rest: bytes, url: bytes) -> bytes:
        """Return the frame that is stored as these bytes: the same bytes, unless compressed."""
        return at_rest

    sizes: Mapping[bytes, int | None] = {
        b"metadata only": None,
        b"empty": 0,
        b"one byte": 1,
        b"small": 1000,
        b"two ranges": 20 * KIB,
        b"several ranges": 60 * KIB,
        b"small again": 1000,
        b"larger than a file": 200 * KIB + 1,
        b"last": 10,
    }

    def test_every_object_survives_the_round_trip(
        self, storage: ExternalStorage, store: InMemoryObjectStore
    ) -> None:
        """Owner address, metadata and data are restored unchanged, whatever the size."""
        made = self.fill(store, self.sizes)
        refs = list(made)
        urls = storage.spill_objects(refs, [made[ref][0] for ref in refs])
        for ref in refs:
            store.delete(ref)
        restored = [
            storage.restore_spilled_objects([ref], [url])
            for ref, url in zip(refs, urls, strict=True)
        ]
        assert restored == [len(made[ref][2]) for ref in refs]
        for ref, (owner_address, metadata, data) in made.items():
            assert store.owner_address(ref) == owner_address
            assert store.metadata(ref) == metadata
            assert store.get(ref) == data

    def test_urls_name_the_frames_in_the_order_of_the_refs(
        self, uri: str, storage: ExternalStorage, store: InMemoryObjectStore
    ) -> None:
        """Each URL names exactly the stored bytes of its object, in Ray's layout."""
        made = self.fill(store, self.sizes)
        urls = storage.spill_objects(list(made), [frame[0] for frame in made.values()])
        files = self.files_at_rest(uri)
        used = dict.fromkeys(files, 0)
        for url, frame in zip(urls, made.values(), strict=True):
            base, offset, size = split_url(url)
            at_rest = files[base][offset : offset + size]
            assert decode_frame(self.frame_of(at_rest, url)) == frame
            used[base] += size
        assert used == {base: len(data) for base, data in files.items()}

    def test_a_batch_restores_in_one_call(
        self, storage: ExternalStorage, store: InMemoryObjectStore
    ) -> None:
        """Restoring several objects returns the total size of their buffers."""
        made = self.fill(store, self.sizes)
        urls = storage.spill_objects(list(made))
        for ref in made:
            store.delete(ref)
        total = storage.restore_spilled_objects(list(made), urls)
        assert total == sum(len(data) for _, _, data in made.values())
        assert all(store.get(ref) == data for ref, (_, _, data) in made.items())

    def test_an_empty_list_spills_nothing(self, uri: str, storage: ExternalStorage) -> None:
        """Spilling no objects returns no URLs and writes no file."""
        assert storage.spill_objects([], []) == []
        assert self.files_at_rest(uri) == {}

    def test_small_objects_share_files_of_bounded_size(
        self, uri: str, storage: ExternalStorage, store: InMemoryObjectStore
    ) -> None:
        """Small objects are fused up to the file size; each large one has its own file."""
        made = self.fill(store, {b"%d" % i: 5000 for i in range(40)} | {b"large": 100 * KIB})
        urls = storage.spill_objects(list(made))
        files = self.files_at_rest(uri)
        large = split_url(urls[-1])[0]
        assert [url for url in urls if split_url(url)[0] == large] == [urls[-1]]
        assert all(len(data) <= self.file_size for base, data in files.items() if base != large)
        assert len(files) == 5

    def test_a_missing_object_spills_nothing(
        self, uri: str, storage: ExternalStorage, store: InMemoryObjectStore
    ) -> None:
        """The error names the object that is not in the store, and no file remains."""
        there = bytearray(10)
        store.put(b"there", there)
        with pytest.raises(ObjectNotFoundError, match=b"missing".hex()) as caught:
            storage.spill_objects([b"there", b"missing"])
        assert self.files_at_rest(uri) == {}
        store.delete(b"there")
        there.append(0)  # raises BufferError while a view exists, in a traceback for instance
        assert caught.value is not None

    def test_spilling_releases_the_objects(
        self, storage: ExternalStorage, store: InMemoryObjectStore
    ) -> None:
        """No view of an object's memory remains after a spill."""
        data = {b"%d" % i: bytearray(40 * KIB) for i in range(8)}
        for ref, buffer in data.items():
            store.put(ref, buffer)
        storage.spill_objects(list(data))
        for ref, buffer in data.items():
            store.delete(ref)
            buffer.append(0)  # raises BufferError while a view exists

    @pytest.mark.parametrize("keep", [0, 10, 24, 500, 30 * KIB])
    def test_a_truncated_file_restores_nothing(
        self, uri: str, storage: ExternalStorage, store: InMemoryObjectStore, keep: int
    ) -> None:
        """The error names the URL, the expected and the found size; the store stays empty."""
        self.fill(store, {b"a": 40 * KIB})
        [url] = storage.spill_objects([b"a"])
        store.delete(b"a")
        base = split_url(url)[0]
        self.write_at_rest(base, self.files_at_rest(uri)[base][:keep])
        with pytest.raises(CorruptObjectError, match=r"expected .* found") as caught:
            storage.restore_spilled_objects([b"a"], [url])
        assert base in str(caught.value)
        assert len(store) == 0

    @pytest.mark.parametrize("position", [0, 8, 16])
    def test_a_wrong_header_restores_nothing(
        self, uri: str, storage: ExternalStorage, store: InMemoryObjectStore, position: int
    ) -> None:
        """Lengths that do not sum to the size of the frame raise an error that names the URL."""
        self.fill(store, {b"a": 1000})
        [url] = storage.spill_objects([b"a"])
        store.delete(b"a")
        base = split_url(url)[0]
        data = bytearray(self.files_at_rest(uri)[base])
        data[position] ^= 1
        self.write_at_rest(base, bytes(data))
        with pytest.raises(CorruptObjectError, match=r"expected .* found") as caught:
            storage.restore_spilled_objects([b"a"], [url])
        assert f"{base}?offset=0&size=" in str(caught.value)
        assert len(store) == 0

    @pytest.mark.parametrize("position", [0, 23, 24, 35, 20 * KIB, -1])
    def test_an_altered_file_restores_nothing(
        self, uri: str, storage: ExternalStorage, store: InMemoryObjectStore, position: int
    ) -> None:
        """One flipped bit in header, metadata or data raises an error; the store stays empty."""
        self.skip_unless_checked()
        self.fill(store, {b"a": 40 * KIB})
        [url] = storage.spill_objects([b"a"])
        store.delete(b"a")
        base = split_url(url)[0]
        data = bytearray(self.files_at_rest(uri)[base])
        data[position] ^= 1
        self.write_at_rest(base, bytes(data))
        with pytest.raises(CorruptObjectError, match=r"expected .* found others") as caught:
            storage.restore_spilled_objects([b"a"], [url])
        assert base in str(caught.value)
        assert len(store) == 0

    def test_a_swapped_file_restores_nothing(
        self, uri: str, storage: ExternalStorage, store: InMemoryObjectStore
    ) -> None:
        """A well-formed file of another object of the same size is rejected."""
        self.skip_unless_checked()
        self.fill(store, {b"a": 100 * KIB, b"b": 100 * KIB})
        urls = storage.spill_objects([b"a", b"b"])
        first, second = (split_url(url)[0] for url in urls)
        files = self.files_at_rest(uri)
        assert len(files[first]) == len(files[second])
        store.delete(b"a")
        self.write_at_rest(first, files[second])
        with pytest.raises(CorruptObjectError):
            storage.restore_spilled_objects([b"a"], urls[:1])
        assert b"a" not in store

    @pytest.mark.parametrize("digest", ["xxh3_128", "sha256"])
    def test_the_url_carries_the_digest(
        self, uri: str, store: InMemoryObjectStore, digest: str
    ) -> None:
        """Any storage of the URI restores objects spilled with either digest."""
        self.skip_unless_checked()
        arguments = {**self.storage_arguments(), "digest": digest}
        spilling = ExternalStorage(uri, object_store=store, **arguments)
        self.fill(store, {b"a": 40 * KIB})
        expected = bytes(store.get(b"a"))
        [url] = spilling.spill_objects([b"a"])
        assert f"&{digest}=" in url.decode()
        store.delete(b"a")
        self.make_storage(uri, store).restore_spilled_objects([b"a"], [url])
        assert store.get(b"a") == expected

    def test_a_url_without_digest_restores_nothing(
        self, storage: ExternalStorage, store: InMemoryObjectStore
    ) -> None:
        """An object that cannot be checked is not restored."""
        self.skip_unless_checked()
        self.fill(store, {b"a": 1000})
        [url] = storage.spill_objects([b"a"])
        store.delete(b"a")
        base, offset, size = split_url(url)
        with pytest.raises(CorruptObjectError, match="carries the digest"):
            storage.restore_spilled_objects([b"a"], [f"{base}?offset={offset}&size={size}"])
        assert len(store) == 0

    def skip_unless_checked(self) -> None:
        """Skip the test if restored bytes are not checked."""
        if not self.checked:
            pytest.skip("files on a node's own disk are read by the raylet, without a digest")

    def test_a_missing_file_raises_storage_not_found(
        self, storage: ExternalStorage, store: InMemoryObjectStore
    ) -> None:
        """The error is a StorageNotFoundError, a FileNotFoundError, and names the file."""
        self.fill(store, {b"a": 1000})
        [url] = storage.spill_objects([b"a"])
        store.delete(b"a")
        storage.delete_spilled_objects([url])
        with pytest.raises(StorageNotFoundError) as caught:
            storage.restore_spilled_objects([b"a"], [url])
        assert isinstance(caught.value, FileNotFoundError)
        assert split_url(url)[0] in str(caught.value)
        assert len(store) == 0

    def test_delete_removes_the_whole_file_and_no_other(
        self, uri: str, storage: ExternalStorage, store: InMemoryObjectStore
    ) -> None:
        """Deleting any of its objects removes a file; deleting again succeeds."""
        made = self.fill(store, {b"%d" % i: 30 * KIB for i in range(6)})
        urls = storage.spill_objects(list(made))
        before = set(self.files_at_rest(uri))
        doomed = split_url(urls[1])[0]
        storage.delete_spilled_objects([urls[1]])
        assert set(self.files_at_rest(uri)) == before - {doomed}
        storage.delete_spilled_objects(urls)
        assert self.files_at_rest(uri) == {}
        storage.delete_spilled_objects(urls)

    def test_nothing_outside_the_uri_is_read_or_deleted(
        self, uri: str, storage: ExternalStorage, store: InMemoryObjectStore
    ) -> None:
        """A URL outside the URI is refused; the other URLs of its list are deleted."""
        self.fill(store, {b"a": 10})
        [url] = storage.spill_objects([b"a"])
        inside = split_url(url)[0]
        above, _, name = inside.rpartition("/")
        for base in (
            f"{above}/../{name}",
            f"{above}/x/../{name}",
            f"{above}/",
            f"{uri}-other/session1/ray_spilled_objects_node1/{name}",
            f"other://place/session1/ray_spilled_objects_node1/{name}",
            "/etc/passwd",
        ):
            outside = f"{base}?offset=0&size=24"
            with pytest.raises(ConfigError, match="refused"):
                storage.restore_spilled_objects([b"a"], [outside])
            with pytest.raises(ConfigError, match="refused"):
                storage.delete_spilled_objects([outside])
        with pytest.raises(ConfigError, match="refused"):
            storage.delete_spilled_objects(["/etc/passwd?offset=0&size=1", url])
        assert self.files_at_rest(uri) == {}

    def test_another_node_restores_and_does_not_destroy(
        self, uri: str, storage: ExternalStorage, store: InMemoryObjectStore
    ) -> None:
        """Any node restores objects of another; destroy removes only the node's own files."""
        self.fill(store, {b"a": 1000, b"b": 40 * KIB})
        urls = storage.spill_objects([b"a", b"b"])
        elsewhere = InMemoryObjectStore()
        other = self.make_storage(uri, elsewhere, node_id="node2")
        assert other.restore_spilled_objects([b"a", b"b"], urls) == 1000 + 40 * KIB
        assert elsewhere.get(b"b") == store.get(b"b")
        own = other.spill_objects([b"a"])
        storage.destroy_external_storage()
        assert set(self.files_at_rest(uri)) == {split_url(own[0])[0]}
        assert other.list_spilled_files() == [split_url(own[0])[0]]
        other.destroy_external_storage()
        assert self.files_at_rest(uri) == {}

    def test_destroy_keeps_files_of_others(
        self, uri: str, storage: ExternalStorage, store: InMemoryObjectStore
    ) -> None:
        """Destroy removes no file that the storage did not write, even under its URI."""
        foreign = self.base_url(uri) + "/of-others.txt"
        self.write_at_rest(foreign, b"keep")
        self.fill(store, {b"a": 1000})
        storage.spill_objects([b"a"])
        storage.destroy_external_storage()
        storage.destroy_external_storage()
        assert self.files_at_rest(uri) == {foreign: b"keep"}

    def test_check_leaves_no_file(self, uri: str, storage: ExternalStorage) -> None:
        """The check of a working storage succeeds and removes its file."""
        storage.check()
        assert self.files_at_rest(uri) == {}

    def test_files_are_distributed_round_robin_over_several_uris(
        self, uri: str, store: InMemoryObjectStore
    ) -> None:
        """Each URI of a list gets an equal share of files, and each URL restores its object."""
        uris = [f"{uri}/a", f"{uri}/b", f"{uri}/c"]
        storage = self.make_storage(uris, store)
        made = self.fill(store, {b"%d" % i: 60 * KIB for i in range(9)})
        urls = storage.spill_objects(list(made))
        for one in uris:
            start = self.base_url(one) + "/"
            assert sum(url.decode().startswith(start) for url in urls) == 3
        for ref in made:
            store.delete(ref)
        storage.restore_spilled_objects(list(made), urls)
        assert all(store.get(ref) == data for ref, (_, _, data) in made.items())
        storage.delete_spilled_objects(urls)
        assert storage.list_spilled_files() == []

    def test_errors_are_fsspill_errors(self, storage: ExternalStorage) -> None:
        """A storage raises FsspillError, so that one handler catches all its errors."""
        with pytest.raises(FsspillError):
            storage.spill_objects([b"missing"])

    @staticmethod
    def base_url(uri: str) -> str:
        """Return the start of all base URLs under `uri`."""
        return uri[len("file://") :] if uri.startswith("file://") else uri
