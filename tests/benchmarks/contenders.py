"""The compared storages: fsspill, Ray's own storage classes, and bare libraries."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fsspill.bench.reused_store import OWNER_ADDRESS, ReusedStore
from fsspill.external_storage import ExternalStorage
from tests.benchmarks.link_server import LinkServer
from tests.benchmarks.raw_libraries import ObstoreStorage, PyarrowStorage, S3fsStorage

__all__ = [
    "BUCKET",
    "ENGINES",
    "RAY",
    "Contender",
    "copy_contenders",
    "local_contenders",
    "s3_contenders",
]

BUCKET = "benchmarks"
_NODE_ID = "0" * 56

RAY = "Ray's own"
"""The baseline of the comparison."""

ENGINES = ("auto", "fsspec")
"""Values of fsspill's parameter `engine`, a contender for each."""


class Storage(Protocol):
    """The methods of an external storage that Ray calls."""

    def spill_objects(
        self, object_refs: Sequence[Any], owner_addresses: Sequence[bytes]
    ) -> list[bytes]: ...

    def restore_spilled_objects(
        self, object_refs: Sequence[Any], url_with_offset_list: Sequence[bytes]
    ) -> int: ...

    def delete_spilled_objects(self, urls: Sequence[bytes]) -> None: ...


@dataclass(frozen=True)
class Contender:
    """A storage under measurement.

    Attributes
    ----------
    name : str
        Its name in the tables.
    storage : Storage
        The storage itself.
    """

    name: str
    storage: Storage

    def spill(self, refs: Sequence[bytes]) -> list[bytes]:
        """Spill all objects, and return their URLs."""
        urls = self.storage.spill_objects(refs, [OWNER_ADDRESS] * len(refs))
        if len(urls) != len(refs):
            raise RuntimeError(f"{self.name} spilled {len(urls)} of {len(refs)} objects")
        return urls

    def restore(self, ref: bytes, url: bytes) -> None:
        """Restore one object; Ray requests them one by one."""
        self.storage.restore_spilled_objects([ref], [url])

    def delete(self, urls: Sequence[bytes]) -> None:
        """Delete spilled objects; Ray's smart_open storage keeps them."""
        self.storage.delete_spilled_objects(urls)


def local_contenders(directory: str, store: ReusedStore) -> list[Contender]:
    """Return fsspill and Ray's FileSystemStorage, both on a local directory."""
    from ray._private.external_storage import FileSystemStorage

    fsspill = ExternalStorage(f"file://{directory}/fsspill", node_id=_NODE_ID, object_store=store)
    rays = FileSystemStorage(_NODE_ID, f"{directory}/ray")
    return [Contender("fsspill", fsspill), Contender(RAY, _with_store(rays, store))]


def s3_contenders(server: LinkServer, store: ReusedStore) -> list[Contender]:
    """Return fsspill, Ray's smart_open storage and the bare libraries, on one bucket of `server`.

    Notes
    -----
    ``server.environment`` must be in the environment while they are in use.
    """
    from ray._private.external_storage import ExternalStorageSmartOpenImpl

    server.create_bucket(BUCKET)
    rays = ExternalStorageSmartOpenImpl(_NODE_ID, f"s3://{BUCKET}")
    location = (BUCKET, store, server.endpoint_url)
    return [
        *_fsspill_contenders(server, store),
        Contender(RAY, _with_store(rays, store)),
        Contender("s3fs", S3fsStorage(*location)),
        Contender("pyarrow.fs", PyarrowStorage(*location)),
        Contender("obstore", ObstoreStorage(*location)),
    ]


def copy_contenders(server: LinkServer, store: ReusedStore, directory: str) -> list[Contender]:
    """Return fsspill on a bucket, with a local copy and without, and Ray's on the same disk."""
    from ray._private.external_storage import FileSystemStorage

    server.create_bucket(BUCKET)
    rays = FileSystemStorage(_NODE_ID, f"{directory}/ray")
    os.makedirs(copies := f"{directory}/copies")
    return [
        _on_bucket("fsspill", server, store),
        _on_bucket("fsspill, cache_dir", server, store, cache_dir=copies, cache_max_bytes=2**32),
        Contender(RAY, _with_store(rays, store)),
    ]


def _fsspill_contenders(server: LinkServer, store: ReusedStore) -> Iterator[Contender]:
    for engine in ENGINES:
        default = engine == "auto"
        options: dict[str, Any] = {} if default else {"engine": engine}
        name = "fsspill" if default else f"fsspill, engine={engine}"
        yield _on_bucket(name, server, store, **options)


def _on_bucket(name: str, server: LinkServer, store: ReusedStore, **options: Any) -> Contender:
    # fsspec shares filesystems with equal options: the endpoint tells servers apart.
    storage = ExternalStorage(
        f"s3://{BUCKET}",
        storage_options={"endpoint_url": server.endpoint_url},
        node_id=_NODE_ID,
        object_store=store,
        **options,
    )
    return Contender(name, storage)


def _with_store(storage: Any, store: ReusedStore) -> Storage:
    """Make one of Ray's storages use `store` instead of a running core worker."""
    storage._get_objects_from_store = store.get_if_local
    storage._put_object_to_store = store.put_file_like_object
    rays: Storage = storage
    return rays
