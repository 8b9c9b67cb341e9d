"""The storage that Ray gets in a process: an IO worker, or the driver that shuts Ray down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from _fsspill_wrappers import FailedStorage

from fsspill.config import make_io_worker_settings
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
        settings = make_io_worker_settings(config)
        return IOWorkerStorage(settings, node_id=node_id, session_name=session_name)
    except Exception as error:
        redact_chain(error)
        # Without a traceback: those of causes are a filesystem's own, and may show secrets.
        logger.error("cannot set up external storage on node %s: %s", node_id, error)
        notifier = DriverNotifier(SharedState(session_name, node_id), node_id)
        failed: Storage = FailedStorage(error, partial(notifier.notify, "setup"))
        return failed


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
