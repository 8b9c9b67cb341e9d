"""The interface through which Ray drives external storage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

__all__ = ["NullStorage", "Storage"]


class Storage(ABC):
    """External storage as Ray drives it: four methods, with Ray's names and parameters.

    `fsspill.ExternalStorage` states its guarantees. The storage of an IO worker departs from them
    where Ray needs that: its spills and deletions never raise.
    """

    @abstractmethod
    def spill_objects(
        self, object_refs: Sequence[Any], owner_addresses: Sequence[bytes] | None = None
    ) -> list[bytes]:
        """Store objects, and return the URLs of the leading ones that are stored."""

    @abstractmethod
    def restore_spilled_objects(
        self, object_refs: Sequence[Any], url_with_offset_list: Sequence[bytes | str]
    ) -> int:
        """Read objects back into the object store, and return the bytes of their buffers."""

    @abstractmethod
    def delete_spilled_objects(self, urls: Sequence[bytes | str]) -> None:
        """Delete the files of spilled objects."""

    @abstractmethod
    def destroy_external_storage(self) -> None:
        """Delete every file of this node."""


class NullStorage(Storage):
    """Placeholder until storage is set up: every call raises NotImplementedError."""

    def spill_objects(
        self, object_refs: Sequence[Any], owner_addresses: Sequence[bytes] | None = None
    ) -> list[bytes]:
        """Raise NotImplementedError."""
        raise NotImplementedError("External storage is not initialized")

    def restore_spilled_objects(
        self, object_refs: Sequence[Any], url_with_offset_list: Sequence[bytes | str]
    ) -> int:
        """Raise NotImplementedError."""
        raise NotImplementedError("External storage is not initialized")

    def delete_spilled_objects(self, urls: Sequence[bytes | str]) -> None:
        """Raise NotImplementedError."""
        raise NotImplementedError("External storage is not initialized")

    def destroy_external_storage(self) -> None:
        """Raise NotImplementedError."""
        raise NotImplementedError("External storage is not initialized")
