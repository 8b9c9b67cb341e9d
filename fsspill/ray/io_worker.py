"""External storage in Ray's IO workers.

Ray swallows what a backend raises, calls a failing spill again 10 ms later, never repeats a
deletion and waits forever on a restore that cannot succeed. So nothing is raised here but the
failure of a restore that may yet succeed: a spill that fails returns nothing, and the drivers are
notified; a lost object is put into the object store as the error that ``ray.get`` raises.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from _fsspill_wrappers import HOLD_SECONDS

from fsspill.errors import (
    CorruptObjectError,
    FsspillError,
    StorageNotFoundError,
    StorageRefusedError,
    format_seconds,
)
from fsspill.external_storage import ExternalStorage
from fsspill.format.url import decode_url, parse_url_with_offset
from fsspill.interface import Storage
from fsspill.local_copy.copies import OUT_OF_USE
from fsspill.log import get_logger
from fsspill.placement.shared_state import SharedState
from fsspill.ray.abort_alarm import postpone_abort
from fsspill.ray.core_worker import CoreWorkerStore
from fsspill.ray.driver import DriverNotifier
from fsspill.ray.heartbeat import Heartbeat, start_node_process
from fsspill.ray.held_objects import HeldObjects
from fsspill.ray.malloc import raise_trim_threshold
from fsspill.ray.metrics import MetricsReporter
from fsspill.ray.restore_failures import Loss, RestoreFailures
from fsspill.settings import Settings
from fsspill.transfer.fuse import name_of

__all__ = ["IOWorkerStorage"]

logger = get_logger(__name__)

_CONFIRMATION_PAUSES = (0.3, 0.7, 1.1)
"""Seconds between the attempts to restore an object that is missing or corrupt."""


_OUTAGE = (
    "Until that is mended, objects stay in memory or on the node's own disk, and ray.get waits for "
    "spilled ones."
)
_FAILOVER = "Writes go to the next URI until a probe of this one succeeds."


class IOWorkerStorage(Storage):
    """The storage of an IO worker: an `ExternalStorage` in the way that Ray needs it.

    Parameters
    ----------
    settings : Settings
        The parameters.
    node_id, session_name : str
        As Ray gives them.
    make_object_store : callable, optional
        Makes the object store, given what it calls before it ends this process.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        node_id: str,
        session_name: str,
        make_object_store: Callable[
            [Callable[[BaseException], None]], CoreWorkerStore
        ] = CoreWorkerStore,
    ) -> None:
        self._object_store = make_object_store(self._record_loss)
        self._storage = ExternalStorage(
            settings,
            node_id=node_id,
            session_name=session_name,
            object_store=self._object_store,
            on_failover=lambda failure: self._failovers.append(failure),
            on_refusal=self._notify_refusal,
            on_copy_failure=self._notify_copy_failure,
        )
        state = SharedState(session_name, node_id)
        self._notifier = DriverNotifier(state, node_id)
        self._restore_failures = RestoreFailures(state)
        self._held = HeldObjects(self._object_store)
        start_process = partial(start_node_process, settings, session_name, node_id)
        self._heartbeat = Heartbeat(self._storage, node_id, before_first=start_process)
        self._metrics = MetricsReporter(self._storage.files, node_id)
        self._lost_after = settings.lost_after
        self._restoring = ""
        self._failovers: list[FsspillError] = []
        self._has_next = len(settings.uri) > 1

    def spill_objects(
        self, object_refs: Sequence[Any], owner_addresses: Sequence[bytes] | None = None
    ) -> list[bytes]:
        """Spill objects; return the URLs of the leading ones, none if it fails. Never raises.

        While all URIs are unhealthy Ray is given nothing to spill for some seconds after each call,
        so that it falls back to the node's own disk.
        """
        raise_trim_threshold()
        self._metrics.start()
        urls: list[bytes] = []
        self._failovers.clear()
        try:
            urls = self._storage.spill_objects(object_refs, owner_addresses)
        except StorageRefusedError:
            pass  # the drivers were notified of each such object
        except Exception as error:
            self._failovers.clear()  # the same failures, and no URI is left
            self._notify_outage(error)
            self._hold(object_refs, HOLD_SECONDS)
        self._notify_failovers()
        if urls:
            self._heartbeat.start()
        self._hold_refused(object_refs[len(urls) :])
        return urls

    def _notify_outage(self, error: Exception) -> None:
        self._notifier.notify(_topic_of_outage(error), f"{error} {_OUTAGE}")

    def _notify_failovers(self) -> None:
        for failure in self._failovers:
            if self._has_next:
                # Each URI is marked unhealthy by itself.
                self._notifier.notify(f"failover {failure.uri}", f"{failure} {_FAILOVER}")
            else:  # a part of the batch was written before
                self._notify_outage(failure)

    def _hold_refused(self, object_refs: Sequence[Any]) -> None:
        """Keep objects that the storage refuses out of Ray's next batches."""
        for ref in object_refs:
            if seconds := self._storage.files.refusals.pause(name_of(ref)):
                self._hold([ref], seconds)

    def _hold(self, object_refs: Sequence[Any], seconds: float) -> None:
        """Keep objects from being spilled for some seconds. Never raises."""
        try:
            self._held.hold(object_refs, seconds)
        except Exception as error:
            logger.warning("cannot keep objects from being spilled again at once: %s", error)

    def _notify_refusal(self, failure: FsspillError) -> None:
        self._notifier.notify("refusal", str(failure))

    def _notify_copy_failure(self, failure: FsspillError) -> None:
        self._notifier.notify("cache_dir", f"{failure} {OUT_OF_USE}")

    def restore_spilled_objects(
        self, object_refs: Sequence[Any], url_with_offset_list: Sequence[bytes | str]
    ) -> int:
        """Restore objects, or put the error that says that they are lost.

        Raises
        ------
        FsspillError
            An object cannot be reached now. Ray calls again.
        """
        raise_trim_threshold()
        self._metrics.start()
        return sum(
            self._restore_or_fail(ref, decode_url(url))
            for ref, url in zip(object_refs, url_with_offset_list, strict=True)
        )

    def _restore_or_fail(self, object_ref: Any, url: str) -> int:
        loss = self._restore_failures.loss(url)
        if loss is None:
            try:
                return self._restore_unless_lost(object_ref, url)
            except FsspillError as error:
                loss = self._loss(url, error)
                if loss is None:
                    # Ray prints the traceback; those of causes are a filesystem's own, and may
                    # show secrets.
                    raise error.with_traceback(None) from None
            except Exception as error:
                # Of Ray, or a mistake of fsspill: the drivers must know why ray.get waits.
                message = f"cannot restore {url}: {error!r}. Ray tries again, and ray.get waits."
                self._notifier.notify("restore", message)
                raise
        self._put_error(object_ref, url, loss)
        return 0

    def _restore_unless_lost(self, object_ref: Any, url: str) -> int:
        """Restore an object; believe that it is lost only if some seconds later it still is.

        An ingress in failover, a replica that lags behind and a network mount answer for a moment
        that a file does not exist, or is shorter than it is.
        """
        for pause in _CONFIRMATION_PAUSES:
            try:
                return self._restore(object_ref, url)
            except FsspillError as error:
                if not _is_loss(error):
                    raise
                logger.info("asking again before an object counts as lost: %s", error)
            time.sleep(pause)
        return self._restore(object_ref, url)

    def _restore(self, object_ref: Any, url: str) -> int:
        self._restoring = url
        nbytes = self._storage.restore_spilled_objects([object_ref], [url])
        self._restore_failures.clear(url)
        self._heartbeat.start()
        return nbytes

    def _loss(self, url: str, error: FsspillError) -> Loss | None:
        """Return the loss of an object; None if it may yet be restored."""
        if _is_loss(error):
            return _loss_of(error)
        seconds = self._restore_failures.record_failure(url)
        if seconds >= self._lost_after:
            reason = f"{error} Unreachable for {format_seconds(seconds)} (lost_after)."
            return Loss("unreachable", reason)
        message = f"{error} Ray tries again, and ray.get waits."
        self._notifier.notify("restore", message, part_of=_topic_of_outage(error))
        return None

    def _put_error(self, object_ref: Any, url: str, loss: Loss) -> None:
        from fsspill.ray.errors import SpilledObjectLostError

        error = SpilledObjectLostError(
            object_ref.hex(), parse_url_with_offset(url).url, loss.reason
        )
        logger.warning("%s", error)
        self._object_store.put_error(object_ref, error)
        self._storage.files.metrics.add("fsspill_lost_objects", reason=loss.kind)

    def _record_loss(self, failure: BaseException) -> None:
        """Record, before this process ends, that a retry would fail too, so that none is made."""
        if _is_loss(failure):
            self._restore_failures.mark_lost(self._restoring, _loss_of(failure))

    def delete_spilled_objects(self, urls: Sequence[bytes | str]) -> None:
        """Delete files. Never raises: Ray would swallow the error, and not call again."""
        try:
            self._storage.delete_spilled_objects(urls)
        except Exception as error:
            logger.warning("%s", error)

    def destroy_external_storage(self) -> None:
        """Delete every file of this node, and nothing else."""
        postpone_abort()
        self._heartbeat.stop()
        self._metrics.stop()
        self._held.release()
        self._storage.destroy_external_storage()


def _topic_of_outage(error: Exception) -> str:
    """Return the topic of a storage that takes no object: one for each class of causes."""
    return f"outage {type(error).__name__}"


def _loss_of(error: BaseException) -> Loss:
    kind = "corrupt" if isinstance(error, CorruptObjectError) else "missing"
    return Loss(kind, str(error))


def _is_loss(error: BaseException) -> bool:
    """Return True if an error means that an object is missing or corrupt for good."""
    return isinstance(error, (StorageNotFoundError, CorruptObjectError))
