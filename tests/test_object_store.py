"""The object store that lives in this process."""

from __future__ import annotations

import io

import pytest

from fsspill import InMemoryObjectStore, ObjectStore


def test_the_in_memory_store_implements_the_protocol(store: InMemoryObjectStore) -> None:
    """It has the protocol's methods; mypy checks their types here."""
    as_protocol: ObjectStore = store
    assert as_protocol.get_if_local([b"x"]) == [(None, b"")]


def test_put_does_not_copy_and_get_is_read_only(store: InMemoryObjectStore) -> None:
    """The store holds a view of the object, through which it cannot be written."""
    data = bytearray(b"abc")
    store.put(b"x", data, metadata=b"m", owner_address=b"o")
    data[0] = ord("z")
    assert bytes(store.get(b"x")) == b"zbc"
    assert (store.metadata(b"x"), store.owner_address(b"x")) == (b"m", b"o")
    with pytest.raises(TypeError):
        store.get(b"x")[0] = 1


def test_a_truncated_source_leaves_no_object(store: InMemoryObjectStore) -> None:
    """An object appears as a whole or not at all."""
    with pytest.raises(EOFError, match="expected 5 bytes"):
        store.put_file_like_object(b"m", 5, io.BytesIO(b"1234"), b"x", b"o")
    assert b"x" not in store
    assert len(store) == 0


def test_objects_never_change(store: InMemoryObjectStore) -> None:
    """Restoring one that is there keeps the first, as Ray does."""
    store.put(b"x", b"first")
    store.put_file_like_object(b"", 6, io.BytesIO(b"second"), b"x", b"")
    assert bytes(store.get(b"x")) == b"first"


def test_missing_objects_are_reported_as_rays_are(store: InMemoryObjectStore) -> None:
    """Get raises KeyError, get_if_local returns (None, b""), delete does nothing."""
    with pytest.raises(KeyError):
        store.get(b"x")
    assert store.get_if_local([b"x"]) == [(None, b"")]
    store.delete(b"x")
    assert list(store) == []


def test_an_empty_object_is_refused(store: InMemoryObjectStore) -> None:
    """Without data and metadata it would look like a missing object."""
    with pytest.raises(ValueError, match="expected data or metadata"):
        store.put(b"x", None)
