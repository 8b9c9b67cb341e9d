"""What is compared: fsspill, Ray's own storage classes, and libraries on their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fsspill.external_storage import ExternalStorage
from tests.benchmarks.link_server import LinkServer
from tests.benchmarks.plain import ObstoreStorage, PyarrowStorage, S3fsStorage
from tests.benchmarks.reused_store import OWNER_ADDRESS, ReusedStore

__all__ = ["BUCKET", "ENGINES", "RAY", "Side", "local_sides", "s3_sides"]

BUCKET = "benchmarks"
_NODE_ID = "0" * 56

RAY = "Ray's own"
"""The side that the others are compared with."""

ENGINES = ("auto", "fsspec")
"""What fsspill is told to read S3 with, a side for each."""


class Storage(Protocol):
    """The methods that Ray calls."""

    def spill_objects(
        self, object_refs: Sequence[Any], owner_addresses: Sequence[bytes]
    ) -> list[bytes]: ...

    def restore_spilled_objects(
        self, object_refs: Sequence[Any], url_with_offset_list: Sequence[bytes]
    ) -> int: ...

    def delete_spilled_objects(self, urls: Sequence[bytes]) -> None: ...


@dataclass(frozen=True)
class Side:
    """One of those that are compared.

    Attributes
    ----------
    name : str
        For the table.
    storage : Storage
        What is measured.
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
        """Restore one object, as Ray asks for them."""
        self.storage.restore_spilled_objects([ref], [url])

    def delete(self, urls: Sequence[bytes]) -> None:
        """Delete what was spilled; Ray's smart_open storage keeps it."""
        self.storage.delete_spilled_objects(urls)


def local_sides(directory: str, store: ReusedStore) -> list[Side]:
    """Return fsspill and Ray's FileSystemStorage, both on a local directory."""
    from ray._private.external_storage import FileSystemStorage

    fsspill = ExternalStorage(f"file://{directory}/fsspill", node_id=_NODE_ID, object_store=store)
    rays = FileSystemStorage(_NODE_ID, f"{directory}/ray")
    return [Side("fsspill", fsspill), Side(RAY, _with_store(rays, store))]


def s3_sides(server: LinkServer, store: ReusedStore) -> list[Side]:
    """Return fsspill, Ray's smart_open storage and the libraries, all on the bucket of `server`.

    Notes
    -----
    ``server.environment`` must be in the environment for as long as they are in use.
    """
    from ray._private.external_storage import ExternalStorageSmartOpenImpl

    server.create_bucket(BUCKET)
    rays = ExternalStorageSmartOpenImpl(_NODE_ID, f"s3://{BUCKET}")
    plain = (BUCKET, store, server.endpoint_url)
    return [
        *_fsspill_sides(server, store),
        Side(RAY, _with_store(rays, store)),
        Side("s3fs", S3fsStorage(*plain)),
        Side("pyarrow.fs", PyarrowStorage(*plain)),
        Side("obstore", ObstoreStorage(*plain)),
    ]


def _fsspill_sides(server: LinkServer, store: ReusedStore) -> Iterator[Side]:
    for engine in ENGINES:
        default = engine == "auto"
        options: dict[str, Any] = {} if default else {"engine": engine}
        # fsspec shares filesystems with equal options: the endpoint tells this server's from
        # others.
        storage = ExternalStorage(
            f"s3://{BUCKET}",
            storage_options={"endpoint_url": server.endpoint_url},
            node_id=_NODE_ID,
            object_store=store,
            **options,
        )
        yield Side("fsspill" if default else f"fsspill, engine={engine}", storage)


def _with_store(storage: Any, store: ReusedStore) -> Storage:
    """Let one of Ray's storages use `store` instead of a running core worker."""
    storage._get_objects_from_store = store.get_if_local
    storage._put_object_to_store = store.put_file_like_object
    rays: Storage = storage
    return rays
