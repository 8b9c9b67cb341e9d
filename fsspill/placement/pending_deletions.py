"""Files that could not be deleted, kept for later attempts."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from fsspill.storage.layout import FileRef, SpillLocation

__all__ = ["PendingDeletions"]

_CAPACITY = 100_000
"""Files that are kept in memory."""


class PendingDeletions:
    """A bounded queue of files whose deletion failed.

    Notes
    -----
    Holds up to 100,000 files in memory and drops the oldest beyond that; what it drops is
    found when the node is destroyed, and by ``fsspill clean``. May be used by several threads.
    """

    def __init__(self) -> None:
        self._files: dict[FileRef, None] = {}

    def __len__(self) -> int:
        return len(self._files)

    def oldest(self, location: SpillLocation, count: int) -> list[FileRef]:
        """Return the files of a location that failed first, so many at most."""
        files = (file for file in list(self._files) if file.location is location)
        return list(islice(files, count))

    def discard(self, files: Iterable[FileRef]) -> None:
        """Remove files, whether they are in the queue or not."""
        for file in files:
            self._files.pop(file, None)

    def add(self, files: Iterable[FileRef]) -> None:
        """Append files that could not be deleted; those that are in the queue become the newest."""
        for file in files:
            self._files.pop(file, None)
            self._files[file] = None
        for file in list(self._files)[: max(0, len(self._files) - _CAPACITY)]:
            self._files.pop(file, None)
