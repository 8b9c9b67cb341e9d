"""The files of one spill, stored where there is a place for them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial

from fsspill.errors import FsspillError, StoragePermissionError, clear_traceback
from fsspill.placement.placement import Candidates
from fsspill.storage.layout import SpillLocation
from fsspill.storage.retry import RequestSkippedError, Retrier
from fsspill.transfer.base import SpillFile, Transfer

__all__ = ["FailoverWriter"]

REMOVAL_SECONDS = 2.0
"""Seconds for removing what was stored in vain: the caller of `spill_objects` waits for it."""


class FailoverWriter:
    """Stores the files of one call of `spill_objects`.

    Parameters
    ----------
    files : sequence of SpillFile
        In the order of their objects.
    transfer : Transfer
        Moves them.
    candidates : Candidates
        Where they may go.
    report : callable
        Told why a location was given up.

    Attributes
    ----------
    files : list of SpillFile
        The files; after `store` their URLs are those under which they lie.
    error : FsspillError or None
        Why not all are stored.
    leftover : dict
        Base URLs of what was stored in vain and could not be removed, and why.
    """

    def __init__(
        self,
        files: Sequence[SpillFile],
        transfer: Transfer,
        candidates: Candidates,
        report: Callable[[FsspillError], None],
    ) -> None:
        self.files = list(files)
        self.error: FsspillError | None = None
        self.leftover: dict[str, FsspillError] = {}
        self._transfer = transfer
        self._candidates = candidates
        self._report = report
        self._in_vain: list[str] = []
        self._renewed: set[SpillLocation] = set()

    def store(self, seconds: float) -> list[SpillFile]:
        """Store the files; those that a location does not take go to the next healthy one.

        Parameters
        ----------
        seconds : float
            How long to wait without progress: in all, whatever the number of locations.

        Returns
        -------
        list of SpillFile
            The leading files, all of them stored in full. What was stored of those behind them is
            removed, or in `leftover`.
        """
        share = seconds / max(1, self._candidates.healthy)
        waiting = self.files
        while placed := self._place(waiting):
            done = set(placed) - self._store_once(placed, share)
            waiting = [file for file in waiting if file not in done]
        not_stored = set(waiting)
        stored = self._count_leading(not_stored)
        self._abandon([file for file in self.files[stored:] if file not in not_stored])
        if self._in_vain:
            self.leftover = self._transfer.remove(self._in_vain, seconds=REMOVAL_SECONDS)
        return self.files[:stored]

    def _place(self, files: Sequence[SpillFile]) -> list[SpillFile]:
        """Give files a location and return the leading ones for which there was one."""
        placed = []
        for file in files:
            try:
                file.move_to(self._candidates.choose(file.nbytes))
            except FsspillError as error:
                self.error = error
                break
            placed.append(file)
        return placed

    def _count_leading(self, not_stored: Collection[SpillFile]) -> int:
        """Return how many of the leading files are stored."""
        return next((i for i, file in enumerate(self.files) if file in not_stored), len(self.files))

    def _abandon(self, files: Sequence[SpillFile]) -> None:
        """Give up files that are stored behind one that is not."""
        for file in files:
            self._in_vain.append(file.url)
            self._candidates.record_delete(file.location, file.nbytes)

    def _store_once(self, files: Sequence[SpillFile], seconds: float) -> set[SpillFile]:
        """Store files where they were placed, and return those that are not stored."""
        retriers = {
            location: Retrier(seconds, partial(self._candidates.is_open, location))
            for location in dict.fromkeys(file.location for file in files)
        }
        outcomes = self._transfer.write_files(files, retriers)
        for file, failure in zip(files, outcomes, strict=True):
            if failure is None:
                self._candidates.record_write(file.location, file.nbytes)
            elif not isinstance(failure, RequestSkippedError):
                self._in_vain.append(file.url)
                self._give_up(file, failure)
        return {file for file, failure in zip(files, outcomes, strict=True) if failure}

    def _give_up(self, file: SpillFile, failure: FsspillError) -> None:
        refused = isinstance(failure, StoragePermissionError)
        if refused and file.location not in self._renewed and self._transfer.renew(file.url):
            self._renewed.add(file.location)
            return
        clear_traceback(failure)
        self._candidates.mark_unhealthy(file.location, failure)
        self._report(failure)
