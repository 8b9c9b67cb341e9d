"""Storages of one node and session in a directory or in memory."""

from __future__ import annotations

import uuid
from pathlib import Path

from fsspill import ExternalStorage, InMemoryObjectStore

CONTENT = b"some content"


def make_storage(kind: str, directory: Path) -> ExternalStorage:
    """Return a storage with an object store: "memory", "shared" or "node-local"."""
    uri = f"memory://{uuid.uuid4().hex}/uri" if kind == "memory" else f"file://{directory}/uri"
    return ExternalStorage(
        uri,
        shared=kind == "shared",
        node_id="n",
        session_name="s",
        object_store=InMemoryObjectStore(),
    )


def object_store_of(storage: ExternalStorage) -> InMemoryObjectStore:
    """Return the object store of a storage from `make_storage`."""
    store = storage.object_store
    assert isinstance(store, InMemoryObjectStore)
    return store
