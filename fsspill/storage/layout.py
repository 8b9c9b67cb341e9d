"""Names of the files of one node under one configured URI. Names only, no I/O.

::

    remote or shared   <uri>[/<prefix>]/<session name>/ray_spilled_objects_<node id>/<file>
                       <uri>[/<prefix>]/<session name>/fsspill_heartbeats/<node id, or "head">
    node-local         <directory>[/<prefix>]/ray_spilled_objects_<node id>/<file>

Node-local files follow Ray's own layout, plain path and all, because there the raylet reads
them itself. Remote ones carry the session, because many clusters may share a bucket.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Sequence
from typing import NamedTuple

from fsspill.errors import ConfigError
from fsspill.storage.uri import check_uri, is_local

__all__ = [
    "CHECK_PREFIX",
    "HEAD",
    "HEARTBEAT_DIRECTORY",
    "OBJECT_PREFIX",
    "FileRef",
    "SpillLocation",
    "check_component",
    "find_file",
    "is_valid_component",
    "split_version",
    "versioned_path",
]

OBJECT_PREFIX = "ray_spilled_objects"
"""Ray's name (``DEFAULT_OBJECT_PREFIX``) for directories of spilled objects."""

HEARTBEAT_DIRECTORY = "fsspill_heartbeats"
"""Directory of a session with one file per node that spills, and one of the head, each written
again every few minutes as long as its node (or the session) lives."""

CHECK_PREFIX = "fsspill-check"
"""Prefix of the files that a check writes and deletes again."""

HEAD = "head"
"""File of the session's head in `HEARTBEAT_DIRECTORY`; all others are named after node ids."""

_COMPONENT = re.compile(r"[A-Za-z0-9_.-]+")

_VERSION = "?versionId="
"""Between a path and a version, as s3fs has it. Paths of fsspill have no question mark."""


class FileRef(NamedTuple):
    """A file under one of the configured URIs.

    Attributes
    ----------
    location : SpillLocation
        The configured URI.
    path : str
        Path below it, with a leading slash.
    version : str
        The storage's own name of what was written there, where it keeps old versions; else "".
    """

    location: SpillLocation
    path: str
    version: str = ""

    @property
    def url(self) -> str:
        """Base URL of the file: the name that Ray keeps."""
        return self.location.root + self.path

    @property
    def name(self) -> str:
        """Last component of the path, which has random digits."""
        return self.path.rpartition("/")[2]

    @property
    def is_of_this_node(self) -> bool:
        """True if the file is in the directory of the location's node, which has written it."""
        return self.path == f"{self.location.node_path}/{self.name}"

    def renamed(self) -> FileRef:
        """Return another fused file of the same length and number of objects."""
        directory, _, name = self.path.rpartition("/")
        return FileRef(self.location, f"{directory}/{uuid.uuid4().hex}-{name.partition('-')[2]}")

    @property
    def nbytes(self) -> int:
        """Length that `SpillLocation.new_file` put into the name, in bytes; 0 for other files."""
        counts = self.named_counts
        return counts[1] if counts else 0

    @property
    def named_counts(self) -> tuple[int, int] | None:
        """Objects and bytes that `SpillLocation.new_file` put into the name; None for others."""
        objects, _, nbytes = self.name.partition("-multi-")[2].partition("-")
        found = objects.isdecimal() and nbytes.isdecimal()
        return (int(objects), int(nbytes)) if found else None


