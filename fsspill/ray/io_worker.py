"""External storage as Ray's IO workers use it.

Ray swallows what a backend raises, calls a failing spill again 10 ms later, never repeats a
deletion and waits for ever on a restore that cannot succeed. So nothing but a restore that may yet
succeed is raised here: a spill that fails returns nothing, and the reason goes to the drivers; an
object that is lost is put into the object store as the error that ``ray.get`` raises.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from math import inf
from typing import Any

from fsspill.errors import (
    CorruptObjectError,
    FsspillError,
    StorageNotFoundError,
    format_seconds,
)
from fsspill.external_storage import ExternalStorage, NullStorage
from fsspill.format.url import parse_url_with_offset
from fsspill.placement.shared_state import SharedState
from fsspill.ray.core_worker import CoreWorkerStore, DriverNotifier
from fsspill.ray.heartbeat import Heartbeat
from fsspill.ray.malloc import raise_trim_threshold

__all__ = ["FailedStorage", "IOWorkerStorage"]

logger = logging.getLogger(__name__)

_RETRY_INTERVAL = 60.0
"""Seconds between two attempts to delete what could not be deleted: a spill or restore waits."""


class IOWorkerStorage(ExternalStorage):
    """The storage of an IO worker.

    Parameters
    ----------
    lost_after : float
        Seconds after which an object that cannot be reached counts as lost on this node.
    node_id, session_name : str
        As Ray gives them.
    **arguments
        Those of `ExternalStorage`.
    """

    def __init__(
        self, *, lost_after: float, node_id: str, session_name: str, **arguments: Any
    ) -> None:
        self._core_worker = CoreWorkerStore(self._remember_failure)
        super().__init__(
            **arguments,
            node_id=node_id,
            session_name=session_name,
            object_store=self._core_worker,
        )
        self._lost_after = lost_after
        self._notifier = DriverNotifier(self._state, node_id)
        self._restore_failures = RestoreFailures(self._state)
        self._heartbeat = Heartbeat(self.transfer, node_id)
        self._restoring = ""
        self._retried = -inf

    def spill_objects(
        self, object_refs: Sequence[Any], owner_addresses: Sequence[bytes] | None = None
    ) -> list[bytes]:
        """Spill objects; return the URLs of the leading ones, none if it fails. Never raises.

        Takes less than 5 ms while all URIs are given up, so that Ray falls back to the node's own
        disk in a few seconds: it does not if that takes 20 ms.
        """
        raise_trim_threshold()
        try:
            urls = super().spill_objects(object_refs, owner_addresses)
        except Exception as error:
            self._notifier.notify(
                "spill", f"{error} Objects stay in memory or on the node's own disk."
            )
            return []
        self._heartbeat.start()
        self._retry_deletions()
        return urls

    def _retry_deletions(self) -> None:
        """Try what could not be deleted again: Ray may never give this process another deletion."""
        if self._undeleted and time.monotonic() - self._retried >= _RETRY_INTERVAL:
            self._retried = time.monotonic()
            self.delete_spilled_objects([])

    def _report(self, failure: FsspillError) -> None:
        self._notifier.notify("given up", f"{failure} It is given up until a probe succeeds.")

    def restore_spilled_objects(
        self, object_refs: Sequence[Any], url_with_offset_list: Sequence[bytes | str]
    ) -> int:
        """Restore objects, or the error that says that they are lost.

        Raises
        ------
        FsspillError
            An object cannot be reached now. Ray calls again.
        """
        raise_trim_threshold()
        return sum(
            self._restore_or_fail(ref, url.decode() if isinstance(url, bytes) else url)
            for ref, url in zip(object_refs, url_with_offset_list, strict=True)
        )

    def _restore_or_fail(self, object_ref: Any, url: str) -> int:
        self._restoring = url
        reason = self._restore_failures.lost_reason(url)
        if reason is None:
            try:
                count = super().restore_spilled_objects([object_ref], [url])
            except FsspillError as error:
                reason = self._reason_to_fail(url, error)
                if reason is None:
                    # Ray prints the traceback; those of causes are a filesystem's own, and may
                    # show secrets.
                    raise error.with_traceback(None) from None
            else:
                self._restore_failures.clear(url)
                self._heartbeat.start()
                self._retry_deletions()
                return count
        self._fail(object_ref, url, reason)
        return 0

    def _reason_to_fail(self, url: str, error: FsspillError) -> str | None:
        """Return why the object counts as lost; None if it may yet be restored."""
        if _is_lost(error):
            return str(error)
        seconds = self._restore_failures.failing_for(url)
        if seconds >= self._lost_after:
            return f"{error} That has been so for {format_seconds(seconds)} (lost_after)."
        self._notifier.notify("restore", f"{error} Ray tries again, and ray.get waits.")
        return None

    def _fail(self, object_ref: Any, url: str, reason: str) -> None:
        from fsspill.ray.errors import SpilledObjectLostError

        error = SpilledObjectLostError(object_ref.hex(), parse_url_with_offset(url).url, reason)
        logger.warning("%s", error)
        self._core_worker.put_error(object_ref, error)

    def _remember_failure(self, failure: BaseException) -> None:
        """Before this process is ended: let the next attempt answer at once if it is no use."""
        if _is_lost(failure):
            self._restore_failures.mark_lost(self._restoring, str(failure))

    def delete_spilled_objects(self, urls: Sequence[bytes | str]) -> None:
        """Delete files. Never raises: Ray would swallow it, and not call again."""
        try:
            super().delete_spilled_objects(urls)
        except Exception as error:
            logger.warning("%s", error)

    def destroy_external_storage(self) -> None:
        """Delete every file of this node, and nothing else."""
        self._heartbeat.stop()
        super().destroy_external_storage()


def _is_lost(error: BaseException) -> bool:
    """Whether an error says that an object is gone or wrong for good."""
    return isinstance(error, (StorageNotFoundError, CorruptObjectError))


class RestoreFailures:
    """The objects that this node could not restore, known to all of its processes."""

    _KIND = "unrestored"

    def __init__(self, state: SharedState) -> None:
        self._state = state

    def lost_reason(self, url: str) -> str | None:
        """Return why an object is lost for good; None if it is not, as far as is known."""
        reason: str | None = (self._state.read(self._KIND, url) or {}).get("lost")
        return reason

    def mark_lost(self, url: str, reason: str) -> None:
        self._state.write(self._KIND, url, {"since": time.time(), "lost": reason})

    def failing_for(self, url: str) -> float:
        """Return for how long an object could not be restored, from now if that is new."""
        record = self._state.read(self._KIND, url)
        if record is None:
            record = {"since": time.time()}
            self._state.write(self._KIND, url, record)
        return float(time.time() - record["since"])

    def clear(self, url: str) -> None:
        self._state.remove(self._KIND, url)


class FailedStorage(NullStorage):
    """Storage of a process that could not set it up: every call says so, and nothing hangs.

    Destroying it does nothing: a process that spilled nothing has nothing to remove.
    """

    def __init__(self, reason: Exception, node_id: str, session_name: str) -> None:
        self._reason = reason
        self._notifier = DriverNotifier(SharedState(session_name, node_id), node_id)

    def spill_objects(
        self, object_refs: Sequence[Any], owner_addresses: Sequence[bytes] | None = None
    ) -> list[bytes]:
        """Return nothing, and tell the drivers why."""
        self._notifier.notify("setup", f"{self._reason} This node cannot spill objects.")
        return []

    def restore_spilled_objects(
        self, object_refs: Sequence[Any], url_with_offset_list: Sequence[bytes | str]
    ) -> int:
        """Raise the reason, and tell the drivers: other nodes may restore the object."""
        self._notifier.notify("setup", f"{self._reason} This node cannot restore objects.")
        raise self._reason.with_traceback(None)

    def delete_spilled_objects(self, urls: Sequence[bytes | str]) -> None:
        """Log the reason."""
        logger.warning("cannot delete %d files: %s", len(urls), self._reason)

    def destroy_external_storage(self) -> None:
        """Log the reason."""
        logger.warning("nothing to remove, external storage was never set up: %s", self._reason)
