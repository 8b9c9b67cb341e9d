"""Objects that Ray leaves out of what it spills, for a while."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

from fsspill.placement.background import BackgroundTask
from fsspill.transfer.fuse import name_of

__all__ = ["HeldObjects"]


class _ObjectSource(Protocol):
    def get_if_local(self, object_refs: Sequence[Any], /) -> Sequence[tuple[Any, ...]]:
        """Return the objects; see `fsspill.object_store.ObjectStore`."""


class HeldObjects:
    """Objects that this process has a reference to, so that Ray does not spill them.

    Ray asks for objects in batches, and takes the leading ones that were stored as spilled: one
    that is never stored would keep those after it from being spilled, whenever it is in front. And
    while no URI takes any, Ray asks again every 10 ms. It leaves out objects that another process
    than the raylet has a reference to
    (``PlasmaStore::IsObjectSpillable``).

    Parameters
    ----------
    object_store : ObjectStore
        Source of the objects.

    Notes
    -----
    Held objects stay in memory also when they are freed meanwhile. A thread releases them; there
    is none while nothing is held.
    """

    def __init__(self, object_store: _ObjectSource) -> None:
        self._object_store = object_store
        self._held: dict[str, tuple[float, Any]] = {}
        self._releasing = BackgroundTask(self._release_due, "fsspill-release")

    def hold(self, object_refs: Sequence[Any], seconds: float) -> None:
        """Keep objects from being spilled for so many seconds, and a few more."""
        until = time.monotonic() + seconds
        found = self._object_store.get_if_local(object_refs)
        for ref, each in zip(object_refs, found, strict=True):
            self._held[name_of(ref)] = (until, each)
        self._releasing.start()

    def release(self) -> None:
        """Release all objects, and end the thread."""
        self._releasing.shut_down()
        self._held.clear()

    def _release_due(self) -> bool:
        now = time.monotonic()
        for name, (until, _) in list(self._held.items()):
            if until <= now:
                self._held.pop(name, None)
        return not self._held
