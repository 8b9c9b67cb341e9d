"""The copies of the files that one node has spilled, and the health of the disk that has them."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from math import inf
from typing import Protocol

from fsspill.errors import (
    CorruptObjectError,
    FsspillError,
    StorageUnavailableError,
    clear_traceback,
)
from fsspill.local_copy.checks import check_directory
from fsspill.local_copy.directory import CopyDirectory, remove_unheld
from fsspill.local_copy.eviction import Bound
from fsspill.local_copy.writer import CopyWriter
from fsspill.log import get_logger
from fsspill.metrics import Metrics
from fsspill.settings import Settings
from fsspill.storage.layout import FileRef
from fsspill.storage.mount import AbandonedError, Calls, Mount, moved

__all__ = ["OUT_OF_USE", "CircuitBreaker", "LocalCopies"]

logger = get_logger(__name__)

SILENCE = 2.0
"""Seconds without an answer of the disk after which the bucket is asked instead."""

_DESTROY_SECONDS = 10.0
"""The same for the removal of all copies: nothing waits for it but the end of the node."""

_HEALTH_SECONDS = 0.25
"""Seconds for which a disk counts as healthy once that was looked up: another process of the node
may have found otherwise, and this one would find it too."""

_FIRST_PAUSE, _LONGEST_PAUSE = 4.0, 600.0
"""Seconds for which this process leaves a disk alone that fails again within the longest of them,
whatever a probe finds: doubled each time. A probe reads what it has just written, which comes from
the memory of the system where the disk itself does not answer."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_OF_THIS_PROCESS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
"""Errors of a process without files, memory or threads."""

OUT_OF_USE = "The bucket has all files; a background probe takes the directory into use again."
"""Consequence of a disk that failed, for messages that state the failure."""


class CircuitBreaker(Protocol):
    """The health of the disk, shared by the processes of the node."""

    def is_open(self) -> bool:
        """Return True while it is out of use."""

    def open(self, error: FsspillError) -> None:
        """Take it out of use until a probe succeeds."""

    def shut_down(self) -> None:
        """End the thread that probes."""


