"""The files of one spill, each written to a URI that takes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import takewhile

from fsspill.errors import FsspillError, StoragePermissionError, clear_traceback
from fsspill.placement.placement import Candidates
from fsspill.storage.layout import FileRef, SpillLocation
from fsspill.storage.retry import RequestSkippedError, Retrier
from fsspill.transfer.base import Transfer
from fsspill.transfer.spill_file import SpillFile, WrittenFile

__all__ = ["FailoverWriter"]

REMOVAL_SECONDS = 2.0
"""Seconds for deleting orphans: the caller of `spill_objects` waits for it."""


class FailoverWriter:
    """Writer of the files of one call of `spill_objects`, with failover to the next healthy URI.

    Parameters
    ----------
    transfer : Transfer
        Moves them.
    candidates : Candidates
        The URIs that may take them.
    renew : callable
        Looks for a location's credentials again; see `fsspill.storage.client_pool.ClientPool`.
    on_failover : callable
        Called with the error that marked a location unhealthy.

    Attributes
    ----------
    error : FsspillError or None
        Why not all files are written.
    orphans : dict
        Files that were written, or may have been, are referenced by nothing and could not be
        deleted; and why.
    """

    def __init__(
        self,
        transfer: Transfer,
        candidates: Candidates,
        renew: Callable[[SpillLocation], bool],
        on_failover: Callable[[FsspillError], None],
    ) -> None:
        self.error: FsspillError | None = None
        self.orphans: dict[FileRef, FsspillError] = {}
        self._transfer = transfer
        self._candidates = candidates
        self._renew = renew
        self._on_failover = on_failover
        self._unreferenced: list[FileRef] = []
        self._renewed: set[SpillLocation] = set()

    def write(self, files: Sequence[SpillFile], seconds: float) -> list[WrittenFile]:
        """Write files; those that a location does not take go to the next healthy one.

        Parameters
        ----------
        files : sequence of SpillFile
            In the order of their objects.
        seconds : float
            Stall timeout: in all, whatever the number of locations.

        Returns
        -------
        list of WrittenFile
            The leading files, all of them written in full. What was written of those after them is
            deleted, or in `orphans`.
        """
        share = seconds / max(1, self._candidates.healthy)
        written: dict[SpillFile, WrittenFile] = {}
        waiting = list(files)
        while placed := self._place(waiting):
            written |= self._write_once(placed, share)
            waiting = [file for file in waiting if file not in written]
        leading = list(takewhile(written.__contains__, files))
        unwanted = [written[file].ref for file in files[len(leading) :] if file in written]
        self._discard([*unwanted, *self._unreferenced])
        return [written[file] for file in leading]

    def _place(self, files: Sequence[SpillFile]) -> list[tuple[SpillFile, FileRef]]:
        """Return the leading files for which there is a location, each with its new name there."""
        placed = []
        for file in files:
            try:
                location = self._candidates.choose(file.nbytes)
            except FsspillError as error:
                self.error = error
                break
            placed.append((file, location.new_file(len(file.frames), file.nbytes)))
        return placed

    def _discard(self, files: Sequence[FileRef]) -> None:
        """Delete files that no URL names."""
        if files:
            self.orphans = self._transfer.delete(files, seconds=REMOVAL_SECONDS)
            self._candidates.record_delete(file for file in files if file not in self.orphans)

    def _write_once(
        self, placed: Sequence[tuple[SpillFile, FileRef]], seconds: float
    ) -> dict[SpillFile, WrittenFile]:
        """Write files where they were placed, and return those that are."""
        retriers = {
            location: Retrier(seconds, partial(self._candidates.is_open, location))
            for location in dict.fromkeys(ref.location for _, ref in placed)
        }
        written: dict[SpillFile, WrittenFile] = {}
        abandoned: list[FileRef] = []
        outcomes = self._transfer.write(placed, retriers)
        for (file, ref), outcome in zip(placed, outcomes, strict=True):
            if isinstance(outcome, WrittenFile):
                written[file] = outcome
            elif not isinstance(outcome.error, RequestSkippedError):
                self._fail_over(ref.location, outcome.error)
            abandoned += outcome.abandoned
        # Abandoned ones too: they may take room until they are deleted.
        self._candidates.record_write([*(file.ref for file in written.values()), *abandoned])
        self._unreferenced += abandoned
        return written

    def _fail_over(self, location: SpillLocation, failure: FsspillError) -> None:
        refused = isinstance(failure, StoragePermissionError)
        if refused and location not in self._renewed and self._renew(location):
            self._renewed.add(location)
            return
        clear_traceback(failure)
        self._candidates.mark_unhealthy(location, failure)
        self._on_failover(failure)
