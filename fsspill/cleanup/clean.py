"""Removing what dead sessions left.

Nodes die and clusters are stopped, and nobody is left to delete what they spilled. Which sessions
are dead is told by `fsspill.cleanup.sessions`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fsspill.cleanup.sessions import (
    DAY,
    STALE_AFTER,
    FileInfo,
    IncompleteUpload,
    Listing,
    Node,
    Session,
    State,
    age_of,
    classify,
    list_directory,
    take_listing,
    time_of,
)
from fsspill.errors import ConfigError, FsspillError, format_seconds, translate
from fsspill.storage.connection import Endpoint
from fsspill.storage.layout import HEARTBEAT_DIRECTORY, OBJECT_PREFIX
from fsspill.transfer.deletion import abort_uploads, delete_once, remove_directories

__all__ = ["Summary", "clean"]

Progress = Callable[[str, int, int], None]

_MAX_REQUESTS = 64
_FILES_PER_STEP = 8000
"""Files deleted between two reports of progress: eight bulk requests of S3 side by side."""


@dataclass
class Summary:
    """What a cleaning removed (or would, if it was a dry run), and what it did not.

    Attributes
    ----------
    sessions, nodes : list of str
        Names and node ids of what is gone in full.
    files, nbytes : int
        Files of all kinds, and their bytes.
    uploads : int
        Multipart uploads that were aborted.
    kept : dict
        Reasons, by session or node.
    failures : dict
        What could not be removed, or not even looked at, and why.
    """

    sessions: list[str] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    files: int = 0
    nbytes: int = 0
    uploads: int = 0
    kept: dict[str, str] = field(default_factory=dict)
    failures: dict[str, FsspillError] = field(default_factory=dict)


def clean(
    uri: str,
    storage_options: Mapping[str, Any] | None = None,
    *,
    older_than: float = DAY,
    sessions: Sequence[str] = (),
    nodes: Sequence[str] = (),
    dead_nodes: bool = False,
    dry_run: bool = False,
    progress: Progress = lambda step, done, total: None,
    stale_after: float = STALE_AFTER,
) -> Summary:
    """Remove the sessions that are dead, and nothing of one that is alive.

    Besides, multipart uploads of any session and files of interrupted checks go when they are
    older than the limit, which is the larger of `older_than` and `stale_after`: no call of fsspill
    takes so long.

    Parameters
    ----------
    uri, storage_options
        As for `scan`.
    older_than : float
        Seconds since anything of a dead session was written.
    sessions : sequence of str
        Remove these, recent and unknown ones too and whatever their age, and nothing else.
    nodes : sequence of str
        Remove the node-local directories of these nodes, and nothing else. Nothing says whether
        such a node lives.
    dead_nodes : bool
        Also remove what nodes left in sessions that live: those of which the heartbeat file and
        every spilled file is older than the limit, while the head has a fresh heartbeat. Their
        objects may still be wanted, and any node of the session could still restore them.
    dry_run : bool
        Only say what would be removed.
    progress : callable
        Told the step, how many files are done and how many there are.
    stale_after : float
        In seconds; see `classify`.

    Returns
    -------
    Summary
        What was removed, what was kept and what failed.

    Raises
    ------
    ConfigError
        A session that is named is alive, or something named is not there. Nothing was removed.
    FsspillError
        The URI cannot be written, listed and deleted. Nothing was removed.

    Notes
    -----
    *Safety.* The heartbeat files of a session are listed again just before it is removed, and it is
    kept if it has come back. They are removed last, and only when all else is gone, so that a
    cleaning that was interrupted can be repeated.

    *Requests.* Those of `scan`; for each session one or two listings, the deletions of
    `fsspill.transfer.deletion.delete_once`, and one for each upload and each directory.
    """
    if dead_nodes and (sessions or nodes):
        raise ConfigError(
            "cannot clean dead nodes and what is named at once: name sessions and nodes, or ask "
            "for dead nodes."
        )
    endpoint, listing = take_listing(uri, storage_options, older_than, stale_after)
    summary = Summary()
    if listing.uploads_error:
        summary.failures[uri] = listing.uploads_error
    if sessions or nodes:
        removals = [*_named_sessions(listing, sessions), *_named_nodes(listing, nodes)]
    else:
        removals = [*_dead(listing, dead_nodes, summary), _leftovers(listing, older_than)]
    if dry_run:
        for removal in removals:
            _count(summary, removal)
    else:
        _remove_all(endpoint, listing, removals, summary, progress)
    return summary


@dataclass
class _Removal:
    """What is removed together.

    Either a session, or a node of one, or a node-local directory, or leftovers without any.
    """

    session: str | None = None
    node: str | None = None
    stored: list[FileInfo] = field(default_factory=list)
    heartbeats: list[FileInfo] = field(default_factory=list)
    uploads: list[IncompleteUpload] = field(default_factory=list)
    directories: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        return _title(self.session, self.node)

    @property
    def files(self) -> list[FileInfo]:
        return [*self.stored, *self.heartbeats]


def _title(session: str | None, node: str | None = None) -> str:
    if node is None:
        return "leftovers" if session is None else f"session {session}"
    return f"node {node}" if session is None else f"node {node} of session {session}"


def _whole(session: Session) -> _Removal:
    owners = [*(f"{OBJECT_PREFIX}_{node_id}" for node_id in session.nodes), HEARTBEAT_DIRECTORY, ""]
    directories = [f"{session.name}/{owner}".rstrip("/") for owner in owners]
    name, uploads = session.name, session.uploads
    return _Removal(name, None, session.stored, session.heartbeats, uploads, directories)


def _part(session: Session, node: Node) -> _Removal:
    heartbeats = [node.heartbeat] if node.heartbeat else []
    directory = "/".join(filter(None, [session.name, f"{OBJECT_PREFIX}_{node.node_id}"]))
    return _Removal(session.name, node.node_id, node.stored, heartbeats, [], [directory])


def _named_sessions(listing: Listing, names: Sequence[str]) -> Iterator[_Removal]:
    for name in dict.fromkeys(names):
        session = listing.sessions.get(name)
        if session is None:
            known = ", ".join(sorted(filter(None, listing.sessions))) or "none"
            raise ConfigError(f"cannot remove session {name}: it is not there. Found: {known}.")
        if session.state == "alive":
            raise ConfigError(
                f"cannot remove session {name}: it is alive, its last heartbeat is less than "
                f"{format_seconds(listing.stale_after)} old. Stop its cluster, and try again after "
                "that time."
            )
        yield _whole(session)


def _named_nodes(listing: Listing, node_ids: Sequence[str]) -> Iterator[_Removal]:
    local = listing.sessions.get(None, Session(None))
    for node_id in dict.fromkeys(node_ids):
        if node_id not in local.nodes:
            known = ", ".join(sorted(local.nodes)) or "none"
            raise ConfigError(
                f"cannot remove node {node_id}: there is no node-local directory of it. Found: "
                f"{known}. What a node left in a session goes with the session."
            )
        yield _part(local, local.nodes[node_id])


_REASONS: Mapping[State, str] = {
    "alive": "alive",
    "recent": "not old enough",
    "unknown": "nothing says whether it is alive",
}


def _dead(listing: Listing, dead_nodes: bool, summary: Summary) -> Iterator[_Removal]:
    """Yield what is dead, and put down in the summary why the rest is kept."""
    for session in listing.sessions.values():
        if session.name is None:
            titles = [_title(None, node_id) for node_id in session.nodes]
            summary.kept.update(dict.fromkeys(titles, _REASONS["unknown"]))
        elif session.state == "dead":
            yield _whole(session)
        elif session.nodes or session.head:
            summary.kept[_title(session.name)] = _REASONS[session.state]
            for node in _dead_nodes(session, listing.stale_after):
                if dead_nodes:
                    yield _part(session, node)
                else:
                    title = _title(session.name, node.node_id)
                    summary.kept[title] = "dead, but its session is alive"


def _dead_nodes(session: Session, stale_after: float) -> list[Node]:
    """Return the nodes that died in a session whose head heartbeats."""
    head = session.head.age if session.head else None
    if head is None or head >= stale_after:
        return []
    return [node for node in session.nodes.values() if node.state == "dead"]


def _leftovers(listing: Listing, older_than: float) -> _Removal:
    """Return what is removed by its age alone."""
    limit = max(older_than, listing.stale_after)
    uploads = [
        upload
        for session in listing.sessions.values()
        if session.state != "dead"  # those of a dead one go with it
        for upload in session.uploads
        if upload.age is not None and upload.age >= limit
    ]
    checks = [file for file in listing.checks if file.age is not None and file.age >= limit]
    return _Removal(stored=checks, uploads=uploads)


def _remove_all(
    endpoint: Endpoint,
    listing: Listing,
    removals: Sequence[_Removal],
    summary: Summary,
    progress: Progress,
) -> None:
    done, total = 0, sum(len(removal.files) for removal in removals)
    for removal in removals:
        report = partial(_report, progress, done, total)
        try:
            if removal.session and endpoint.run(_is_back, endpoint, listing, removal):
                summary.kept[removal.title] = "came back to life"
            else:
                _remove(endpoint, removal, summary, report)
        except Exception as error:
            summary.failures[removal.title] = translate(error, "cannot remove", removal.title)
        done += len(removal.files)
        if removal.files:
            report(len(removal.files))


def _report(progress: Progress, before: int, total: int, done: int) -> None:
    progress("files handled", before + done, total)


async def _is_back(endpoint: Endpoint, listing: Listing, removal: _Removal) -> bool:
    """Whether what is to be removed has beaten again, by another look at its heartbeat files."""
    # The time of the first look will do: what was written since then is younger than new.
    entries = await list_directory(endpoint, f"{removal.session}/{HEARTBEAT_DIRECTORY}")
    ages = [
        age_of(time_of(info), listing.now)
        for name, info in entries.items()
        if info["type"] == "file" and removal.node in (None, name.rpartition("/")[2])
    ]
    return classify(ages, [], 0.0, listing.stale_after) == "alive"


def _remove(
    endpoint: Endpoint, removal: _Removal, summary: Summary, report: Callable[[int], None]
) -> None:
    failures = endpoint.run(abort_uploads, endpoint, [upload.request for upload in removal.uploads])
    summary.uploads += len(removal.uploads) - len(failures)
    failures |= _delete(endpoint, removal.stored, summary, report)
    if not failures:  # else they are needed: they make it dead, not unknown, the next time
        failures = _delete(endpoint, removal.heartbeats, summary, report)
    if failures:
        summary.failures.update(failures)
        return
    paths = [f"{endpoint.root}/{directory}" for directory in removal.directories]
    endpoint.run(remove_directories, endpoint, paths)
    _count_name(summary, removal)


def _delete(
    endpoint: Endpoint, files: Sequence[FileInfo], summary: Summary, report: Callable[[int], None]
) -> dict[str, FsspillError]:
    failures: dict[str, FsspillError] = {}
    for start in range(0, len(files), _FILES_PER_STEP):
        if start:
            report(start)
        step = files[start : start + _FILES_PER_STEP]
        paths = [file.path for file in step]
        failures |= endpoint.run(delete_once, endpoint, paths, _MAX_REQUESTS)
        _count_files(summary, [file for file in step if file.path not in failures])
    return failures


def _count(summary: Summary, removal: _Removal) -> None:
    """Put down as removed what a dry run leaves."""
    summary.uploads += len(removal.uploads)
    _count_files(summary, removal.files)
    _count_name(summary, removal)


def _count_files(summary: Summary, files: Sequence[FileInfo]) -> None:
    summary.files += len(files)
    summary.nbytes += sum(file.nbytes for file in files)


def _count_name(summary: Summary, removal: _Removal) -> None:
    if removal.node is not None:
        summary.nodes.append(removal.node)
    elif removal.session is not None:
        summary.sessions.append(removal.session)
