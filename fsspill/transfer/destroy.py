"""Removal of all that a node has under one URI."""

from __future__ import annotations

from fsspill.errors import FsspillError, StorageUnavailableError
from fsspill.log import get_logger
from fsspill.settings import Settings
from fsspill.storage.client import StorageClient
from fsspill.storage.layout import HEAD, SpillLocation
from fsspill.storage.retry import Retrier

__all__ = ["destroy"]

logger = get_logger(__name__)

_PASSES = 10
_SECONDS = 10.0
"""Seconds for one listing, and for one pass of deletions, their retries included."""


async def destroy(client: StorageClient, location: SpillLocation, limits: Settings) -> None:
    """Remove the files, the incomplete uploads and the heartbeat of a node.

    If nothing of the session remains then but the heartbeat of its head, that goes too.

    Raises
    ------
    FsspillError
        The storage does not list the files, or refuses to delete the heartbeat.
    """
    root = client.root
    node = root + location.node_path
    retrier = Retrier(min(limits.stall_timeout, _SECONDS))
    left = await _remove_files(client, node, limits, retrier)
    await _abort_uploads(client, node, retrier)
    await retrier.attempt(lambda: _remove_heartbeats(client, location), "cannot remove", node)
    if client.finds_deleted:
        # Known since the heartbeat was deleted, where no file was left to tell.
        left = left or await _remove_files(client, node, limits, retrier)
    session = root + (location.session_path or "")
    await client.remove_directories([node, root + location.heartbeat_path, session])
    if left:
        path, error = next(iter(left.items()))
        raise type(error)(
            f"{len(left)} files are left in {location.node_directory}, such as {path}: {error} "
            "Delete them, or run 'fsspill clean' later."
        )


async def _remove_files(
    client: StorageClient, directory: str, limits: Settings, retrier: Retrier
) -> dict[str, FsspillError]:
    """Delete files until a listing shows none, and return those that are left, with the reason."""
    failures: dict[str, FsspillError] = {}
    for _ in range(_PASSES):
        paths = list(
            await retrier.attempt(lambda: client.find_all(directory), "cannot list", directory)
        )
        if not paths:
            return {}
        # Other processes may still be writing: list again until nothing is found.
        failures = await client.delete_with_retry(paths, limits.max_requests_in_flight, _SECONDS)
    unexplained = StorageUnavailableError(
        f"cannot delete all files of {directory}: the storage lists some that were deleted. "
        "Another process may still write there."
    )
    return failures or dict.fromkeys(paths, unexplained)


async def _abort_uploads(client: StorageClient, node: str, retrier: Retrier) -> None:
    """Abort uploads whose id is lost: with the answer that named them, or with their process."""
    try:
        uploads = await retrier.attempt(
            lambda: client.list_uploads(node), "cannot list the uploads of", node
        )
    except FsspillError as error:
        # It takes a permission that spilling does not. Clean-up finds them, or a lifecycle rule.
        logger.warning("incomplete uploads may be left for 'fsspill clean': %s", error)
    else:
        await client.abort_uploads(uploads)


async def _remove_heartbeats(client: StorageClient, location: SpillLocation) -> None:
    """Delete the node's heartbeat, and the head's if nothing else of the session remains."""
    if location.node_id != HEAD:
        await client.delete_file(client.path(location.heartbeat_file(location.node_id)))
    root = client.root
    session, heartbeats = root + (location.session_path or ""), root + location.heartbeat_path
    head = client.path(location.heartbeat_file(HEAD))
    only_heartbeats = list(await client.list_directory(session)) == [heartbeats]
    if only_heartbeats and list(await client.list_directory(heartbeats)) == [head]:
        await client.delete_file(head)
