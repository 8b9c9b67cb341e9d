"""Values that a forked child makes for itself.

Threads do not survive a fork, and locks survive it as they were: an executor, an event loop, a
connection or a lock of the parent makes its child wait forever.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["ProcessLocal"]

T = TypeVar("T")


class ProcessLocal(Generic[T]):
    """A value that every process makes on first use, also one that inherited it by a fork.

    Parameters
    ----------
    make : callable
        Makes the value. Of two threads that call it concurrently, both get the same value.

    Notes
    -----
    A child keeps the values of its ancestors, and does not touch them: closing an inherited
    connection would close it for the parent too, with which it shares sockets and epoll. Pickling
    keeps only `make`.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: dict[int, T] = {}

    def get(self) -> T:
        """Return the value of this process."""
        pid = os.getpid()
        if pid not in self._values:
            # Atomic, without a lock, which a fork might find held.
            self._values.setdefault(pid, self._make())
        return self._values[pid]

    def __getstate__(self) -> dict[str, Any]:
        return {"_make": self._make, "_values": {}}