class SpillLocation:
    """One configured URI, as one node of one session uses it.

    Parameters
    ----------
    uri : str
        The configured URI.
    prefix : str
        Path below the URI under which all files are written; may be empty.
    session_name, node_id : str
        Letters, digits, ``-``, ``_`` and ``.`` only.
    shared : bool
        For ``file://``: the directory is one filesystem that every node mounts, so that any
        node can read what another spilled.

    Attributes
    ----------
    uri : str
        The configured URI with the prefix; no slash at the end.
    local : bool
        True if the URI is a directory in this machine's own tree of files.
    node_local : bool
        True if only this machine can read the files.
    root : str
        The prefix of every base URL under this URI: the URI, or the plain path of a local
        directory.
    session_path : str or None
        Path of the session's directory below `root`; None where there is none.
    node_path : str
        Path of the node's directory below `root`, the only directory that `destroy` may remove.
    node_id : str
        The node.
    """

    def __init__(
        self, uri: str, *, prefix: str, session_name: str, node_id: str, shared: bool
    ) -> None:
        checked = check_uri(uri)
        for name, value in (("session_name", session_name), ("node_id", node_id)):
            check_component(name, value)
        for component in filter(None, prefix.split("/")):
            check_component("prefix", component)
        self.local = is_local(checked)
        self.node_local = self.local and not shared
        self.uri = "/".join([checked, *filter(None, prefix.split("/"))])
        self.root = local_path(self.uri) if self.local else self.uri
        self.session_path = None if self.node_local else f"/{session_name}"
        self.node_path = f"{self.session_path or ''}/{OBJECT_PREFIX}_{node_id}"
        self.node_id = node_id

    @property
    def node_directory(self) -> str:
        """Base URL of the node's directory."""
        return self.root + self.node_path

    def new_file(self, object_count: int, nbytes: int) -> FileRef:
        """Return a new fused file, in Ray's naming followed by its length.

        The length of a compressed one is that before compression: it is named before it is made.
        """
        name = f"{uuid.uuid4().hex}-multi-{object_count}-{nbytes}"
        return FileRef(self, f"{self.node_path}/{name}")

    @property
    def check_file(self) -> FileRef:
        """The file that a check writes: one per node, so that none pile up."""
        name = hashlib.md5(self.node_directory.encode(), usedforsecurity=False).hexdigest()
        return FileRef(self, f"/{CHECK_PREFIX}-{name}")

    def probe_file(self, name: str) -> FileRef:
        """Return the file that a probe writes where the node's files are."""
        return FileRef(self, f"{self.node_path}/{CHECK_PREFIX}-{name}")

    @property
    def heartbeat_path(self) -> str:
        """Path of the directory of heartbeats below `root`."""
        return f"{self.session_path}/{HEARTBEAT_DIRECTORY}"

    def heartbeat_file(self, name: str) -> FileRef:
        """Return the heartbeat of a node, or of the head."""
        return FileRef(self, f"{self.heartbeat_path}/{name}")

    def find(self, base_url: str) -> FileRef | None:
        """Return the file that `base_url` names; None unless a node spilled it under this URI."""
        if not base_url.startswith(self.root + "/"):
            return None
        path = base_url[len(self.root) :]
        components = path[1:].split("/")
        if len(components) != (2 if self.node_local else 3):
            return None
        spilled = components[-2].startswith(f"{OBJECT_PREFIX}_")
        return FileRef(self, path) if spilled and all(map(is_valid_component, components)) else None


def is_valid_component(component: str) -> bool:
    """Return True if a component of a path may be one of the layout's."""
    return bool(_COMPONENT.fullmatch(component)) and component not in (".", "..")


def find_file(locations: Sequence[SpillLocation], base_url: str) -> FileRef:
    """Return the file that `base_url` names.

    Raises
    ------
    ConfigError
        It is under none of the configured URIs.
    """
    found = (location.find(base_url) for location in locations)
    file = next((file for file in found if file), None)
    if file is not None:
        return file
    roots = ", ".join(location.root for location in locations)
    raise ConfigError(
        f"refused {base_url}: expected a spilled file under {roots}. fsspill reads and deletes "
        "nothing else."
    )


def local_path(uri: str) -> str:
    """Return the normalised plain path of a ``file://`` URI."""
    return os.path.normpath(uri.partition("://")[2])


def versioned_path(path: str, version: str) -> str:
    """Return the path of one version of a file, for deletions; the file's own if it has none."""
    return f"{path}{_VERSION}{version}" if version else path


def split_version(path: str) -> tuple[str, str]:
    """Return the path of a file and the version that `versioned_path` has put behind it, or ""."""
    path, _, version = path.partition(_VERSION)
    return path, version


def check_component(name: str, value: object) -> None:
    """Raise ConfigError unless a value may be a component of a path in the layout."""
    if not isinstance(value, str) or not is_valid_component(value):
        raise ConfigError(
            f"cannot use {name}={value!r}: expected letters, digits, '-', '_' and '.' only, "
            "because it becomes part of every URL."
        )
