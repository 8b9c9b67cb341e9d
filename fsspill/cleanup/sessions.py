"""The sessions under a URI, and which of them live.

A session says that it lives by files in its `HEARTBEAT_DIRECTORY`, one of the head and one of each
node that spills, written anew every 5 minutes. Liveness belongs to the session: as long as its head
heartbeats, it lives, even if every node that ever spilled is gone, or none has spilled for days.

=========  ========================================================================================
alive      one of its heartbeats is younger than `STALE_AFTER`
dead       it has heartbeats, and all that it has is older than both `STALE_AFTER` and the limit
recent     it has heartbeats, none younger than `STALE_AFTER`, but something younger than the limit
unknown    it has no heartbeat (fsspill as a library), or the storage says no times
=========  ========================================================================================

*Whose clock.* Ages are by the clock of the storage alone. A file of 1 byte is written, everything
is listed, that file too, and an age is the difference of two times in that listing. The clock of
this process does not count.

*What counts as ours.* Only names that match the layout of `fsspill.storage.layout` as a whole.
Anything else is neither shown nor touched. `uri` must be the configured one, prefix included.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal, TypeVar

from fsspill.errors import (
    ConfigError,
    FsspillError,
    StoragePermissionError,
    StorageUnavailableError,
    is_missing,
    translate,
)
from fsspill.storage.connection import Endpoint, check_uri, connect, is_local
from fsspill.storage.layout import (
    CHECK_PREFIX,
    HEAD,
    HEARTBEAT_DIRECTORY,
    OBJECT_PREFIX,
    is_valid_component,
)
from fsspill.transfer.deletion import list_uploads

__all__ = [
    "DAY",
    "STALE_AFTER",
    "FileInfo",
    "IncompleteUpload",
    "Listing",
    "Node",
    "Session",
    "State",
    "classify",
    "scan",
    "take_listing",
]

logger = logging.getLogger(__name__)
T = TypeVar("T")
Info = Mapping[str, Any]

State = Literal["alive", "dead", "recent", "unknown"]
"""What is known of a session, or of one of its nodes."""

STALE_AFTER = 30 * 60.0
"""Seconds after which a heartbeat file says nothing any more: six heartbeats were missed."""

DAY = 24 * 3600.0

_CHECK = re.compile(CHECK_PREFIX + r"-[0-9a-f]{32}")
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "modified", "Initiated")
"""Where filesystems say when a file was last written, or an upload began. Not "created": many keep
that time when a file is written anew, and the heartbeats of a live session would look old."""


@dataclass(frozen=True)
class FileInfo:
    """One file.

    Attributes
    ----------
    path : str
        On the filesystem of the URI.
    nbytes : int
        Its length.
    age : float or None
        Seconds since it was last written, by the storage's clock; None if that is not known.
    """

    path: str
    nbytes: int
    age: float | None


@dataclass(frozen=True)
class IncompleteUpload:
    """An incomplete multipart upload, which S3 keeps and charges until somebody aborts it.

    Attributes
    ----------
    request : mapping
        What S3 says of it, and its Bucket; see `fsspill.transfer.deletion.list_uploads`.
    age : float or None
        Seconds since it began, by the storage's clock.
    """

    request: Mapping[str, Any]
    age: float | None


@dataclass
class Node:
    """What one node spilled in one session.

    Attributes
    ----------
    node_id : str
        Ray's.
    stored : list of FileInfo
        Its spilled files.
    heartbeat : FileInfo or None
        Its heartbeat file.
    state : str
        By the rules for a session, from these files alone.
    """

    node_id: str
    stored: list[FileInfo] = field(default_factory=list, repr=False)
    heartbeat: FileInfo | None = None
    state: State = "unknown"

    @property
    def files(self) -> int:
        """How many files it spilled."""
        return len(self.stored)

    @property
    def nbytes(self) -> int:
        """Their bytes."""
        return sum(file.nbytes for file in self.stored)

    @property
    def age(self) -> float | None:
        """Seconds since it last spilled; None if it has no file, or times are not known."""
        return _youngest(file.age for file in self.stored)


@dataclass
class Session:
    """What lies under a URI of one session.

    Attributes
    ----------
    name : str or None
        Ray's; None for node-local directories, which have no session.
    nodes : dict
        `Node` by node id.
    head : FileInfo or None
        The heartbeat file of the head.
    uploads : list of IncompleteUpload
        Incomplete multipart uploads; S3 only.
    state : str
        See the module.
    """

    name: str | None
    nodes: dict[str, Node] = field(default_factory=dict)
    head: FileInfo | None = None
    uploads: list[IncompleteUpload] = field(default_factory=list)
    state: State = "unknown"

    @property
    def stored(self) -> list[FileInfo]:
        """Its spilled files."""
        return [file for node in self.nodes.values() for file in node.stored]

    @property
    def heartbeats(self) -> list[FileInfo]:
        """Its heartbeat files."""
        heartbeats = [self.head, *(node.heartbeat for node in self.nodes.values())]
        return [heartbeat for heartbeat in heartbeats if heartbeat]

    @property
    def age(self) -> float | None:
        """Seconds since anything in it was written; None if that is not known."""
        files = [file.age for file in (*self.stored, *self.heartbeats)]
        return _youngest([*files, *(upload.age for upload in self.uploads)])


def classify(
    heartbeats: Sequence[float | None],
    others: Sequence[float | None],
    older_than: float,
    stale_after: float = STALE_AFTER,
) -> State:
    """Say what is known of a session from ages in seconds.

    Parameters
    ----------
    heartbeats : sequence of float or None
        Of its heartbeat files.
    others : sequence of float or None
        Of all else that it has.
    older_than : float
        The age from which it may be dead; never less than `stale_after`.
    stale_after : float
        The age from which a heartbeat file says nothing.
    """
    if any(age is not None and age < stale_after for age in heartbeats):
        return "alive"
    ages = [age for age in (*heartbeats, *others) if age is not None]
    if not heartbeats or len(ages) < len(heartbeats) + len(others):
        return "unknown"
    return "dead" if min(ages) >= max(older_than, stale_after) else "recent"


def scan(
    uri: str,
    storage_options: Mapping[str, Any] | None = None,
    *,
    older_than: float = DAY,
    stale_after: float = STALE_AFTER,
) -> list[Session]:
    """Return the sessions under a URI, by name.

    Parameters
    ----------
    uri : str
        The configured URI, with the prefix if there is one.
    storage_options : mapping, optional
        Options for the filesystem, in fsspec's names.
    older_than, stale_after : float
        In seconds; see `classify`.

    Raises
    ------
    FsspillError
        The URI cannot be, or cannot be written, listed and deleted.

    Notes
    -----
    *Requests.* One to write and one to delete the file that tells the storage's time. Between
    them, storage without directories is listed once as a whole, any other with one request per
    directory; S3's multipart uploads are another listing. Where that one is refused, the log says
    so and no uploads are shown.

    *Memory.* That of the listing.
    """
    _, listing = take_listing(uri, storage_options, older_than, stale_after)
    if listing.uploads_error:
        logger.warning("%s", listing.uploads_error)
    return sorted(listing.sessions.values(), key=lambda session: session.name or "")


@dataclass
class Listing:
    """What was found under a URI, and the time by the storage's clock when that was."""

    now: float | None
    stale_after: float
    sessions: dict[str | None, Session] = field(default_factory=dict)
    checks: list[FileInfo] = field(default_factory=list)
    uploads_error: FsspillError | None = None


