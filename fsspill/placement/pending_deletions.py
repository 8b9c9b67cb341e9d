"""Files that could not be deleted, kept for later attempts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice

from fsspill.errors import FsspillError
from fsspill.log import get_logger
from fsspill.storage.layout import FileRef

__all__ = ["PendingDeletions"]

logger = get_logger(__name__)

_PER_CALL = 1000
_CAPACITY = 100_000
"""Files that one call retries, and that are kept in memory."""


class PendingDeletions:
    """A bounded queue of files whose deletion failed.

    Notes
    -----
    Holds up to 100,000 files in memory and drops the oldest beyond that; what it drops is
    found when the node is destroyed, and by ``fsspill clean``.
    """

    def __init__(self) -> None:
        self._files: dict[FileRef, None] = {}

    def __len__(self) -> int:
        return len(self._files)

    def next_batch(self) -> list[FileRef]:
        """Return the files that the next call should retry, the oldest first."""
        return list(islice(self._files, _PER_CALL))

    def discard(self, files: Iterable[FileRef]) -> None:
        """Remove files, whether they are in the queue or not."""
        for file in files:
            self._files.pop(file, None)

    def add(self, failures: Mapping[FileRef, FsspillError]) -> None:
        """Append files that could not be deleted, and log each reason once.

        Parameters
        ----------
        failures : mapping
            Files and the reasons.
        """
        for reason in dict.fromkeys(map(str, failures.values())):
            logger.warning("%s", reason)
        self._files |= dict.fromkeys(failures)
        for file in list(islice(self._files, max(0, len(self._files) - _CAPACITY))):
            del self._files[file]
