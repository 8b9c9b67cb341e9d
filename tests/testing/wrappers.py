"""The contract through a wrapper, and the storages and files that these tests share."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import fsspec
import pytest

from fsspill import ExternalStorage, InMemoryObjectStore
from fsspill.testing.contract import ExternalStorageContract

KIB = 2**10
PROTOCOLS = ["counting", "slow", "faulty"]
MEMORY = {"target_protocol": "memory"}


class WrapperContract(ExternalStorageContract):
    """The contract through a wrapper; the stored bytes are accessed without it."""

    target = "memory"
    options: Mapping[str, Any] = {}

    def storage_arguments(self) -> dict[str, Any]:
        return {"storage_options": {"target_protocol": self.target, **self.options}}

    @pytest.fixture
    def uri(self) -> str:
        return f"counting://{uuid.uuid4().hex}"

    def files_at_rest(self, uri: str) -> dict[str, bytes]:
        _, _, path = uri.partition("://")
        found = super().files_at_rest(f"{self.target}://{path}")
        start = len(f"{self.target}://{path}")
        return {uri + base_url[start:]: data for base_url, data in found.items()}

    def write_at_rest(self, base_url: str, data: bytes) -> None:
        super().write_at_rest(f"{self.target}://{base_url.partition('://')[2]}", data)


def fill(store: InMemoryObjectStore, *sizes: int) -> list[bytes]:
    """Put an object of at least each size into the store, and return their refs."""
    refs = [b"%d" % number for number in range(len(sizes))]
    for ref, size in zip(refs, sizes, strict=True):
        store.put(ref, bytes(range(251)) * (size // 251 + 1))
    return refs


def make_storage(
    protocol: str, options: Mapping[str, Any], store: InMemoryObjectStore, **arguments: Any
) -> ExternalStorage:
    """Return a storage on an unused URI of `protocol`."""
    uri = f"{protocol}://{uuid.uuid4().hex}"
    return ExternalStorage(uri, storage_options=options, object_store=store, **arguments)


def sizes_at_rest(storage: ExternalStorage) -> list[int]:
    """Return the size of each spilled file, without those of background probes."""
    [uri] = storage.uris
    found = fsspec.filesystem("memory").find(uri.partition("://")[2], detail=True)
    return [info["size"] for path, info in found.items() if "ray_spilled_objects" in path]


def write_or_discard(fs: Any, path: str) -> None:
    """Write a file of two blocks as fsspill does, and discard it on failure."""
    file = fs.open(path, "wb", block_size=10)
    try:
        file.write(bytes(10))
        file.write(bytes(10))
        file.close()
    except BaseException:
        file.discard()
        file.closed = True
        raise
