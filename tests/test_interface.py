"""The interface of external storage."""

from __future__ import annotations

import pytest

from fsspill import ExternalStorage, NullStorage, Storage


def test_the_interface_cannot_be_used_by_itself() -> None:
    """It has Ray's four methods, and implements none."""
    assert Storage.__abstractmethods__ == {
        "spill_objects",
        "restore_spilled_objects",
        "delete_spilled_objects",
        "destroy_external_storage",
    }
    with pytest.raises(TypeError, match="abstract"):
        Storage()  # type: ignore[abstract]


def test_every_storage_has_the_interface() -> None:
    """One is not the special case of another."""
    assert ExternalStorage.__bases__ == (Storage,)
    assert NullStorage.__bases__ == (Storage,)


def test_storage_that_is_not_set_up_raises() -> None:
    """Every call says so, as Ray's own does."""
    storage = NullStorage()
    for call in (
        lambda: storage.spill_objects([b"x"]),
        lambda: storage.restore_spilled_objects([b"x"], [b"u"]),
        lambda: storage.delete_spilled_objects([b"u"]),
        storage.destroy_external_storage,
    ):
        with pytest.raises(NotImplementedError, match="not initialized"):
            call()
