"""Objects that the storage does not take, while it takes others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fsspill.errors import StorageRefusedError, format_seconds
from fsspill.transfer.fuse import name_of

__all__ = ["Refusals"]

_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 60.0
"""Seconds for which an object is not tried again: doubled from the first to the longest."""

_CAPACITY = 10_000
"""Objects that are kept in memory."""


@dataclass
class _Refusal:
    reason: str
    pause: float
    until: float


class Refusals:
    """Objects that no URI takes, and the time until each is tried again.

    Parameters
    ----------
    on_refusal : callable
        Called with an error the first time that an object is refused.

    Notes
    -----
    Holds up to 10,000 objects in memory, and forgets the oldest beyond that. Each process has its
    own.
    """

    def __init__(self, on_refusal: Callable[[StorageRefusedError], None]) -> None:
        self._on_refusal = on_refusal
        self._refusals: dict[str, _Refusal] = {}

    def __len__(self) -> int:
        return len(self._refusals)

    def record(self, name: str, error: StorageRefusedError) -> None:
        """Record that no URI takes an object, and the reasons."""
        last = self._refusals.pop(name, None)
        pause = min(2 * last.pause, _LONGEST_PAUSE) if last else _FIRST_PAUSE
        self._refusals[name] = _Refusal(str(error), pause, time.monotonic() + pause)
        if len(self._refusals) > _CAPACITY:
            del self._refusals[next(iter(self._refusals))]
        if not last:
            message = (
                f"{error} Other files are stored. Object {name} stays in memory, and is tried "
                f"again after {format_seconds(pause)}, then less and less often."
            )
            self._on_refusal(StorageRefusedError(message))

    def error(self, name: str) -> StorageRefusedError | None:
        """Return why an object should not be tried now; None if it should."""
        refusal = self._refusals.get(name)
        return StorageRefusedError(refusal.reason) if refusal and self.pause(name) else None

    def before(self, object_refs: Sequence[Any]) -> Sequence[Any]:
        """Return the refs before one that was refused a moment ago.

        Raises
        ------
        StorageRefusedError
            It is the first.
        """
        for index, ref in enumerate(object_refs if self._refusals else ()):
            if error := self.error(name_of(ref)):
                if not index:
                    raise error
                return object_refs[:index]
        return object_refs

    def pause(self, name: str) -> float:
        """Return the seconds for which an object should not be tried."""
        refusal = self._refusals.get(name)
        return max(0.0, refusal.until - time.monotonic()) if refusal else 0.0

    def clear(self, names: Iterable[str]) -> None:
        """Forget objects that were stored."""
        for name in names if self._refusals else ():
            self._refusals.pop(name, None)
