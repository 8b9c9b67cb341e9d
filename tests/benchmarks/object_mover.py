"""A mover of objects: an external storage with an object store that maps files."""

from __future__ import annotations

import logging
import mmap
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fsspill.bench.contenders import with_store
from fsspill.bench.reused_store import OWNER_ADDRESS, ReusedStore
from fsspill.external_storage import ExternalStorage
from fsspill.object_store import FileLike, fill
from fsspill.ray.malloc import raise_trim_threshold
from tests.benchmarks.movers import BUCKET, FSSPILL, Mover
from tests.benchmarks.raw_libraries import ObstoreStorage, PyarrowStorage, S3fsStorage

__all__ = ["ObjectMover"]

_NODE_ID = "0" * 56
_POPULATE = getattr(mmap, "MAP_POPULATE", 0)  # of Linux


class _MappedStore(ReusedStore):
    """An object store of mapped files, as Ray's, which restores every object into its own pages.

    Notes
    -----
    The pages of a restored object are taken when it is created, at the price of those of a new
    file in a memory file system: here 0.6 CPU seconds per GiB.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        super().__init__(memoryview(b""))
        self.sources = {path.name.encode(): _map_file(path) for path in files}
        self.restored: dict[bytes, mmap.mmap] = {}

    def put_file_like_object(
        self,
        metadata: bytes,
        data_size: int,
        file_like: FileLike,
        object_ref: Any,
        owner_address: bytes,
        /,
    ) -> None:
        if object_ref not in self.restored:
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _POPULATE
            self.restored[object_ref] = mmap.mmap(-1, data_size, flags)
        fill(memoryview(self.restored[object_ref]), file_like, object_ref)


class ObjectMover(Mover):
    """An external storage that spills all objects with one call and restores them one by one.

    Parameters
    ----------
    endpoint_url : str
        Address of the server.
    name : str
        Name of the storage.
    workers : int
        Number of storages that restore at the same time, one object each, as Ray's IO workers.
    keep : bool
        Restore into the same pages again, as into those of Ray's object store.
    """

    def __init__(
        self, directory: Path, endpoint_url: str, name: str, *, workers: int = 1, keep: bool = False
    ) -> None:
        super().__init__(directory)
        self._keep = keep
        raise_trim_threshold()  # as an IO worker does
        # smart_open warns each time it opens a file that it ignores arguments of Ray.
        logging.getLogger("smart_open").setLevel(logging.ERROR)
        self._store = _MappedStore(self.sources)
        self._storages = [_STORAGES[name](self._store, endpoint_url) for _ in range(workers)]
        self._urls: list[bytes] = []

    def upload(self) -> None:
        """Spill all objects."""
        refs = list(self._store.sources)
        self._urls = self._storages[0].spill_objects(refs, [OWNER_ADDRESS] * len(refs))

    def download(self) -> None:
        """Restore all objects, each storage every n-th of them."""
        pairs = list(zip(self._store.sources, self._urls, strict=True))
        shares = [pairs[index :: len(self._storages)] for index in range(len(self._storages))]
        with ThreadPoolExecutor(len(shares)) as threads:
            list(threads.map(_restore, self._storages, shares))

    def verify(self) -> None:
        """Compare all objects with their source, and remove them; ValueError if they differ."""
        for ref, source in self._store.sources.items():
            restored = self._store.restored[ref]
            if restored[:] != bytes(source):
                raise ValueError(f"object {ref!r} was restored with other bytes than it had")
            # Or the next one could pass with the bytes of this one.
            restored[:] = bytes(len(restored))
        if not self._keep:
            self._store.restored.clear()

    @property
    def peak(self) -> int:
        """Peak of resident memory in bytes, without that of objects."""
        restored = sum(map(len, self._store.restored.values()))
        return super().peak - restored - sum(map(len, self._store.sources.values()))


def _restore(storage: Any, pairs: Sequence[tuple[bytes, bytes]]) -> None:
    for ref, url in pairs:
        storage.restore_spilled_objects([ref], [url])


def _map_file(path: Path) -> memoryview:
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED | _POPULATE, mmap.PROT_READ))


def _fsspill(store: ReusedStore, endpoint_url: str) -> Any:
    options = {"endpoint_url": endpoint_url}
    uri = f"s3://{BUCKET}"
    return ExternalStorage(uri, storage_options=options, node_id=_NODE_ID, object_store=store)


def _smart_open(store: ReusedStore, endpoint_url: str) -> Any:
    from ray._private.external_storage import ExternalStorageSmartOpenImpl

    return with_store(ExternalStorageSmartOpenImpl(_NODE_ID, f"s3://{BUCKET}"), store)


_STORAGES: Mapping[str, Callable[[ReusedStore, str], Any]] = {
    FSSPILL: _fsspill,
    "smart_open": _smart_open,
    "s3fs": lambda *place: S3fsStorage(BUCKET, *place),
    "pyarrow": lambda *place: PyarrowStorage(BUCKET, *place),
    "obstore": lambda *place: ObstoreStorage(BUCKET, *place),
}
