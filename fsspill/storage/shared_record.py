"""A few bytes that all processes of a node change in place."""

from __future__ import annotations

import asyncio
import fcntl
import os
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

__all__ = ["OpenFile", "SharedRecord"]

_LOCK_INTERVAL, _LOCK_ATTEMPTS = 0.001, 20
"""Seconds between two attempts to get the lock, and their number. A process holds it for some
microseconds, unless it is stopped there."""


class OpenFile(Protocol):
    """A function that opens a file of the node's; `SharedState.open_file` with its names."""

    def __call__(self, *, create: bool) -> int:
        """Return a descriptor for reading and writing, raise OSError."""


class SharedRecord:
    """Some bytes that the processes of a node share, or where they cannot, of this process alone.

    Parameters
    ----------
    size : int
        Their number.
    open_file : callable, optional
        Opens the file; without one nothing is shared.

    Notes
    -----
    Nothing raises. A change is four system calls. The lock of a process that was stopped is ignored
    after 20 ms, and one that is killed loses it: the record is for numbers that the next change
    corrects.
    """

    def __init__(self, size: int, open_file: OpenFile | None = None) -> None:
        self._size = size
        self._open_file = open_file
        self._own = b""
        self._fd = -1
        self._close: Callable[[], object] = lambda: None

    def read(self) -> bytes:
        """Return the record; b"" if no process has written one."""
        return self._load() if self._is_open(create=False) else self._own

    async def change(self, function: Callable[[bytes], bytes]) -> None:
        """Replace the record by what a function makes of it, while no other process does so."""
        if not self._is_open(create=True):
            self._own = function(self._own)
            return
        locked = await self._lock()
        try:
            self._own = function(self._load())
            self._store()
        finally:
            if locked:
                with suppress(OSError):
                    fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file, which the next use opens."""
        self._close()
        self._fd = -1

    def _is_open(self, *, create: bool) -> bool:
        if self._fd < 0 and self._open_file:
            try:
                self._fd = self._open_file(create=create)
            except OSError:
                return False
            self._close = weakref.finalize(self, os.close, self._fd)
        return self._fd >= 0

    def _load(self) -> bytes:
        try:
            data = os.pread(self._fd, self._size, 0)
        except OSError:
            data = b""
        return data if len(data) == self._size else self._own

    def _store(self) -> None:
        with suppress(OSError):  # the disk is full: this process has its own record
            os.pwrite(self._fd, self._own, 0)

    async def _lock(self) -> bool:
        for _ in range(_LOCK_ATTEMPTS):
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(_LOCK_INTERVAL)
            except OSError:
                return False
            else:
                return True
        return False
