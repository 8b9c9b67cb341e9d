"""One listing of a URI, by the clock of its storage.

*Clock.* All ages are by the clock of the storage. A file of 1 byte is written, everything is listed
together with that file, and an age is the difference between two times in that listing. The clock
of this process is never used.

*Names.* Only names that match the layout of `fsspill.storage.layout` in full belong to fsspill. All
others are neither shown nor touched. The URI must be the configured one, prefix included.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import islice
from typing import Any

from fsspill.cleanup.sessions import (
    DAY,
    STALE_AFTER,
    FileInfo,
    IncompleteUpload,
    Node,
    Session,
    classify_session,
)
from fsspill.cleanup.target import RETRIES, Target
from fsspill.error_chain import redact_errors
from fsspill.errors import (
    ConfigError,
    FsspillError,
    StoragePermissionError,
    StorageUnavailableError,
    is_throttled,
    translate,
)
from fsspill.log import get_logger
from fsspill.storage.client import StorageClient
from fsspill.storage.layout import (
    CHECK_PREFIX,
    HEAD,
    HEARTBEAT_DIRECTORY,
    OBJECT_PREFIX,
    is_valid_component,
    versioned_path,
)
from fsspill.storage.retry import backoff
from fsspill.storage.s3_versions import OLD_SIZE
from fsspill.storage.uri import is_local

__all__ = ["Listing", "list_directory", "scan", "take_listing"]

logger = get_logger(__name__)
Info = Mapping[str, Any]

_CHECK = re.compile(CHECK_PREFIX + r"-[0-9a-f]{32}")
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "modified", "Initiated")
"""Keys under which filesystems report when a file was last written, or an upload began. Not
"created": many keep that time when a file is rewritten, and the heartbeats of a live session would
look old."""


@redact_errors
def scan(
    uri: str,
    storage_options: Mapping[str, Any] | None = None,
    *,
    older_than: float = DAY,
    stale_after: float = STALE_AFTER,
) -> list[Session]:
    """Return the sessions under a URI, sorted by name.

    Parameters
    ----------
    uri : str
        The configured URI, with the prefix if there is one.
    storage_options : mapping, optional
        Options for the filesystem, in fsspec's names.
    older_than, stale_after : float
        Limits in seconds; see `fsspill.cleanup.sessions.classify`.

    Raises
    ------
    FsspillError
        The URI is invalid, or cannot be written, listed and deleted.

    Notes
    -----
    *Requests.* One to write and one to delete the file that shows the storage's time. Between
    them, storage without directories is listed once as a whole, any other with one request per
    directory; S3's multipart uploads are another listing. Where that one is refused, the refusal is
    logged and no uploads are shown.

    *Memory.* That of the listing.
    """
    _, listing = take_listing(uri, storage_options, older_than, stale_after)
    if listing.uploads_error:
        logger.warning("%s", listing.uploads_error)
    return sorted(listing.sessions.values(), key=lambda session: session.name or "")


@dataclass
class Listing:
    """The sessions under a URI at one time of the storage's clock.

    Attributes
    ----------
    uri : str
        The URI that was listed.
    root : str
        Its path on its filesystem.
    now : float or None
        Time of the storage's clock in seconds; None if the storage reports no times.
    stale_after : float
        Age in seconds from which a heartbeat is stale.
    sessions : dict
        `Session` by name; None is the name of node-local directories.
    checks : list of FileInfo
        Files of checks, which belong to no session.
    uploads_error : FsspillError or None
        The error that kept incomplete multipart uploads from being listed.
    """

    uri: str
    root: str
    now: float | None
    stale_after: float
    sessions: dict[str | None, Session] = field(default_factory=dict)
    checks: list[FileInfo] = field(default_factory=list)
    uploads_error: FsspillError | None = None

    def age_of(self, info: Info) -> float | None:
        """Return the age of a file or an upload in seconds; None if that is not known."""
        time = time_of(info)
        return None if time is None or self.now is None else max(0.0, self.now - time)

    def add_directory(self, path: str) -> None:
        """Add the session and node of a directory of the layout, which may be empty."""
        directory = _parse_directory(path, self.uri)
        if directory is None:
            return
        session = self._session(directory.session)
        if directory.node_id is not None:
            _node(session, directory.node_id)

    def add_file(self, path: str, info: Info) -> None:
        """Add a file of the layout: a spilled file, a heartbeat, or the file of a check."""
        file = FileInfo(
            f"{self.root}/{path}",
            int(info.get("size") or 0),
            self.age_of(info),
            int(info.get(OLD_SIZE) or 0),
        )
        if _CHECK.fullmatch(path):
            self.checks.append(file)
            return
        parent, _, name = path.rpartition("/")
        directory = _parse_directory(parent, self.uri)
        if directory is None or not is_valid_component(name):
            return
        session = self._session(directory.session)
        if directory.node_id is not None:
            _node(session, directory.node_id).files.append(file)
        elif name == HEAD:
            session.head = file
        else:
            _node(session, name).heartbeat = file

    def add_upload(self, path: str, info: Info) -> None:
        """Add an incomplete multipart upload of a file of the layout."""
        parent, _, name = path.rpartition("/")
        directory = _parse_directory(parent, self.uri)
        if directory is not None and is_valid_component(name):
            upload = IncompleteUpload(info, self.age_of(info))
            self._session(directory.session).uploads.append(upload)

    def _session(self, name: str | None) -> Session:
        return self.sessions.setdefault(name, Session(name))


def take_listing(
    uri: str, storage_options: Mapping[str, Any] | None, older_than: float, stale_after: float
) -> tuple[Target, Listing]:
    """Return a URI, and the classified sessions under it."""
    target = Target(uri, storage_options)

    def list_all(client: StorageClient) -> Listing:
        listing: Listing = client.run(_list_all, client, target.uri, stale_after)
        return listing

    listing = target.call(list_all, "cannot list")
    for session in listing.sessions.values():
        classify_session(session, older_than, stale_after)
    return target, listing


# Requests to the storage


async def _list_all(client: StorageClient, uri: str, stale_after: float) -> Listing:
    """Return the files, directories and incomplete uploads under a URI, not classified yet."""
    probe = f"{CHECK_PREFIX}-{uuid.uuid4().hex}"
    async with _temporary_file(client, f"{client.root}/{probe}"):
        entries = await _list_entries(client)
    if probe not in entries:
        raise StorageUnavailableError(
            f"cannot list {uri}: expected every file that exists, found a file that was just "
            "written missing in the listing. Try again later."
        )
    listing = Listing(uri, client.root, time_of(entries.pop(probe)), stale_after)
    for path in sorted(entries):
        if entries[path]["type"] == "directory":
            listing.add_directory(path)
        elif entries[path]["type"] == "file":  # a link is neither
            listing.add_file(path, entries[path])
    try:
        for path, info in await _list_uploads(client):
            listing.add_upload(path, info)
    except Exception as error:
        listing.uploads_error = translate(error, "cannot list the multipart uploads of", uri)
    return listing


@asynccontextmanager
async def _temporary_file(client: StorageClient, path: str) -> AsyncIterator[None]:
    """Keep a file of 1 byte for the time of a block, which may be cancelled at any time."""
    # Parent directories are not created: listing a misspelt URI must not create it.
    creation = asyncio.ensure_future(client.create(path, b"x"))
    try:
        await asyncio.shield(creation)
        yield
    finally:
        await asyncio.wait({creation})
        if not creation.exception():
            await _delete(client, versioned_path(path, creation.result()))


async def _delete(client: StorageClient, path: str) -> None:
    """Delete a file, and again if the storage throttled that: it should not stay."""
    for pause in islice(backoff(), RETRIES):
        try:
            return await client.delete_file(path)
        except Exception as error:
            if not is_throttled(error):
                raise
        await asyncio.sleep(pause)
    return await client.delete_file(path)


async def _list_entries(client: StorageClient) -> dict[str, Info]:
    """Return files and directories by path below the URI, as deep as the layout goes."""
    if not client.has_directories:
        return _below_root(client, await client.find_all(client.root))
    entries = await list_directory(client, "")
    for directory in _directories(entries):
        try:
            children = await list_directory(client, directory)
        except Exception as error:
            if isinstance(translate(error, "", ""), StoragePermissionError):
                continue  # another user's: files that cannot be seen cannot be removed
            raise
        entries |= children
        for child in _directories(children):
            if _is_layout_name(child.rpartition("/")[2]):
                entries |= await list_directory(client, child)
    return entries


def _directories(entries: Mapping[str, Info]) -> list[str]:
    """Return the directories among entries, links to directories excluded."""
    return [path for path, info in entries.items() if info["type"] == "directory"]


async def list_directory(client: StorageClient, directory: str) -> dict[str, Info]:
    """Return the entries of one directory by path below the URI; none if it is gone."""
    path = f"{client.root}/{directory}".rstrip("/")
    return _below_root(client, await client.list_directory(path))


def _below_root(client: StorageClient, entries: Mapping[str, Info]) -> dict[str, Info]:
    """Return entries by their paths below the URI."""
    root = client.root + "/"
    return {path[len(root) :]: info for path, info in entries.items() if path.startswith(root)}


async def _list_uploads(client: StorageClient) -> list[tuple[str, Info]]:
    """Return incomplete multipart uploads with their paths below the URI."""
    uploads = await client.list_uploads(client.root)
    start = len(client.root) + 1
    return [(f"{upload['Bucket']}/{upload['Key']}"[start:], upload) for upload in uploads]


# Names and times


@dataclass(frozen=True)
class _Directory:
    """A directory of the layout; one without a node id is that of a session's heartbeats."""

    session: str | None
    node_id: str | None


