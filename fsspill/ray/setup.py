"""The storage that Ray gets in a process: an IO worker, or the driver that shuts Ray down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from fsspill.config import make_settings
from fsspill.error_chain import redact_chain
from fsspill.interface import NullStorage, Storage
from fsspill.log import get_logger
from fsspill.placement.shared_state import SharedState
from fsspill.ray.driver import DriverNotifier
from fsspill.ray.io_worker import IOWorkerStorage

__all__ = ["FailedStorage", "setup_external_storage", "validation"]

logger = get_logger(__name__)

_validating = False


def setup_external_storage(config: Mapping[str, Any], node_id: str, session_name: str) -> Storage:
    """Set up storage of type ``fsspec`` for a process of Ray.

    Parameters
    ----------
    config : mapping
        ``{"type": "fsspec", "params": {...}}``.
    node_id, session_name : str
        As Ray gives them.

    Returns
    -------
    IOWorkerStorage or FailedStorage
        The latter if the configuration cannot work in this process.

    Notes
    -----
    Never raises, because ``ray.put`` would then be blocked forever. Makes no request.
    """
    if _validating:
        return _ValidatedStorage()
    try:
        return IOWorkerStorage(make_settings(config), node_id=node_id, session_name=session_name)
    except Exception as error:
        redact_chain(error)
        # Without a traceback: those of causes are a filesystem's own, and may show secrets.
        logger.error("cannot set up external storage on node %s: %s", node_id, error)
        return FailedStorage(error, node_id, session_name)


@contextmanager
def validation() -> Iterator[None]:
    """Set up storage that does nothing while Ray validates a configuration that was checked.

    Ray validates by setting storage up and destroying it, which would cost requests.
    """
    global _validating
    _validating = True
    try:
        yield
    finally:
        _validating = False


class _ValidatedStorage(NullStorage):
    """Storage for Ray's validation, which destroys it without using it."""

    def destroy_external_storage(self) -> None:
        """Do nothing: nothing was stored."""


class FailedStorage(Storage):
    """Storage of a process that could not set it up: every call reports why, and none blocks.

    Parameters
    ----------
    reason : Exception
        The error of the setup.
    node_id, session_name : str
        As Ray gives them.
    """

    def __init__(self, reason: Exception, node_id: str, session_name: str) -> None:
        self._reason = reason
        self._notifier = DriverNotifier(SharedState(session_name, node_id), node_id)

    def spill_objects(
        self, object_refs: Sequence[Any], owner_addresses: Sequence[bytes] | None = None
    ) -> list[bytes]:
        """Return no URLs, and tell the drivers why."""
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
        """Log the reason: a process that spilled nothing has nothing to delete."""
        logger.warning("nothing to delete, external storage was never set up: %s", self._reason)
