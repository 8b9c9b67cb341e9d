"""Time limits of tests, in one place: no outcome depends on how fast the machine is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import repeat
from math import inf
from unittest import mock

from fsspill.storage import retry

__all__ = [
    "DEFAULT",
    "FORGIVING",
    "IMPATIENT",
    "PATIENT",
    "SLOW",
    "cleanup_limit",
    "limited_attempts",
]

PATIENT = 60.0
"""Stall timeout, and limit of clean-up, where the storage answers: a healthy server on a busy
machine may take seconds for that."""

FORGIVING = 16.0
"""Stall timeout where one request is never answered and the next one is: half of it passes."""

SLOW = 4.0
"""Stall timeout where a link is slow and bytes move all the time: half of it is less than the
bytes take that are in flight together."""

DEFAULT = 30.0
"""The default stall timeout, where the same is so of that."""

IMPATIENT = 1.0
"""Stall timeout where no request is ever answered, so that more time would change nothing."""

_CLEANUP_LIMITS = (
    "fsspill.placement.file_store.DELETE_SECONDS",
    "fsspill.placement.failover.REMOVAL_SECONDS",
    "fsspill.transfer.destroy._SECONDS",
    "fsspill.storage.small_files.CHECK_REMOVAL_SECONDS",
    "fsspill.storage.small_files.CHECK_SECONDS",
    "fsspill.storage.s3.ABORT_TIMEOUT",
    "fsspill.local_copy.copy_file.PATIENCE",
    "fsspill.local_copy.copies.SILENCE",
)
"""Seconds that fsspill waits for checks and deletions, and for local copies."""

_DESTROY_TIMEOUT = "fsspill.transfer.remote.DESTROY_TIMEOUT"
"""Seconds for a whole destruction: several of the operations above, one after another."""


@contextmanager
def cleanup_limit(seconds: float) -> Iterator[None]:
    """Limit checks and deletions of this process to so many seconds.

    They have `PATIENT` in every test. Less is for storage where they never succeed.
    """
    with ExitStack() as limits:
        for name in _CLEANUP_LIMITS:
            limits.enter_context(mock.patch(name, seconds))
        limits.enter_context(mock.patch(_DESTROY_TIMEOUT, 4 * seconds))
        yield


@contextmanager
def limited_attempts(count: int) -> Iterator[None]:
    """Raise the last error of a request after so many attempts, however long they take.

    For storage that answers and never succeeds, where a short stall timeout would also end
    attempts that are merely slow.
    """

    def backoff() -> Iterator[float]:
        yield from repeat(0.01, count - 1)
        yield inf

    with mock.patch.object(retry, "backoff", backoff):
        yield
