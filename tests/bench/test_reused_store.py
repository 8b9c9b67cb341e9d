"""The object store of measurements."""

from __future__ import annotations

import io

import pytest

from fsspill.bench.reused_store import METADATA, OWNER_ADDRESS, ReusedStore, random_bytes
from fsspill.settings import MIB


def test_objects_are_slices_of_incompressible_data() -> None:
    """Each with metadata and the address of its owner."""
    data = random_bytes(3 * MIB)
    store = ReusedStore(data)
    refs = store.fill(3, MIB)
    found = store.get_if_local(refs)
    assert [each[1:] for each in found] == [(METADATA, OWNER_ADDRESS)] * 3
    assert b"".join(bytes(each[0]) for each in found) == bytes(data)
    assert len(set(bytes(data))) == 256


def test_a_restored_object_is_compared_with_its_source() -> None:
    """Once: an object that is not restored cannot pass with the bytes of another one."""
    store = ReusedStore(random_bytes(2 * MIB))
    first, second = store.fill(2, MIB)
    source = bytes(store.sources[first])
    store.put_file_like_object(METADATA, MIB, io.BytesIO(source), first, OWNER_ADDRESS)
    store.verify(first)
    for ref in (first, second):
        with pytest.raises(ValueError, match="with other bytes"):
            store.verify(ref)


def test_an_object_that_ends_early_is_an_error() -> None:
    """Its file is too short."""
    store = ReusedStore(random_bytes(MIB))
    [ref] = store.fill(1, MIB)
    with pytest.raises(EOFError, match=f"expected {MIB} bytes"):
        store.put_file_like_object(METADATA, MIB, io.BytesIO(b"x"), ref, OWNER_ADDRESS)
