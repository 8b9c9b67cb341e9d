"""The fused files of one node, on the configured URIs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from math import inf

from fsspill.child_process import is_interpreter_exiting, run_in_child
from fsspill.errors import (
    ConfigError,
    FsspillError,
    InvalidArgumentError,
    StorageRefusedError,
    clear_traceback,
)
from fsspill.format.url import SpillURL
from fsspill.local_copy.checks import probe_directory
from fsspill.local_copy.copies import OUT_OF_USE, SILENCE, LocalCopies
from fsspill.log import get_logger
from fsspill.metrics import Metrics, Stats
from fsspill.placement.activity import Activity
from fsspill.placement.background import BackgroundTask
from fsspill.placement.circuit_breaker import CircuitBreaker, is_circuit_open
from fsspill.placement.failover import FailoverWriter
from fsspill.placement.pending_deletions import PendingDeletions
from fsspill.placement.placement import Candidates, Placement
from fsspill.placement.refusals import Refusals
from fsspill.placement.shared_state import SharedState
from fsspill.settings import Settings
from fsspill.storage.client_pool import ClientPool
from fsspill.storage.layout import FileRef, SpillLocation, find_file
from fsspill.storage.mount import Mount
from fsspill.storage.packages import reporting_conflicts
from fsspill.storage.small_files import check_location, write_heartbeats
from fsspill.transfer.base import FrameRef, FrameStream, Transfer
from fsspill.transfer.local import LocalTransfer
from fsspill.transfer.remote import RemoteTransfer
from fsspill.transfer.spill_file import SpillFile, WrittenFile

__all__ = ["FileStore"]

logger = get_logger(__name__)

DELETE_SECONDS = 10.0
"""Seconds that a deletion may take in all: Ray restores with the same processes."""

_CHILD_TIMEOUT = 60.0
"""Seconds to destroy in a child process: the limit of `destroy` itself, and a start of Python."""

_FILES_PER_PASS = 1000
"""Pending files that are deleted together: one bulk request of S3."""

_MARKED_UNHEALTHY = "Marked unhealthy, and not written to, until a background probe succeeds."
"""Consequence of a failed write, for messages that state the failure."""


class FileStore:
    """The fused files of one node of one session, on the configured URIs.

    Parameters
    ----------
    settings : Settings
        The URIs, and all other parameters.
    session_name, node_id : str
        Components of the path of every file.
    on_failover : callable, optional
        Called with the error that marked a URI unhealthy; logs it if not given.
    on_refusal : callable, optional
        Called with the error the first time that no URI takes an object; logs it if not given.
    on_copy_failure : callable, optional
        Called with the error that took the disk of the local copies out of use; logs it if not
        given.

    Attributes
    ----------
    locations : list of SpillLocation
        The configured URIs, as this node uses them.
    metrics : Metrics
        Counts what is done by this store.
    copies : LocalCopies or None
        Local copies of the files that this node has written, if they are configured.
    transfer : Transfer
        Moves the bytes.
    placement : Placement
        Chooses the URI of a file.
    pending_deletions : PendingDeletions
        Files that could not be deleted.
    refusals : Refusals
        Objects that no URI takes.

    Notes
    -----
    *Threads.* One call at a time. While deletions are pending, a thread retries one file per URI
    every 0.5 to 5 seconds, and all others as soon as one is deleted; there is none otherwise, and
    it ends with the store.
    """

    def __init__(
        self,
        settings: Settings,
        session_name: str,
        node_id: str,
        on_failover: Callable[[FsspillError], None] | None = None,
        on_refusal: Callable[[FsspillError], None] | None = None,
        on_copy_failure: Callable[[FsspillError], None] | None = None,
    ) -> None:
        names = {"prefix": settings.prefix, "session_name": session_name, "node_id": node_id}
        self.locations = [
            SpillLocation(uri, shared=settings.shared, **names) for uri in settings.uri
        ]
        self._settings = settings
        self._on_failover = on_failover or _log_failover
        self.metrics = Metrics()
        self._activity = Activity(self.metrics)
        self._state = SharedState(session_name, node_id)
        self._clients = ClientPool(
            settings.storage_options or {},
            settings.engine,
            self.metrics,
            is_unhealthy=partial(is_circuit_open, self._state),
            open_shared=self._state.open_file,
        )
        self.pending_deletions = PendingDeletions()
        # Not a method, which would keep the store, and with it its threads, from being collected.
        report = partial(_report_refusal, self._activity, on_refusal or _log_refusal)
        self.refusals = Refusals(report)
        self._deleting = BackgroundTask(self._delete_pending, "fsspill-delete")
        self.copies = _make_copies(
            settings,
            session_name,
            node_id,
            self._state,
            on_copy_failure or _log_copy_failure,
            self.metrics,
        )
        self.transfer = _make_transfer(
            self.locations, self._clients, settings, self.copies, self.metrics
        )
        # Not a method: a probe must not keep the store from being collected.
        probe = partial(_probe, self._clients, settings.stall_timeout)
        self.placement = Placement(self.locations, settings, self._state, probe)
        self._destroy_in_child = partial(_destroy, settings, session_name, node_id)

    def check(self) -> None:
        """Verify that every URI can be written, read, listed and deleted; four requests each."""
        for location in self.locations:
            try:
                with reporting_conflicts(location.uri):
                    check_location(self._clients, location, self._settings.stall_timeout)
            except FsspillError:
                # What is wrong may be corrected where the filesystem looks only once.
                self._clients.forget(location)
                raise

    def check_copies(self) -> None:
        """Verify that local copies can be kept, if they are configured. Raises ConfigError."""
        if self.copies:
            self.copies.check()

    def write_heartbeat(self, name: str) -> None:
        """Write a heartbeat under every URI, one request each; see `write_heartbeats`."""
        write_heartbeats(self._clients, self.locations, name, self._settings.stall_timeout)

    def candidates(self) -> Candidates:
        """Return the URIs that may get the files of a batch.

        Raises
        ------
        FsspillError
            All of them are unhealthy.
        """
        candidates = self.placement.candidates()
        candidates.require()
        return candidates

    def write(self, files: Sequence[SpillFile], candidates: Candidates) -> list[WrittenFile]:
        """Write files, and return the leading ones that are written in full.

        Raises
        ------
        FsspillError
            Not even the first one could be written.
        """
        writer = FailoverWriter(
            self.transfer, candidates, self._clients.renew, self.refusals, self._report_failover
        )
        began = time.perf_counter()
        written = writer.write(files, self._settings.stall_timeout)
        self._activity.record_spill(written, self.transfer.tier, time.perf_counter() - began)
        self._keep_orphans(writer.orphans)
        if writer.error is not None:
            clear_traceback(writer.error)
            if not written:
                raise writer.error
            if not isinstance(writer.error, StorageRefusedError):  # those are reported once
                logger.warning(
                    "spilled %d of %d files, and the objects of the others stay in memory: %s",
                    len(written),
                    len(files),
                    writer.error,
                )
        return written

    def _report_failover(self, failure: FsspillError) -> None:
        self._activity.record_failover(failure.uri)
        self._on_failover(failure)

    def find_frame(self, url: bytes | str) -> FrameRef:
        """Return the frame that a URL with offset names.

        Raises
        ------
        InvalidArgumentError
            It is no such URL.
        ConfigError
            It is under none of the configured URIs.
        CorruptObjectError
            It has no digest, or an invalid description of its compression.
        """
        parsed, file = self._find(url)
        return FrameRef.of(parsed, file, verified=not self._settings.node_local)

    def find_all(
        self, urls: Iterable[bytes | str]
    ) -> tuple[list[FileRef], list[InvalidArgumentError | ConfigError]]:
        """Return the files that URLs with offset name, and an error for each that names none."""
        files: list[FileRef] = []
        refused: list[InvalidArgumentError | ConfigError] = []
        for url in urls:
            try:
                parsed, file = self._find(url)
                files.append(file._replace(version=parsed.version))
            except (InvalidArgumentError, ConfigError) as error:
                refused.append(error)
        return files, refused

    def _find(self, url: bytes | str) -> tuple[SpillURL, FileRef]:
        parsed = SpillURL.parse(url)
        return parsed, find_file(self.locations, parsed.base_url)

    @contextmanager
    def open(self, frame: FrameRef) -> Iterator[FrameStream]:
        """Open a frame for the block, which restores it unless it raises. Raises FsspillError."""
        began = time.perf_counter()
        with self.transfer.open(frame) as stream:
            yield stream
            tier = stream.tier
        self._activity.record_restore(frame, tier, time.perf_counter() - began)

    def renew(self, file: FileRef) -> bool:
        """Renew the credentials of a file's URI; return True if a retry makes sense."""
        return self._clients.renew(file.location)

    def delete(self, files: Sequence[FileRef]) -> None:
        """Delete files.

        Those that cannot be deleted now are logged and retried in the background. Nothing is sent
        to a URI that is unhealthy.
        """
        self._keep_orphans(self._delete(files))

    def _keep_orphans(self, failures: Mapping[FileRef, FsspillError]) -> None:
        """Log why files could not be deleted, a line for each URI, and retry in the background."""
        for location in dict.fromkeys(file.location for file in failures):
            reasons = [error for file, error in failures.items() if file.location is location]
            logger.warning(
                "cannot delete files under %s now (%d), and tries again in the background: %s",
                location.uri,
                len(reasons),
                reasons[0],
            )
        self.pending_deletions.add(failures)
        if failures:
            self._deleting.start()

    def _delete(self, files: Sequence[FileRef]) -> dict[FileRef, FsspillError]:
        """Delete files, and return those that may still be there and why."""
        unhealthy = {place: self.placement.failure(place) for place in self.locations}
        failures = {file: error for file in files if (error := unhealthy[file.location])}
        if self.copies and failures:
            self.copies.remove(failures)  # those of all others are removed with them
        wanted = [file for file in dict.fromkeys(files) if file not in failures]
        failures |= self.transfer.delete(wanted, seconds=DELETE_SECONDS) if wanted else {}
        deleted = [file for file in wanted if file not in failures]
        self.placement.usage.remove(deleted)
        self._activity.record_delete(deleted)
        self.pending_deletions.discard(deleted)
        return failures

    def _delete_pending(self) -> bool:
        """Delete files whose deletion failed before; return True if none are left."""
        for location in self.locations:
            self._delete_pending_at(location)
        return not self.pending_deletions

    def _delete_pending_at(self, location: SpillLocation) -> None:
        """Delete one file, and the others as long as that works."""
        count = 1
        while files := self.pending_deletions.oldest(location, count):
            failures = self._delete(files)
            # After all others, so that one that is refused for good does not stand in their way.
            self.pending_deletions.add(failures)
            if len(failures) == len(files):
                return
            count = _FILES_PER_PASS

    def stats(self) -> Stats:
        """Return the samples of all metrics; see `fsspill.metrics`."""
        self.update_gauges()
        return self.metrics.stats()

    def update_gauges(self) -> None:
        """Set the gauges of what is not counted by events. No request."""
        for location in self.locations:
            is_open = self.placement.failure(location) is not None
            self.metrics.set("fsspill_circuit_open", is_open, uri=location.uri)
            if not location.local:
                rate = self._clients.meter(location.uri).throttle.rate
                limit = rate if rate < inf else 0
                self.metrics.set("fsspill_request_rate_limit", limit, uri=location.uri)
        self.metrics.set("fsspill_pending_deletions", len(self.pending_deletions))
        if self.copies and (used := self.copies.used_bytes()) is not None:
            self.metrics.set("fsspill_copy_bytes", used)

    def shut_down(self) -> None:
        """Stop all threads, and discard the state shared by the processes of this node."""
        self._deleting.shut_down()
        if self.copies:
            self.copies.shut_down()
        self.placement.shut_down()
        self._state.discard()

    def destroy(self) -> None:
        """Shut down, and delete every file of this node. Never raises: failures are logged."""
        self.shut_down()
        try:
            # A process that is exiting starts no threads, which filesystems and mounts need.
            if is_interpreter_exiting():
                run_in_child(self._destroy_in_child, timeout=_CHILD_TIMEOUT)
            else:
                if self.copies:
                    self.copies.destroy()
                self.transfer.destroy()
        except Exception as error:
            logger.warning(
                "could not remove all spilled files of this node, which 'fsspill clean' does: %s",
                error,
            )


