"""Files that could not be deleted, kept for later attempts."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from itertools import islice

from fsspill.errors import FsspillError

__all__ = ["PendingDeletions"]

logger = logging.getLogger(__name__)

_PER_CALL = 1000
_CAPACITY = 100_000
"""Files that one call retries, and that are kept in memory."""


class PendingDeletions:
    """A bounded queue of files whose deletion failed.

    Notes
    -----
    Holds up to 100,000 base URLs in memory and drops the oldest beyond that; what it drops is
    found when the node is destroyed, and by ``fsspill clean``.
    """

    def __init__(self) -> None:
        self._urls: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._urls)

    def next_batch(self) -> list[str]:
        """Return the base URLs that the next call should retry, the oldest first."""
        return list(islice(self._urls, _PER_CALL))

    def discard(self, urls: Iterable[str]) -> None:
        """Remove files, whether they are in the queue or not."""
        for url in urls:
            self._urls.pop(url, None)

    def add(self, failures: Mapping[str, FsspillError]) -> None:
        """Append files that could not be deleted, and log each reason once.

        Parameters
        ----------
        failures : mapping
            Base URLs and the reasons.
        """
        for reason in dict.fromkeys(map(str, failures.values())):
            logger.warning("%s", reason)
        self._urls |= dict.fromkeys(failures)
        for url in list(islice(self._urls, max(0, len(self._urls) - _CAPACITY))):
            del self._urls[url]