def take_listing(
    uri: str, storage_options: Mapping[str, Any] | None, older_than: float, stale_after: float
) -> tuple[Endpoint, Listing]:
    """Return the filesystem of a URI, and what lies there."""
    checked = check_uri(uri)
    endpoint = connect(checked, storage_options or {})
    try:
        listing = endpoint.run(_list_all, endpoint, checked, stale_after)
    except Exception as error:
        raise translate(error, "cannot list", checked) from error
    for session in listing.sessions.values():
        others = [file.age for file in session.stored]
        others += [upload.age for upload in session.uploads]
        heartbeats = [heartbeat.age for heartbeat in session.heartbeats]
        session.state = classify(heartbeats, others, older_than, stale_after)
        for node in session.nodes.values():
            heartbeats = [node.heartbeat.age] if node.heartbeat else []
            stored = [file.age for file in node.stored]
            node.state = classify(heartbeats, stored, older_than, stale_after)
    return endpoint, listing


async def _list_all(endpoint: Endpoint, uri: str, stale_after: float) -> Listing:
    # Not with the directories above it: looking must not make what was misspelt.
    probe = f"{CHECK_PREFIX}-{uuid.uuid4().hex}"
    await endpoint.fs._pipe_file(f"{endpoint.root}/{probe}", b"x")
    try:
        entries = await _entries(endpoint)
    finally:
        await endpoint.fs._rm_file(f"{endpoint.root}/{probe}")
    if probe not in entries:
        raise StorageUnavailableError(
            f"cannot list {uri}: a file that was just written is missing in the listing. Expected "
            "a storage that lists what it has: try again later."
        )
    listing = Listing(time_of(entries.pop(probe)), stale_after)
    for name in sorted(entries):
        _add(listing, endpoint, uri, name, entries[name])
    if endpoint.traits.s3_api:
        try:
            await _add_uploads(listing, endpoint)
        except Exception as error:
            listing.uploads_error = translate(error, "cannot list the multipart uploads of", uri)
    return listing


