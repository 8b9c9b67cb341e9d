"""The files of one spill, each written to a URI that takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import takewhile

from fsspill.errors import (
    FsspillError,
    StorageFullError,
    StoragePermissionError,
    StorageRefusedError,
    clear_traceback,
    is_transient,
)
from fsspill.placement.placement import Candidates
from fsspill.placement.refusals import Refusals
from fsspill.storage.layout import FileRef, SpillLocation
from fsspill.storage.retry import RequestSkippedError, Retrier
from fsspill.transfer.base import Transfer
from fsspill.transfer.spill_file import SpillFile, WrittenFile

__all__ = ["FailoverWriter"]

REMOVAL_SECONDS = 2.0
"""Seconds for deleting orphans: the caller of `spill_objects` waits for it."""


class FailoverWriter:
    """Writer of the files of one call of `spill_objects`, with failover to the next healthy URI.

    A URI is marked unhealthy when it does not answer, is full, or fails a probe too. A file that it
    refuses otherwise is at fault itself: it goes to the next URI. One that all of them refuse is
    split, until they take all of its objects but those that are at fault.

    Parameters
    ----------
    transfer : Transfer
        Moves them.
    candidates : Candidates
        The URIs that may take them.
    renew : callable
        Looks for a location's credentials again; see `fsspill.storage.client_pool.ClientPool`.
    refusals : Refusals
        Records the objects that no location takes.
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
        refusals: Refusals,
        on_failover: Callable[[FsspillError], None],
    ) -> None:
        self.error: FsspillError | None = None
        self.orphans: dict[FileRef, FsspillError] = {}
        self._transfer = transfer
        self._candidates = candidates
        self._renew = renew
        self._refusals = refusals
        self._on_failover = on_failover
        self._refused: dict[SpillFile, dict[SpillLocation, FsspillError]] = {}
        self._halves: dict[SpillFile, tuple[SpillFile, SpillFile]] = {}
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
            The leading files, or those that they were split into, all of them written in full.
            What was written of those after them is deleted, or in `orphans`.
        """
        try:
            written = self._write_all(files, seconds / max(1, self._candidates.healthy))
            parts = list(self._parts(files))
        finally:
            for halves in self._halves.values():
                for half in halves:
                    half.release()
        leading = list(takewhile(written.__contains__, parts))
        unwanted = [written[file].ref for file in parts[len(leading) :] if file in written]
        self._discard([*unwanted, *self._unreferenced])
        for file in leading:
            self._refusals.clear(file.names)
        return [written[file] for file in leading]

    def _write_all(
        self, files: Sequence[SpillFile], seconds: float
    ) -> dict[SpillFile, WrittenFile]:
        """Write files, until none of those left has a location, and return those that are written.

        Objects that no location takes are recorded.
        """
        written: dict[SpillFile, WrittenFile] = {}
        while placed := self._place(files, written):
            written |= self._write_once(placed, seconds)
        for file, refused in self._refused.items():
            error = self._candidates.refusal(file.nbytes, refused)
            if error and file not in written:
                self._record(file, error)
        return written

    def _record(self, file: SpillFile, error: StorageRefusedError) -> None:
        if len(file.names) == 1:
            self._refusals.record(file.names[0], error)

    def _parts(self, files: Sequence[SpillFile]) -> Iterator[SpillFile]:
        """Yield files, or those that they were split into."""
        for file in files:
            if file in self._halves:
                yield from self._parts(self._halves[file])
            else:
                yield file

    def _place(
        self, files: Sequence[SpillFile], written: dict[SpillFile, WrittenFile]
    ) -> list[tuple[SpillFile, FileRef]]:
        """Return the leading files for which there is a location, each with its new name there."""
        placed = []
        waiting = [file for file in self._parts(files) if file not in written]
        while waiting:
            file = waiting.pop(0)
            try:
                location = self._candidates.choose(file.nbytes, self._refused.get(file, {}))
            except FsspillError as error:
                if isinstance(error, StorageRefusedError) and self._split(file):
                    waiting[:0] = self._halves[file]
                    continue
                self.error = error
                break
            placed.append((file, location.new_file(len(file.frames), file.nbytes)))
        return placed

    def _split(self, file: SpillFile) -> bool:
        """Split a file that no location takes; return False if it has only one object."""
        self._refused.setdefault(file, {})
        if halves := file.split():
            self._halves[file] = halves
        return file in self._halves

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
        outcomes = self._transfer.write(placed, retriers)
        written: dict[SpillFile, WrittenFile] = {}
        abandoned: list[FileRef] = []
        failures: dict[SpillLocation, dict[SpillFile, FsspillError]] = {}
        for (file, ref), outcome in zip(placed, outcomes, strict=True):
            abandoned += outcome.abandoned
            if isinstance(outcome, WrittenFile):
                written[file] = outcome
            elif not isinstance(outcome.error, RequestSkippedError):
                failures.setdefault(ref.location, {})[file] = outcome.error
        # Abandoned ones too: they may take room until they are deleted.
        self._candidates.record_write([*(file.ref for file in written.values()), *abandoned])
        self._unreferenced += abandoned
        for location, found in failures.items():
            answered = any(file.ref.location is location for file in written.values())
            self._handle_failures(location, found, answered)
        return written

    def _handle_failures(
        self, location: SpillLocation, failures: dict[SpillFile, FsspillError], answered: bool
    ) -> None:
        """Find out what is at fault: credentials, the files, or the location.

        `answered` is true if the location took another file meanwhile.
        """
        denied = any(isinstance(error, StoragePermissionError) for error in failures.values())
        if denied and location not in self._renewed and self._renew(location):
            self._renewed.add(location)
            return
        for error in failures.values():
            clear_traceback(error)
        of_location = [
            error
            for file, error in failures.items()
            if not _may_be_refusal(error, answered and len(file.frames) == 1)
        ]
        if not of_location and self._candidates.probe(location):
            for file, error in failures.items():
                self._refused.setdefault(file, {})[location] = error
            return
        error = next(iter(of_location or failures.values()))
        self._candidates.mark_unhealthy(location, error)
        error.uri = location.uri
        self._on_failover(error)


def _may_be_refusal(error: FsspillError, lasting: bool) -> bool:
    """Return True if an error may concern its file alone, which a probe of the location tells.

    With `lasting` also one that lasted until the stall timeout. Not if the location took no other
    file meanwhile, since a probe would only wait too; nor for a file of several objects, since each
    half would take as long again.
    """
    return not isinstance(error, StorageFullError) and (lasting or not is_transient(error))
