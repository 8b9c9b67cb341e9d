"""The compared storages: fsspill, Ray's own storage classes, and bare libraries."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from fsspill.bench.contenders import RAY, Contender, with_store
from fsspill.bench.reused_store import ReusedStore
from fsspill.external_storage import ExternalStorage
from tests.benchmarks.link_server import LinkServer
from tests.benchmarks.raw_libraries import ObstoreStorage, PyarrowStorage, S3fsStorage

__all__ = [
    "BUCKET",
    "ENGINES",
    "copy_contenders",
    "fsspill_contenders",
    "local_contenders",
    "s3_contenders",
]

BUCKET = "benchmarks"
_NODE_ID = "0" * 56

ENGINES = ("auto", "fsspec")
"""Values of fsspill's parameter `engine`, a contender for each."""


def local_contenders(directory: str, store: ReusedStore) -> list[Contender]:
    """Return fsspill and Ray's FileSystemStorage, both on a local directory."""
    from ray._private.external_storage import FileSystemStorage

    fsspill = ExternalStorage(f"file://{directory}/fsspill", node_id=_NODE_ID, object_store=store)
    rays = FileSystemStorage(_NODE_ID, f"{directory}/ray")
    return [Contender("fsspill", fsspill), Contender(RAY, with_store(rays, store))]


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
        *fsspill_contenders(server, store),
        Contender(RAY, with_store(rays, store)),
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
        Contender(RAY, with_store(rays, store)),
    ]


def fsspill_contenders(server: LinkServer, store: ReusedStore) -> Iterator[Contender]:
    """Yield fsspill on a bucket of `server`, with each of `ENGINES`."""
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