def _probe(clients: ClientPool, stall_timeout: float, location: SpillLocation, name: str) -> None:
    check_location(clients, location, stall_timeout, name)


def _report_refusal(
    activity: Activity, report: Callable[[FsspillError], None], failure: FsspillError
) -> None:
    activity.record_refusal()
    report(failure)


def _destroy(settings: Settings, session_name: str, node_id: str) -> None:
    FileStore(settings, session_name, node_id).destroy()


def _make_transfer(
    locations: Sequence[SpillLocation],
    clients: ClientPool,
    settings: Settings,
    copies: LocalCopies | None,
    metrics: Metrics,
) -> Transfer:
    if settings.local:
        return LocalTransfer(locations, settings, metrics)
    return RemoteTransfer(locations, clients, settings, copies)


def _make_copies(
    settings: Settings,
    session_name: str,
    node_id: str,
    state: SharedState,
    on_failure: Callable[[FsspillError], None],
    metrics: Metrics,
) -> LocalCopies | None:
    if settings.cache_dir is None:
        return None
    # Not of the copies: a probe must not keep them from being collected.
    probe = partial(_probe_copies, settings.cache_dir)
    breaker = CircuitBreaker(state, settings.cache_dir, probe, "copies are kept there again")
    return LocalCopies(settings, session_name, node_id, breaker, on_failure, metrics)


def _probe_copies(root: str) -> None:
    Mount(root, SILENCE).call(probe_directory, root)


def _log_copy_failure(failure: FsspillError) -> None:
    logger.warning("%s %s", failure, OUT_OF_USE)


def _log_failover(failure: FsspillError) -> None:
    logger.warning("%s %s", failure, _MARKED_UNHEALTHY)


def _log_refusal(failure: FsspillError) -> None:
    logger.warning("%s", failure)
