"""Removal of files that dead sessions left.

Nodes die and clusters are stopped, and then no process is left to delete the files that they
spilled. `fsspill.cleanup.sessions` has the rules by which a session is dead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fsspill.cleanup.evidence import Suspect, reason_to_keep
from fsspill.cleanup.listing import Listing, take_listing
from fsspill.cleanup.sessions import (
    DAY,
    STALE_AFTER,
    FileInfo,
    IncompleteUpload,
    Liveness,
    Node,
    Session,
)
from fsspill.cleanup.target import Target
from fsspill.error_chain import redact_errors
from fsspill.errors import ConfigError, FsspillError, format_seconds, translate
from fsspill.progress import Progress, ignore_progress
from fsspill.storage.client import StorageClient
from fsspill.storage.layout import HEARTBEAT_DIRECTORY, OBJECT_PREFIX

__all__ = ["Summary", "clean"]

_MAX_REQUESTS = 64
_FILES_PER_STEP = 8000
"""Files deleted between two reports of progress: eight concurrent bulk requests of S3."""


@dataclass
class Summary:
    """Result of a cleaning: the removed files (in a dry run, those to remove), and the kept ones.

    Attributes
    ----------
    sessions, nodes : list of str
        Names and node ids of sessions and nodes that were removed completely.
    files, nbytes : int
        Number of removed files of all kinds, and their bytes.
    uploads : int
        Number of aborted multipart uploads.
    kept : dict
        Reasons, by session or node.
    failures : dict
        Errors, by the URI that could not be listed or the path that could not be removed.
    """

    sessions: list[str] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    files: int = 0
    nbytes: int = 0
    uploads: int = 0
    kept: dict[str, str] = field(default_factory=dict)
    failures: dict[str, FsspillError] = field(default_factory=dict)


@redact_errors
def clean(
    uri: str,
    storage_options: Mapping[str, Any] | None = None,
    *,
    older_than: float = DAY,
    sessions: Sequence[str] = (),
    nodes: Sequence[str] = (),
    dead_nodes: bool = False,
    dry_run: bool = False,
    progress: Progress = ignore_progress,
    stale_after: float = STALE_AFTER,
) -> Summary:
    """Remove dead sessions completely, and no file of a session that is alive.

    Incomplete multipart uploads of any session and files of interrupted checks are removed too when
    they are older than the limit, which is the larger of `older_than` and `stale_after`: no call of
    fsspill takes so long.

    Parameters
    ----------
    uri, storage_options
        As for `fsspill.cleanup.scan`.
    older_than : float
        Seconds since the last write to a session from which it may be dead.
    sessions : sequence of str
        Names of sessions to remove, and nothing else. They may be recent or unknown, and of any
        age.
    nodes : sequence of str
        Ids of nodes whose node-local directories to remove, and nothing else. Node-local
        directories have no heartbeats: it is not known if such a node is alive.
    dead_nodes : bool
        Also remove the files of dead nodes in sessions that are alive: nodes of which the heartbeat
        and every spilled file is older than the limit, while the head has a fresh heartbeat. Their
        objects may still be needed, and any node of the session could still restore them.
    dry_run : bool
        Remove nothing; return the summary of a cleaning that would succeed.
    progress : callable
        Called with the step, the number of files done and the number of files in total.
    stale_after : float
        Seconds from which a heartbeat is stale; see `fsspill.cleanup.sessions.classify`.

    Returns
    -------
    Summary
        Sessions, nodes and files that were removed, were kept, or could not be removed.

    Raises
    ------
    ConfigError
        A named session is alive, or a named session or node does not exist. Nothing was removed.
    FsspillError
        The URI cannot be written, listed and deleted. Nothing was removed.

    Notes
    -----
    *Safety.* A session is kept unless independent evidence agrees that it is dead; see
    `fsspill.cleanup.evidence`. Its heartbeats are listed again just before it is removed, and again
    after every 8000 files; it is kept if one has changed, or if the newest one is young by the time
    in it. They are removed last, and only when all other files are gone, so that an interrupted
    cleaning can be repeated.

    *Requests.* Those of `scan`; for each session one or two listings, one that reads a heartbeat,
    and the deletion of its files (S3: one request for 1000 files; elsewhere: one for each file),
    and one for each upload and each directory. A dry run makes all but those that delete.
    """
    if dead_nodes and (sessions or nodes):
        raise ConfigError(
            "cannot clean: expected either dead nodes or names of sessions and nodes, found both. "
            "Clean once for each."
        )
    target, listing = take_listing(uri, storage_options, older_than, stale_after)
    summary = Summary()
    if listing.uploads_error:
        summary.failures[uri] = listing.uploads_error
    if sessions or nodes:
        removals = [*_named_sessions(listing, sessions), *_named_nodes(listing, nodes)]
    else:
        removals = [*_dead_sessions(listing, dead_nodes, summary), _leftovers(listing, older_than)]
    cleaning = _Cleaning(target, listing, max(older_than, stale_after), dry_run, summary)
    cleaning.remove_all(removals, progress)
    return summary


# Selection


@dataclass
class _Removal:
    """Files, uploads and directories that are removed together.

    They are those of a session, of a node of a session, of a node-local directory, or leftovers
    without any; `named` is True if the user named it.
    """

    session: str | None = None
    node: str | None = None
    files: list[FileInfo] = field(default_factory=list)
    heartbeats: list[FileInfo] = field(default_factory=list)
    uploads: list[IncompleteUpload] = field(default_factory=list)
    directories: list[str] = field(default_factory=list)
    named: bool = False

    @property
    def title(self) -> str:
        return _title(self.session, self.node)

    @property
    def suspect(self) -> Suspect | None:
        """Evidence to check again before removal; None where there are no heartbeats."""
        if self.session is None:
            return None
        ages = {heartbeat.path: heartbeat.age for heartbeat in self.heartbeats}
        return Suspect(self.session, self.node, ages, self.named)

    @property
    def all_files(self) -> list[FileInfo]:
        return [*self.files, *self.heartbeats]


def _title(session: str | None, node: str | None = None) -> str:
    if node is None:
        return "leftovers" if session is None else f"session {session}"
    return f"node {node}" if session is None else f"node {node} of session {session}"


def _session_removal(session: Session, *, named: bool = False) -> _Removal:
    names = [*(f"{OBJECT_PREFIX}_{node_id}" for node_id in session.nodes), HEARTBEAT_DIRECTORY, ""]
    return _Removal(
        session=session.name,
        files=session.files,
        heartbeats=session.heartbeats,
        uploads=session.uploads,
        directories=[f"{session.name}/{name}".rstrip("/") for name in names],
        named=named,
    )


def _node_removal(session: Session, node: Node) -> _Removal:
    return _Removal(
        session=session.name,
        node=node.node_id,
        files=node.files,
        heartbeats=[node.heartbeat] if node.heartbeat else [],
        directories=["/".join(filter(None, [session.name, f"{OBJECT_PREFIX}_{node.node_id}"]))],
    )


def _named_sessions(listing: Listing, names: Sequence[str]) -> Iterator[_Removal]:
    """Yield the removals of sessions by name.

    Raises
    ------
    ConfigError
        One of them does not exist, or is alive.
    """
    for name in dict.fromkeys(names):
        session = listing.sessions.get(name)
        if session is None:
            known = ", ".join(sorted(filter(None, listing.sessions))) or "none"
            raise ConfigError(
                f"cannot remove session {name}: expected the name of a session under "
                f"{listing.uri}. Found: {known}."
            )
        if session.liveness == "alive":
            raise ConfigError(
                f"cannot remove session {name}: it is alive, its last heartbeat is less than "
                f"{format_seconds(listing.stale_after)} old. Stop its cluster, and try again after "
                "that time."
            )
        yield _session_removal(session, named=True)


def _named_nodes(listing: Listing, node_ids: Sequence[str]) -> Iterator[_Removal]:
    """Yield the removals of node-local directories by node id.

    Raises
    ------
    ConfigError
        There is no node-local directory of one of the nodes.
    """
    local = listing.sessions.get(None, Session(None))
    for node_id in dict.fromkeys(node_ids):
        if node_id not in local.nodes:
            known = ", ".join(sorted(local.nodes)) or "none"
            raise ConfigError(
                f"cannot remove node {node_id}: expected the id of a node that has a node-local "
                f"directory under {listing.uri}. Found: {known}. Files of a node in a session are "
                "removed with the session."
            )
        yield _node_removal(local, local.nodes[node_id])


def _reason(session: Session) -> str:
    """Return the reason for keeping a session that is not dead."""
    reasons: Mapping[Liveness, str] = {"alive": "alive", "recent": "not old enough"}
    return reasons.get(session.liveness, session.doubt)


def _dead_sessions(listing: Listing, dead_nodes: bool, summary: Summary) -> Iterator[_Removal]:
    """Yield the removals of dead sessions, and record in the summary why others are kept."""
    for session in listing.sessions.values():
        if session.name is None:
            titles = [_title(None, node_id) for node_id in session.nodes]
            summary.kept.update(dict.fromkeys(titles, session.doubt))
        elif session.liveness == "dead":
            yield _session_removal(session)
        elif session.nodes or session.head:
            summary.kept[_title(session.name)] = _reason(session)
            for node in _dead_nodes(session, listing.stale_after):
                if dead_nodes:
                    yield _node_removal(session, node)
                else:
                    title = _title(session.name, node.node_id)
                    summary.kept[title] = "dead, but its session is alive"


def _dead_nodes(session: Session, stale_after: float) -> list[Node]:
    """Return the dead nodes of a session whose head has a fresh heartbeat."""
    head = session.head.age if session.head else None
    if head is None or head >= stale_after:
        return []
    return [node for node in session.nodes.values() if node.liveness == "dead"]


def _leftovers(listing: Listing, older_than: float) -> _Removal:
    """Return the removal of uploads and files of checks that are older than the limit."""
    limit = max(older_than, listing.stale_after)
    uploads = [
        upload
        for session in listing.sessions.values()
        if session.liveness != "dead"  # those of a dead one are removed with it
        for upload in session.uploads
        if upload.age is not None and upload.age >= limit
    ]
    checks = [file for file in listing.checks if file.age is not None and file.age >= limit]
    return _Removal(files=checks, uploads=uploads)


# Removal


@dataclass
class _Cleaning:
    """The removals of one call of `clean`, and the summary that they are recorded in."""

    target: Target
    listing: Listing
    limit: float
    dry_run: bool
    summary: Summary

    def remove_all(self, removals: Sequence[_Removal], progress: Progress) -> None:
        done, total = 0, sum(len(removal.all_files) for removal in removals)
        for removal in removals:
            report = partial(_report, progress, done, total)
            try:
                self._remove_unless_alive(removal, report)
            except Exception as error:
                failure = translate(error, "cannot remove", removal.title)
                self.summary.failures[removal.title] = failure
            done += len(removal.all_files)
            if removal.all_files and not self.dry_run:
                report(len(removal.all_files))

    def _remove_unless_alive(self, removal: _Removal, report: Callable[[int], None]) -> None:
        if self._must_keep(removal):
            return
        if self.dry_run:
            _count(self.summary, removal)
        else:
            self._remove(removal, report)

    def _must_keep(self, removal: _Removal) -> bool:
        """Check the evidence again; return True, and record why, if the session must be kept."""
        suspect = removal.suspect
        if suspect is None:
            return False

        def look(client: StorageClient) -> str | None:
            reason: str | None = client.run(
                reason_to_keep, client, self.listing, suspect, self.limit
            )
            return reason

        reason = self.target.call(look, "cannot list the heartbeats under")
        if reason is not None:
            self.summary.kept[removal.title] = reason
        return reason is not None

    def _remove(self, removal: _Removal, report: Callable[[int], None]) -> None:
        """Remove uploads, files and, only when those are gone, heartbeats and directories."""
        failures = self._abort_uploads(removal.uploads)
        for start in range(0, len(removal.files), _FILES_PER_STEP):
            if start:
                report(start)
                if self._must_keep(removal):
                    return
            step = removal.files[start : start + _FILES_PER_STEP]
            failures |= self._delete_files(step)
        if not failures:  # otherwise they are kept: without them it would be unknown, not dead
            failures = self._delete_files(removal.heartbeats)
        if failures:
            self.summary.failures.update(failures)
            return
        _remove_directories(self.target.client, removal.directories)
        _count_name(self.summary, removal)

    def _abort_uploads(self, uploads: Sequence[IncompleteUpload]) -> dict[str, FsspillError]:
        infos = [upload.info for upload in uploads]
        failures = self.target.remove(lambda client: client.run(client.abort_uploads, infos))
        self.summary.uploads += len(uploads) - len(failures)
        return failures

    def _delete_files(self, files: Sequence[FileInfo]) -> dict[str, FsspillError]:
        paths = [file.path for file in files]
        failures = self.target.remove(
            lambda client: client.run(client.delete, paths, _MAX_REQUESTS)
        )
        _count_files(self.summary, [file for file in files if file.path not in failures])
        return failures


def _report(progress: Progress, before: int, total: int, done: int) -> None:
    progress("files handled", before + done, total)


def _remove_directories(client: StorageClient, directories: Sequence[str]) -> None:
    paths = [f"{client.root}/{directory}" for directory in directories]
    client.run(client.remove_directories, paths)


# Counts


def _count(summary: Summary, removal: _Removal) -> None:
    """Count a removal that a dry run does not make."""
    summary.uploads += len(removal.uploads)
    _count_files(summary, removal.all_files)
    _count_name(summary, removal)


def _count_files(summary: Summary, files: Sequence[FileInfo]) -> None:
    summary.files += len(files)
    summary.nbytes += sum(file.nbytes for file in files)


def _count_name(summary: Summary, removal: _Removal) -> None:
    if removal.node is not None:
        summary.nodes.append(removal.node)
    elif removal.session is not None:
        summary.sessions.append(removal.session)
