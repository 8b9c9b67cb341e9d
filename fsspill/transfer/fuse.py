"""Objects of a batch as the fused files that store them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fsspill.errors import InvalidArgumentError, ObjectNotFoundError
from fsspill.format.frame import Frame
from fsspill.format.planning import plan_files
from fsspill.settings import Settings
from fsspill.transfer.spill_file import Encoding, SpillFile

__all__ = ["fuse_objects", "match_owners", "name_of"]


def match_owners(
    object_refs: Sequence[Any], owner_addresses: Sequence[bytes] | None
) -> Sequence[bytes]:
    """Return one owner address per object; empty ones if none are given.

    Raises
    ------
    InvalidArgumentError
        Not as many owner addresses as objects.
    """
    if owner_addresses is None:
        return [b""] * len(object_refs)
    if len(owner_addresses) != len(object_refs):
        raise InvalidArgumentError(
            f"cannot spill {len(object_refs)} objects with {len(owner_addresses)} owner "
            "addresses: expected one for each object, or None."
        )
    return owner_addresses


def fuse_objects(
    object_refs: Sequence[Any],
    owner_addresses: Sequence[bytes],
    objects: Sequence[tuple[Any, ...]],
    settings: Settings,
) -> list[SpillFile]:
    """Return the files that store a batch, in the order of its objects.

    Parameters
    ----------
    object_refs, owner_addresses : sequence
        The objects' refs and owners.
    objects : sequence of tuple
        ``(buffer or None, metadata, ...)`` of each, as the object store returned it.
    settings : Settings
        Size of a file, digest and compression.

    Raises
    ------
    ObjectNotFoundError
        An object is not in the object store.
    """
    frames = []
    for ref, owner_address, (buffer, metadata, *_) in zip(
        object_refs, owner_addresses, objects, strict=True
    ):
        if buffer is None and not metadata:
            raise ObjectNotFoundError(
                f"cannot spill object {name_of(ref)}: expected it in the object store of this "
                "node, found nothing. Nothing of its batch was spilled."
            )
        frames.append(Frame.of(owner_address, metadata, buffer))
    # The raylet reads node-local files itself, by URLs that have no room for digests.
    digest = None if settings.node_local else settings.digest
    encoding = Encoding(digest, settings.compression)
    plan = plan_files([frame.nbytes for frame in frames], settings.file_size)
    names = [name_of(ref) for ref in object_refs]
    return [SpillFile(frames[objects], encoding, names[objects]) for objects in plan]


def name_of(object_ref: Any) -> str:
    """Return the name of an object in messages, which is unique."""
    return object_ref.hex() if hasattr(object_ref, "hex") else repr(object_ref)
