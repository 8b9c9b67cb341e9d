"""A local directory whose file system stops answering, and a record of who calls into it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fsspill.storage import mount
from tests.running import PATIENCE, poll

__all__ = ["HungMount"]

FUNCTIONS = (
    "close", "fchmod", "fstat", "listdir", "lstat", "mkdir", "open", "pread", "rmdir", "scandir",
    "stat", "statvfs", "unlink", "utime", "write", "writev",
)  # fmt: skip
"""The functions of `os` that call into a file system. Reads that never wait are none of them."""

_SPEED = 25
"""Times that the clock of stall timeouts runs faster while nothing answers."""


class HungMount:
    """A directory that answers until it is told not to.

    Parameters
    ----------
    root : str
        The directory.
    monkeypatch : pytest.MonkeyPatch
        Replaces the functions of `os`.

    Attributes
    ----------
    callers : dict
        The names of the threads that have called each function on files of the directory.
    waiting : int
        Number of calls that wait for an answer.
    """

    def __init__(self, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.callers: dict[str, set[str]] = {}
        self.waiting = 0
        self._monkeypatch = monkeypatch
        self._hung: str | None = None
        self._answers = threading.Event()
        for name in FUNCTIONS:
            monkeypatch.setattr(os, name, self._wrap(name, getattr(os, name)))

    @property
    def root_uri(self) -> str:
        """The URI of the directory."""
        return f"file://{self.root}"

    def _wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if self._is_below(options.get("dir_fd"), *arguments[:1]):
                self.callers.setdefault(name, set()).add(threading.current_thread().name)
                if name == self._hung:
                    self._wait()
            return function(*arguments, **options)

        return call

    def _wait(self) -> None:
        self.waiting += 1
        assert self._answers.wait(PATIENCE)
        self.waiting -= 1

    def _is_below(self, *places: object) -> bool:
        return any(self._path(place).startswith(self.root) for place in places)

    def _path(self, place: object) -> str:
        if isinstance(place, int):
            try:
                return os.readlink(f"/proc/self/fd/{place}")
            except OSError:
                return ""
        return os.fspath(place) if isinstance(place, (str, os.PathLike)) else ""

    @contextmanager
    def hung(self, name: str) -> Iterator[None]:
        """Let a function wait until the block ends, and then until all such calls have ended."""
        before = abandoned(self.root)
        self._hung = name
        wait = mount._Thread.wait
        fast = lambda thread, seconds: wait(thread, seconds / _SPEED)  # noqa: E731
        try:
            with self._monkeypatch.context() as patched:
                patched.setattr(mount._Thread, "wait", fast)
                yield
        finally:
            self._hung = None
            self._answers.set()
        poll(lambda: abandoned(self.root) == before, "the calls to end")
        self._answers.clear()


def abandoned(root: str) -> int:
    """Return the number of abandoned threads of a directory."""
    threads = mount._mounts.get().get(root)
    return threads._abandoned if threads else 0
