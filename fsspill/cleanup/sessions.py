"""Sessions, their nodes, and the rules by which they are alive or dead. No I/O.

Heartbeats are the files in the `HEARTBEAT_DIRECTORY` of a session, one of its head and one of each
node that spills, rewritten every 5 minutes. Liveness belongs to the session: while its head sends
heartbeats, a session is alive, even if every node that ever spilled is gone, or none has spilled
for days.

=========  ========================================================================================
alive      one of its heartbeats is younger than `STALE_AFTER`
dead       it has heartbeats, and all of its files are older than both `STALE_AFTER` and the limit
recent     it has heartbeats, none younger than `STALE_AFTER`, but a file younger than the limit
unknown    it has no heartbeat (fsspill as a library), the storage reports no times, or its
           heartbeats stopped before the session did
=========  ========================================================================================

Incomplete multipart uploads count as files.

*Lost heartbeats.* A session ends with its head: its nodes write nothing a few minutes later. Where
something was written long after the last heartbeat of the head, or after that of its node, the
heartbeats had failed while the session was alive, and their age proves nothing. Such a session or
node is unknown, as is a session of which the head has no heartbeat.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fsspill.errors import format_seconds

__all__ = [
    "DAY",
    "STALE_AFTER",
    "FileInfo",
    "IncompleteUpload",
    "Liveness",
    "Node",
    "Session",
    "classify",
    "classify_session",
]

Liveness = Literal["alive", "dead", "recent", "unknown"]
"""Liveness of a session, or of one of its nodes."""

STALE_AFTER = 30 * 60.0
"""Seconds after which a heartbeat is stale: six in a row were missed."""

DAY = 24 * 3600.0

NOT_KNOWN = "nothing says whether it is alive"


@dataclass(frozen=True)
class FileInfo:
    """One file.

    Attributes
    ----------
    path : str
        Path on the filesystem of the URI.
    nbytes : int
        Size in bytes, with that of old versions where the storage keeps those.
    age : float or None
        Seconds since it was last written, by the storage's clock; None if that is not known.
    old_nbytes : int
        The part of the size that old versions have.
    """

    path: str
    nbytes: int
    age: float | None
    old_nbytes: int = 0


@dataclass(frozen=True)
class IncompleteUpload:
    """An incomplete multipart upload, which S3 keeps and charges for until it is aborted.

    Attributes
    ----------
    info : mapping
        S3's description of it, and its Bucket.
    age : float or None
        Seconds since it began, by the storage's clock; None if that is not known.
    """

    info: Mapping[str, Any]
    age: float | None


@dataclass
class Node:
    """Files that one node spilled in one session.

    Attributes
    ----------
    node_id : str
        Ray's id of the node.
    files : list of FileInfo
        Its spilled files.
    heartbeat : FileInfo or None
        Its heartbeat file.
    liveness : str
        By the rules for a session, from these files alone.
    doubt : str
        Why it is not known if it is alive; of no meaning if that is known.
    """

    node_id: str
    files: list[FileInfo] = field(default_factory=list, repr=False)
    heartbeat: FileInfo | None = None
    liveness: Liveness = "unknown"
    doubt: str = NOT_KNOWN

    @property
    def nbytes(self) -> int:
        """Total size of its spilled files, in bytes."""
        return sum(file.nbytes for file in self.files)

    @property
    def age(self) -> float | None:
        """Seconds since it last spilled; None if it has no file, or times are not known."""
        return _youngest(file.age for file in self.files)


@dataclass
class Session:
    """Files of one session under a URI.

    Attributes
    ----------
    name : str or None
        Ray's name of the session; None for node-local directories, which have no session.
    nodes : dict
        `Node` by node id.
    head : FileInfo or None
        The heartbeat file of the head.
    uploads : list of IncompleteUpload
        Incomplete multipart uploads; S3 only.
    liveness : str
        By the rules in the module's documentation.
    doubt : str
        Why it is not known if it is alive; of no meaning if that is known.
    """

    name: str | None
    nodes: dict[str, Node] = field(default_factory=dict)
    head: FileInfo | None = None
    uploads: list[IncompleteUpload] = field(default_factory=list)
    liveness: Liveness = "unknown"
    doubt: str = NOT_KNOWN

    @property
    def files(self) -> list[FileInfo]:
        """Spilled files of all its nodes."""
        return [file for node in self.nodes.values() for file in node.files]

    @property
    def heartbeats(self) -> list[FileInfo]:
        """Heartbeat files of its head and its nodes."""
        heartbeats = [self.head, *(node.heartbeat for node in self.nodes.values())]
        return [heartbeat for heartbeat in heartbeats if heartbeat]

    @property
    def nbytes(self) -> int:
        """Total size of its spilled files, in bytes."""
        return sum(file.nbytes for file in self.files)

    @property
    def age(self) -> float | None:
        """Seconds since any of its files was written; None if that is not known."""
        files = [file.age for file in (*self.files, *self.heartbeats)]
        return _youngest([*files, *(upload.age for upload in self.uploads)])


def classify(
    heartbeats: Sequence[float | None],
    others: Sequence[float | None],
    older_than: float,
    stale_after: float = STALE_AFTER,
) -> Liveness:
    """Return the liveness of a session from the ages of its files, if no heartbeat was lost.

    Parameters
    ----------
    heartbeats : sequence of float or None
        Ages of its heartbeat files in seconds; None where the age is not known.
    others : sequence of float or None
        Ages of all its other files and uploads.
    older_than : float
        Age in seconds from which it may be dead; never less than `stale_after`.
    stale_after : float
        Age in seconds from which a heartbeat is stale.
    """
    if any(age is not None and age < stale_after for age in heartbeats):
        return "alive"
    ages = [age for age in (*heartbeats, *others) if age is not None]
    if not heartbeats or len(ages) < len(heartbeats) + len(others):
        return "unknown"
    return "dead" if min(ages) >= max(older_than, stale_after) else "recent"


def classify_session(session: Session, older_than: float, stale_after: float) -> None:
    """Set the liveness of a session and of each of its nodes, and why it is not known."""
    heartbeats = [heartbeat.age for heartbeat in session.heartbeats]
    others = [file.age for file in session.files]
    others += [upload.age for upload in session.uploads]
    session.liveness = classify(heartbeats, others, older_than, stale_after)
    if session.liveness == "dead":
        _doubt(session, session.head, session.age, "head")
    for node in session.nodes.values():
        heartbeats = [node.heartbeat.age] if node.heartbeat else []
        files = [file.age for file in node.files]
        node.liveness = classify(heartbeats, files, older_than, stale_after)
        if node.liveness == "dead":
            _doubt(node, node.heartbeat, node.age, "node")


def _doubt(found: Session | Node, last: FileInfo | None, age: float | None, writer: str) -> None:
    """Make what looks dead unknown if its heartbeats stopped long before it did."""
    if last is None:
        found.liveness, found.doubt = "unknown", f"its {writer} has no heartbeat"
    elif age is not None and last.age is not None and last.age - age > STALE_AFTER:
        late = format_seconds(last.age - age)
        found.liveness = "unknown"
        found.doubt = f"written to until {late} after the last heartbeat of its {writer}"


def _youngest(ages: Iterable[float | None]) -> float | None:
    """Return the smallest age; None if there is none, or one of them is not known."""
    known: list[float] = []
    for age in ages:
        if age is None:
            return None
        known.append(age)
    return min(known, default=None)