def _parse_directory(path: str, uri: str) -> _Directory | None:
    """Return the session and the node of a directory below a URI; None outside the layout.

    Raises
    ------
    ConfigError
        The URI is itself the directory of a session.
    """
    *parents, name = path.split("/")
    if len(parents) > 1 or not all(map(is_valid_component, (*parents, name))):
        return None
    if not _is_layout_name(name):
        return None
    node_id = None if name == HEARTBEAT_DIRECTORY else name[len(OBJECT_PREFIX) + 1 :]
    if parents:
        return _Directory(parents[0], node_id)
    if node_id is None:
        raise ConfigError(
            f"cannot list the sessions in {uri}: expected the URI that was given to Ray, with its "
            "prefix, found the directory of a session. Name the URI above it."
        )
    return _Directory(None, node_id) if is_local(uri) else None


def _is_layout_name(name: str) -> bool:
    """Return True if a directory of this name holds heartbeats or the spilled files of a node."""
    prefix = OBJECT_PREFIX + "_"
    return name == HEARTBEAT_DIRECTORY or (name.startswith(prefix) and name != prefix)


def _node(session: Session, node_id: str) -> Node:
    return session.nodes.setdefault(node_id, Node(node_id))


def time_of(info: Info) -> float | None:
    """Return the time of the last write in seconds; None if the filesystem reports none."""
    for key in _TIMES:
        value = info.get(key)
        if isinstance(value, datetime):
            aware = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
            return aware.timestamp()
        if isinstance(value, (int, float)):
            return float(value)
    return None
