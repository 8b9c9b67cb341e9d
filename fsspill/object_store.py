"""The interface of an object store, and an object store in the memory of this process.

The protocol is the part of Ray's core worker that its own storage classes use, under the same
names, so that a core worker *is* an `ObjectStore`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

__all__ = ["FileLike", "InMemoryObjectStore", "ObjectStore", "fill"]


class FileLike(Protocol):
    """The source of an object's data while it is put into the store."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill at least one byte of `buffer`, and return how many."""
        ...


class ObjectStore(Protocol):
    """The source of spilled objects and the destination of restored ones.

    Notes
    -----
    An object ref is whatever the store uses as one. fsspill hands refs back unchanged and
    prints ``ref.hex()`` (or ``repr``) in messages.
    """

    def get_if_local(self, object_refs: Sequence[Any], /) -> Sequence[tuple[Any, ...]]:
        """Return ``(buffer or None, metadata, ...)`` for each ref, in order, without copying.

        ``(None, b"")`` means that the object is not here. What follows the two is ignored.
        """
        ...

    def put_file_like_object(
        self,
        metadata: bytes,
        data_size: int,
        file_like: FileLike,
        object_ref: Any,
        owner_address: bytes,
        /,
    ) -> None:
        """Create the object `object_ref` and fill it with `data_size` bytes of `file_like`."""
        ...


def fill(buffer: memoryview, file_like: FileLike, object_ref: Any) -> None:
    """Fill a buffer with the data of an object; EOFError if there is less."""
    filled = 0
    while filled < len(buffer):
        count = file_like.readinto(buffer[filled:])
        if not count:
            raise EOFError(f"expected {len(buffer)} bytes for {object_ref!r}, found {filled}.")
        filled += count


class InMemoryObjectStore:
    """An object store in the memory of this process: the embedded default.

    Notes
    -----
    Objects are immutable. All methods may be called from several threads. An object appears
    only when all of its bytes are there: a `file_like` that raises leaves nothing behind.

    Examples
    --------
    >>> store = InMemoryObjectStore()
    >>> store.put(b"ref", b"data", metadata=b"RAW")
    >>> bytes(store.get(b"ref"))
    b'data'
    """

    def __init__(self) -> None:
        self._objects: dict[Any, tuple[memoryview | None, bytes, bytes]] = {}

    def __getstate__(self) -> dict[str, Any]:
        objects = {
            ref: (None if view is None else bytes(view), metadata, owner_address)
            for ref, (view, metadata, owner_address) in self._objects.copy().items()
        }
        return {"objects": objects}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._objects = {}
        for ref, (data, metadata, owner_address) in state["objects"].items():
            view = None if data is None else memoryview(data)
            self._objects[ref] = (view, metadata, owner_address)

    def put(
        self,
        object_ref: Any,
        data: Any | None,
        *,
        metadata: bytes = b"",
        owner_address: bytes = b"",
    ) -> None:
        """Store an object.

        Parameters
        ----------
        object_ref : hashable
            Its name, usually `bytes`.
        data : buffer or None
            Its data, not copied; None for an object that is metadata only.
        metadata, owner_address : bytes
            Spilled and restored with it.

        Raises
        ------
        ValueError
            Neither data nor metadata: such an object cannot be told from one that is missing.
        """
        if data is None and not metadata:
            raise ValueError(
                f"cannot store {object_ref!r}: expected data or metadata, found neither."
            )
        view = None if data is None else memoryview(data).cast("B").toreadonly()
        self._objects[object_ref] = (view, metadata, owner_address)

    def get(self, object_ref: Any) -> memoryview:
        """Return the data of an object, uncopied; KeyError if it is not here."""
        view = self._objects[object_ref][0]
        return memoryview(b"") if view is None else view

    def metadata(self, object_ref: Any) -> bytes:
        """Return the metadata of an object; KeyError if it is not here."""
        return self._objects[object_ref][1]

    def owner_address(self, object_ref: Any) -> bytes:
        """Return the owner address of an object; KeyError if it is not here."""
        return self._objects[object_ref][2]

    def delete(self, object_ref: Any) -> None:
        """Delete an object; one that is not here is fine."""
        self._objects.pop(object_ref, None)

    def __contains__(self, object_ref: Any) -> bool:
        return object_ref in self._objects

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._objects))

    def get_if_local(self, object_refs: Sequence[Any], /) -> list[tuple[memoryview | None, bytes]]:
        """Return ``(data or None, metadata)`` for each ref; ``(None, b"")`` if it is not here."""
        missing = (None, b"", b"")
        return [self._objects.get(ref, missing)[:2] for ref in object_refs]

    def put_file_like_object(
        self,
        metadata: bytes,
        data_size: int,
        file_like: FileLike,
        object_ref: Any,
        owner_address: bytes,
        /,
    ) -> None:
        """Read an object of `data_size` bytes from `file_like` and store it.

        Raises
        ------
        EOFError
            `file_like` ended early. Whatever it raises itself passes through. In both cases
            the store is as it was.
        """
        view = memoryview(bytearray(data_size))
        fill(view, file_like, object_ref)
        # As in Ray, an object that is already there stays: objects never change.
        restored = (view.toreadonly(), metadata, owner_address)
        self._objects.setdefault(object_ref, restored)
