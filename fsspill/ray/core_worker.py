"""Ray's core worker in this process: its object store, and its way to the drivers."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from math import inf
from typing import Any

from fsspill.errors import format_seconds
from fsspill.object_store import FileLike
from fsspill.placement.shared_state import SharedState

__all__ = ["CoreWorkerStore", "DriverNotifier"]

logger = logging.getLogger(__name__)

_GRACE_PERIOD = 10.0
"""Seconds to wait for the core worker; a request may arrive just before Python knows of it.
Ray's own classes wait 1 s, which a loaded machine was seen to exceed."""

NOTIFY_INTERVAL = 60.0
"""Seconds in which a node tells the drivers the same thing once."""


def connected_worker() -> Any:
    """Return Ray's worker once it is connected."""
    import ray

    worker = ray._private.worker.global_worker
    give_up = time.monotonic() + _GRACE_PERIOD
    while not worker.connected:
        if time.monotonic() > give_up:
            raise RuntimeError(
                "cannot reach the object store: expected this process to be connected to Ray "
                f"within {format_seconds(_GRACE_PERIOD)}."
            )
        time.sleep(0.001)
    return worker


class CoreWorkerStore:
    """Ray's object store on this node, through the core worker of this process.

    Parameters
    ----------
    before_end : callable, optional
        Told why, before the process is ended because an object could not be filled.
    worker : callable, optional
        Returns Ray's worker, once it is connected.
    """

    def __init__(
        self,
        before_end: Callable[[BaseException], None] = lambda error: None,
        worker: Callable[[], Any] = connected_worker,
    ) -> None:
        self._before_end = before_end
        self._worker = worker

    def get_if_local(self, object_refs: Sequence[Any], /) -> Sequence[tuple[Any, ...]]:
        """Return ``(buffer or None, metadata, ...)`` for each ref, without copying."""
        objects: Sequence[tuple[Any, ...]] = self._worker().core_worker.get_if_local(object_refs)
        return objects

    def put_file_like_object(
        self,
        metadata: bytes,
        data_size: int,
        file_like: FileLike,
        object_ref: Any,
        owner_address: bytes,
        /,
    ) -> None:
        """Create the object in shared memory and fill it.

        Notes
        -----
        Ends the process if filling it fails. Ray would keep the object created but never
        sealed, report every later restore of it as done, and ``ray.get`` would wait for ever;
        only the end of the process that created it frees it, and then Ray tries again.
        """
        watched = _Watched(file_like)
        try:
            self._worker().core_worker.put_file_like_object(
                metadata, data_size, watched, object_ref, owner_address
            )
        except BaseException:
            if watched.failure is not None:
                self._end_process(watched.failure)
            raise

    def _end_process(self, failure: BaseException) -> None:
        try:
            logger.error("ending this IO worker so that Ray restores the object again: %s", failure)
            self._before_end(failure)
            logging.shutdown()
        finally:
            os._exit(1)

    def put_error(self, object_ref: Any, error: Exception) -> None:
        """Let `error` be what ``ray.get`` of the object raises on this node."""
        serialized = self._worker().get_serialization_context().serialize(error)
        data = serialized.to_bytes()
        self._worker().core_worker.put_file_like_object(
            serialized.metadata, len(data), BytesIO(data), object_ref, b""
        )


class _Watched:
    """Remembers why reading failed, which only happens once the object was created."""

    def __init__(self, file_like: FileLike) -> None:
        self._file_like = file_like
        self.failure: BaseException | None = None

    def readinto(self, buffer: memoryview, /) -> int:
        try:
            return self._file_like.readinto(buffer)
        except BaseException as failure:
            self.failure = failure
            raise


class DriverNotifier:
    """Tells all drivers of the cluster what goes wrong on this node, but not again and again.

    Parameters
    ----------
    state : SharedState
        Where the processes of the node share what they have told.
    node_id : str
        Says in each message where it comes from.
    """

    def __init__(self, state: SharedState, node_id: str) -> None:
        self._state = state
        self._node_id = node_id
        self._logged: dict[str, float] = {}

    def notify(self, topic: str, message: str) -> None:
        """Print a message on every driver and log it, once per topic and `NOTIFY_INTERVAL`."""
        now = time.time()
        told = self._state.read("told", topic)
        if told is not None and now - told["time"] < NOTIFY_INTERVAL:
            return
        if now - self._logged.get(topic, -inf) >= NOTIFY_INTERVAL:
            logger.warning("%s", message)
            self._logged[topic] = now
        # Not counted as told before this process is connected: the next call tells it.
        if _push_error(f"fsspill on node {self._node_id}: {message}"):
            self._state.write("told", topic, {"time": now})


def _push_error(message: str) -> bool:
    """Print a message on every driver; return whether that could be done."""
    import ray
    from ray._private.utils import push_error_to_driver

    worker = ray._private.worker.global_worker
    if not worker.connected:
        return False
    try:
        push_error_to_driver(worker, "fsspill", message)
    except Exception as error:
        logger.debug("could not tell the drivers: %s", error)
        return False
    return True