async def _entries(endpoint: Endpoint) -> dict[str, Info]:
    """Return files and directories, by path below the URI, as deep as the layout goes."""
    if not endpoint.traits.has_directories:
        endpoint.sync_fs.invalidate_cache()
        root = endpoint.root + "/"
        found = await endpoint.fs._find(endpoint.root, detail=True)
        return {name[len(root) :]: info for name, info in found.items() if name.startswith(root)}
    entries = await list_directory(endpoint, "")
    for above in _directories(entries):
        try:
            below = await list_directory(endpoint, above)
        except Exception as error:
            if isinstance(translate(error, "", ""), StoragePermissionError):
                continue  # somebody else's: what cannot be seen cannot be removed
            raise
        entries |= below
        for directory in _directories(below):
            if _owner(directory.rpartition("/")[2]) is not None:
                entries |= await list_directory(endpoint, directory)
    return entries


def _directories(entries: Mapping[str, Info]) -> list[str]:
    """Return the directories among them; a link is none, it leads elsewhere."""
    return [name for name, info in entries.items() if info["type"] == "directory"]


async def list_directory(endpoint: Endpoint, directory: str) -> dict[str, Info]:
    """Return what one directory has, by path below the URI; nothing if it is gone."""
    endpoint.sync_fs.invalidate_cache()
    try:
        infos = await endpoint.fs._ls(f"{endpoint.root}/{directory}".rstrip("/"), detail=True)
    except Exception as error:
        if is_missing(error):
            return {}
        raise
    names = [info["name"].rstrip("/").rpartition("/")[2] for info in infos]
    return {f"{directory}/{n}".lstrip("/"): info for n, info in zip(names, infos, strict=True)}


def _owner(component: str) -> str | None:
    """Return the node id in the name of a node's directory, "" for `HEARTBEAT_DIRECTORY`."""
    if component == HEARTBEAT_DIRECTORY:
        return ""
    prefix, _, node_id = component.partition(OBJECT_PREFIX + "_")
    return node_id if node_id and not prefix else None


def _add(listing: Listing, endpoint: Endpoint, uri: str, name: str, info: Info) -> None:
    """Sort one file or directory in, if it is ours."""
    if info["type"] not in ("file", "directory"):
        return
    age = age_of(time_of(info), listing.now)
    file = FileInfo(f"{endpoint.root}/{name}", int(info.get("size") or 0), age)
    directory, _, last = name.rpartition("/")
    if info["type"] == "directory":
        directory, last = name, ""
    elif _CHECK.fullmatch(name):
        listing.checks.append(file)
    place = _session_and_owner(directory, uri)
    if place is None or (last and not is_valid_component(last)):
        return
    session = listing.sessions.setdefault(place[0], Session(place[0]))
    if place[1]:
        node = session.nodes.setdefault(place[1], Node(place[1]))
        node.stored += [file] if last else []
    elif last == HEAD:
        session.head = file
    elif last:
        session.nodes.setdefault(last, Node(last)).heartbeat = file


def _session_and_owner(directory: str, uri: str) -> tuple[str | None, str] | None:
    """Return the session and the node (or "") of a directory of the layout; None for others."""
    components = directory.split("/")
    if not all(map(is_valid_component, components)) or not 1 <= len(components) <= 2:
        return None
    owner = _owner(components[-1])
    if len(components) == 1 and owner == "":
        raise ConfigError(
            f"cannot look for sessions in {uri}: it is the directory of a session. Expected the "
            "URI above it, the one that Ray was given, with its prefix."
        )
    if owner is None or (len(components) == 1 and not is_local(uri)):
        return None
    return (components[0] if len(components) == 2 else None), owner


async def _add_uploads(listing: Listing, endpoint: Endpoint) -> None:
    _, key, _ = endpoint.fs.split_path(endpoint.root)
    below = len(key) + 1 if key else 0
    for info in await list_uploads(endpoint, endpoint.root):
        directory, _, last = info["Key"][below:].rpartition("/")
        place = _session_and_owner(directory, f"s3://{endpoint.root}")
        if place and is_valid_component(last):
            upload = IncompleteUpload(info, age_of(time_of(info), listing.now))
            listing.sessions.setdefault(place[0], Session(place[0])).uploads.append(upload)


def time_of(info: Info) -> float | None:
    """Return when a file was last written, in seconds; None if the filesystem does not say."""
    for name in _TIMES:
        value = info.get(name)
        if isinstance(value, datetime):
            aware = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
            return aware.timestamp()
        if isinstance(value, (int, float)):
            return float(value)
    return None


def age_of(time: float | None, now: float | None) -> float | None:
    return None if time is None or now is None else max(0.0, now - time)


def _youngest(ages: Iterable[float | None]) -> float | None:
    known = list(ages)
    return None if None in known else min((age for age in known if age is not None), default=None)
