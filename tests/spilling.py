"""Spill objects through a storage and restore them."""

from __future__ import annotations

import pytest

from fsspill import ExternalStorage, InMemoryObjectStore
from fsspill.format.compression import CODECS

codecs = pytest.mark.parametrize("codec", sorted(CODECS))


def fill(store: InMemoryObjectStore, count: int, size: int) -> list[bytes]:
    """Put `count` objects of `size` equal bytes into an object store, and return their refs."""
    refs = [b"%d-%d" % (size, number) for number in range(count)]
    for number, ref in enumerate(refs):
        store.put(ref, bytes([number % 251]) * size, metadata=b"m")
    return refs


def spill(storage: ExternalStorage, *objects: bytes) -> list[str]:
    """Spill objects with the refs 0, 1, ..., delete them, and return their URLs."""
    store = storage.object_store
    assert isinstance(store, InMemoryObjectStore)
    for ref, data in enumerate(objects):
        store.put(ref, data)
    urls = storage.spill_objects(range(len(objects)))
    assert len(urls) == len(objects)
    for ref in range(len(objects)):
        store.delete(ref)
    return [url.decode() for url in urls]


def restore(storage: ExternalStorage, url: str) -> bytes:
    """Restore an object into a new object store and return its data."""
    store = InMemoryObjectStore()
    storage.object_store = store
    storage.restore_spilled_objects([b"back"], [url])
    return bytes(store.get(b"back"))


def compression_numbers(url: str, codec: str) -> list[int]:
    """Return the numbers of the URL's parameter of a codec; none if it has no such parameter."""
    found = [item.partition("=")[2] for item in url.split("&") if item.startswith(f"{codec}=")]
    return [int(number) for value in found for number in value.split(".")]