class LocalCopies:
    """The copies of the files that one node has spilled, on a disk of that node.

    Parameters
    ----------
    settings : Settings
        Those with ``cache_dir`` and ``cache_max_bytes``.
    session_name, node_id : str
        The node.
    circuit_breaker : CircuitBreaker
        Health of the disk.
    on_failure : callable
        Called with the error that took the disk out of use.
    metrics : Metrics, optional
        Counts copies that are written, evicted and wrong.

    Notes
    -----
    Nothing here raises but `check`, and nothing waits for a disk that does not answer but for 2
    seconds, once: then the disk is out of use for all processes of the node until a probe succeeds,
    and longer each time that it fails again.
    Every call into the disk is made on a thread that may be abandoned; see
    `fsspill.storage.mount`.
    """

    def __init__(
        self,
        settings: Settings,
        session_name: str,
        node_id: str,
        circuit_breaker: CircuitBreaker,
        on_failure: Callable[[FsspillError], None],
        metrics: Metrics | None = None,
    ) -> None:
        assert settings.cache_dir is not None
        assert settings.cache_max_bytes is not None
        self.root = settings.cache_dir
        self._mount = Mount(self.root, settings.stall_timeout)
        self._directory = CopyDirectory(self.root, session_name, node_id)
        self._metrics = metrics or Metrics()
        self._bound = Bound(settings.cache_max_bytes, self._metrics)
        self._circuit_breaker = circuit_breaker
        self._on_failure = on_failure
        self._healthy_until = -inf
        self._failed, self._pause = -inf, 0.0

    def writer(self) -> CopyWriter | None:
        """Return a writer of the copies of one spill; None while the disk is out of use."""
        if not self._is_healthy():
            return None
        try:
            return CopyWriter(self._directory, self._bound, self._mount, self._on_write_error)
        except OSError as error:
            self._on_error(error)
        return None

    def calls(self, file: FileRef, undo: Callable[[], object]) -> Calls | None:
        """Return a thread for the calls that read a copy.

        None where there is no copy: of the files of another node, and while the disk is out of use.
        """
        if not file.is_of_this_node or not self._is_healthy():
            return None
        try:
            return self._mount.within(SILENCE).calls(undo)
        except OSError as error:
            self._on_error(error)
        return None

    def open_file(self, file: FileRef) -> int:
        """Open the copy of a file for reading, and note its use. On a thread of `calls`.

        Raises
        ------
        OSError
            There is none, or the disk fails.
        CorruptObjectError
            There is something else in its place.
        """
        directory = self._directory.enter()
        try:
            fd = directory.open(file.name)
        except PermissionError as error:
            raise CorruptObjectError(str(error)) from error
        with suppress(OSError):
            os.utime(fd)  # the order of evictions
        return fd

    def used_bytes(self) -> int | None:
        """Return the bytes of all copies of the node; None if the disk does not tell."""
        try:
            return self._mount.within(SILENCE).call(self._used) if self._is_healthy() else None
        except OSError:
            return None

    def _used(self) -> int:
        return self._bound.used(self._directory.enter())

    def remove(self, files: Iterable[FileRef]) -> None:
        """Remove the copies of files; those that have none are fine."""
        own = [file.name for file in files if file.is_of_this_node]
        if own and self._is_healthy():
            try:
                self._mount.within(SILENCE).call(self._remove, own)
            except OSError as error:
                self._on_error(error)

    def _remove(self, names: list[str]) -> None:
        directory = self._directory.enter()
        for name in names:
            with suppress(IsADirectoryError):
                self._bound.remove(directory, name)
            with suppress(AbandonedError):  # the copies go also if nobody waits for that any more
                moved()

    def reject(self, file: FileRef, error: Exception) -> None:
        """Take note of a copy that could not be used; remove one that is wrong or unreadable."""
        if isinstance(error, OSError) and not isinstance(error, FsspillError):
            if error.errno == errno.EIO:
                self.remove([file])  # or each restore of it would take the disk out of use again
            self._on_error(error)
        else:
            uri = file.location.uri
            self._metrics.add("fsspill_digest_mismatches", uri=uri, tier="copy")
            logger.warning(
                "the copy of %s in %s is wrong, and was removed: %s. The bucket has the file.",
                file.url,
                self.root,
                error,
            )
            self.remove([file])

    def _on_write_error(self, error: OSError) -> None:
        if error.errno in _FULL:
            logger.warning(
                "no copies of some files in %s: %s. They are in the bucket.", self.root, error
            )
        else:
            self._on_error(error)

    def _on_error(self, error: OSError) -> None:
        """Take the disk out of use, unless the error says nothing about it."""
        is_missing = isinstance(error, FileNotFoundError)  # evicted, or removed with its node
        if not is_missing and error.errno not in _OF_THIS_PROCESS:
            self.fail(error)

    def fail(self, error: OSError) -> None:
        """Take the disk out of use, and report it once for the node."""
        failure = StorageUnavailableError(
            f"cannot keep local copies in {self.root}: {type(error).__name__}: {error}. Expected a "
            "disk that takes files and returns them: check it, or leave cache_dir out."
        )
        clear_traceback(error)
        self._healthy_until = -inf
        if not self._circuit_breaker.is_open():
            self._lengthen_pause()
            self._circuit_breaker.open(failure)
            self._on_failure(failure)

    def _lengthen_pause(self) -> None:
        now = time.monotonic()
        fails_again = now - self._failed < self._pause + _LONGEST_PAUSE
        longer = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
        self._failed, self._pause = now, longer if fails_again else 0.0

    def _is_healthy(self) -> bool:
        now = time.monotonic()
        if now >= self._healthy_until:
            if now < self._failed + self._pause or self._circuit_breaker.is_open():
                return False
            self._healthy_until = now + _HEALTH_SECONDS
        return True

    def check(self) -> None:
        """Verify that copies can be kept, and remove those that no process holds any more.

        Raises
        ------
        ConfigError
            They cannot; the message says why.
        """
        check_directory(self._mount, self.root, self._bound.max_bytes)
        self.sweep()

    def sweep(self) -> None:
        """Remove the copies of sessions and nodes that no process holds."""
        try:
            self._mount.call(remove_unheld, self.root)
        except OSError as error:
            logger.warning(
                "copies of earlier sessions may be left in %s until the next start of a node: %s",
                self.root,
                error,
            )

    def shut_down(self) -> None:
        """End the thread that probes a disk that is out of use."""
        self._circuit_breaker.shut_down()

    def destroy(self) -> None:
        """Remove all copies of the node."""
        try:
            self._mount.within(_DESTROY_SECONDS).call(self._directory.remove)
        except OSError as error:
            logger.warning(
                "copies may be left in %s until the next start of a node: %s", self.root, error
            )
