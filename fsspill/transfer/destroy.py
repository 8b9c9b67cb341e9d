"""Removing all that a node has under one URI."""

from __future__ import annotations

import logging

from fsspill.errors import FsspillError
from fsspill.settings import Settings
from fsspill.storage.connection import Endpoint
from fsspill.storage.layout import HEAD, SpillLocation
from fsspill.storage.retry import Retrier
from fsspill.transfer.deletion import (
    abort_uploads,
    delete_with_retry,
    list_uploads,
    remove_directories,
    remove_file,
)

__all__ = ["destroy", "list_files"]

logger = logging.getLogger(__name__)

_PASSES = 10
_SECONDS = 10.0
"""Seconds for one listing, and for one pass of deletions, their retries included."""


async def destroy(endpoint: Endpoint, location: SpillLocation, limits: Settings) -> None:
    """Remove the files, the incomplete uploads and the heartbeat of a node.

    If nothing of the session is left then but the heartbeat of its head, that goes too.

    Raises
    ------
    FsspillError
        The storage does not list what is there, or does not let it go.
    """
    node = endpoint.root + location.relative(location.node_directory)
    retrier = Retrier(min(limits.stall_timeout, _SECONDS))
    for _ in range(_PASSES):
        paths = await retrier.attempt(lambda: list_files(endpoint, node), "cannot list", node)
        if not paths:
            break
        # Other processes may still be writing: look again before it is believed.
        await delete_with_retry(endpoint, paths, limits, _SECONDS)
    if endpoint.traits.s3_api:
        await _abort_uploads(endpoint, node, retrier)
    await retrier.attempt(lambda: _remove_heartbeats(endpoint, location), "cannot remove", node)
    if endpoint.traits.has_directories:
        session = node.rpartition("/")[0]
        heartbeats = _path(endpoint, location, HEAD).rpartition("/")[0]
        await remove_directories(endpoint, [node, heartbeats, session])


async def list_files(endpoint: Endpoint, directory: str) -> list[str]:
    """Return the paths of all files in a directory; none if it is not there."""
    endpoint.fs.invalidate_cache()
    try:
        return list(await endpoint.fs._find(directory))
    except FileNotFoundError:
        return []


async def _abort_uploads(endpoint: Endpoint, node: str, retrier: Retrier) -> None:
    """Abort uploads that nobody else can: the answer that named them was lost, or a worker died."""
    try:
        uploads = await retrier.attempt(
            lambda: list_uploads(endpoint, node), "cannot list the uploads of", node
        )
    except FsspillError as error:
        # It takes a permission that spilling does not. Clean-up finds them, or a lifecycle rule.
        logger.warning("incomplete uploads may be left: %s", error)
    else:
        await abort_uploads(endpoint, uploads)


async def _remove_heartbeats(endpoint: Endpoint, location: SpillLocation) -> None:
    """Remove the heartbeats that are no longer true."""
    if location.node_id != HEAD:
        await remove_file(endpoint, _path(endpoint, location, location.node_id))
    head = _path(endpoint, location, HEAD)
    heartbeats = head.rpartition("/")[0]
    nothing_else = await _children(endpoint, heartbeats.rpartition("/")[0]) == [heartbeats]
    if nothing_else and await _children(endpoint, heartbeats) == [head]:
        await remove_file(endpoint, head)


def _path(endpoint: Endpoint, location: SpillLocation, name: str) -> str:
    return endpoint.root + location.relative(location.heartbeat_file(name))


async def _children(endpoint: Endpoint, directory: str) -> list[str]:
    """Return the files and directories in a directory, but not the directory itself."""
    endpoint.fs.invalidate_cache()
    try:
        listed = await endpoint.fs._ls(directory, detail=False)
    except FileNotFoundError:
        return []
    paths = [path.rstrip("/") for path in listed]
    return [path for path in paths if path != directory.rstrip("/")]
