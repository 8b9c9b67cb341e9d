"""The object store of Ray's core worker in this process."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

from fsspill.errors import format_seconds
from fsspill.log import get_logger
from fsspill.object_store import FileLike

__all__ = ["CoreWorkerStore", "connected_worker"]

logger = get_logger(__name__)

_GRACE_PERIOD = 10.0
"""Seconds to wait for the core worker: a request may arrive just before Python knows of it.
Ray's own classes wait 1 s, which a loaded machine was seen to exceed."""


def connected_worker() -> Any:
    """Return Ray's worker once it is connected."""
    import ray

    worker = ray._private.worker.global_worker
    end = time.monotonic() + _GRACE_PERIOD
    while not worker.connected:
        if time.monotonic() > end:
            raise RuntimeError(
                "cannot reach the object store: expected this process to be connected to Ray "
                f"within {format_seconds(_GRACE_PERIOD)}. Ray tries again; the machine may be "
                "overloaded."
            )
        time.sleep(0.001)
    return worker


class CoreWorkerStore:
    """Ray's object store on this node, through the core worker of this process.

    Parameters
    ----------
    before_end : callable, optional
        Called with the failure before the process ends because an object could not be filled.
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
        Ends the process if filling it fails. Ray would keep the object created but never sealed
        and report every later restore of it as done, and ``ray.get`` would wait forever. Only the
        end of the process that created the object frees it; then Ray tries again.
        """
        watched = _WatchedFile(file_like)
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
        """Put an error in the place of an object, for ``ray.get`` to raise on this node."""
        serialized = self._worker().get_serialization_context().serialize(error)
        data = serialized.to_bytes()
        self._worker().core_worker.put_file_like_object(
            serialized.metadata, len(data), BytesIO(data), object_ref, b""
        )


class _WatchedFile:
    """A file that records why reading failed, which only happens once the object was created."""

    def __init__(self, file_like: FileLike) -> None:
        self._file_like = file_like
        self.failure: BaseException | None = None

    def readinto(self, buffer: memoryview, /) -> int:
        try:
            return self._file_like.readinto(buffer)
        except BaseException as failure:
            self.failure = failure
            raise
