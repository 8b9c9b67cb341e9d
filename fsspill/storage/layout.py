"""Where the files of one node lie under one configured URI. Names only, no I/O.

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

from fsspill.errors import ConfigError
from fsspill.storage.connection import check_uri, is_local

__all__ = [
    "CHECK_PREFIX",
    "HEAD",
    "HEARTBEAT_DIRECTORY",
    "OBJECT_PREFIX",
    "SpillLocation",
    "check_component",
    "find_location",
    "is_valid_component",
]

OBJECT_PREFIX = "ray_spilled_objects"
"""Ray's name (``DEFAULT_OBJECT_PREFIX``) for directories of spilled objects."""

HEARTBEAT_DIRECTORY = "fsspill_heartbeats"
"""Directory of a session with one file per node that spills, and one of the head. Each is written
anew every few minutes as long as its node (or the session) lives."""

CHECK_PREFIX = "fsspill-check"
"""What the names of files begin with that a check writes and deletes at once."""

HEAD = "head"
"""File of the session's head in `HEARTBEAT_DIRECTORY`; all others are named after node ids."""

_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")


class SpillLocation:
    """One configured URI, as one node of one session uses it.

    Parameters
    ----------
    uri : str
        The configured URI.
    prefix : str
        Path below the URI under which everything lies; may be empty.
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
        Whether the URI is a directory in this machine's own tree of files.
    node_local : bool
        Whether only this machine can read the files.
    root : str
        What every base URL under this URI starts with: the URI, or the plain path of a local
        directory.
    session_directory : str or None
        Base URL of the directory of the session; None where there is none.
    node_directory : str
        Base URL of the directory of the node, the only one that `destroy` may remove.
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
        self.session_directory = None if self.node_local else f"{self.root}/{session_name}"
        parent = self.session_directory or self.root
        self.node_directory = f"{parent}/{OBJECT_PREFIX}_{node_id}"
        self.node_id = node_id

    def new_file(self, object_count: int, nbytes: int) -> str:
        """Return the base URL of a new fused file, in Ray's naming with its length behind.

        The length of a compressed one is that before, since it is named before it is made.
        """
        return f"{self.node_directory}/{uuid.uuid4().hex}-multi-{object_count}-{nbytes}"

    @property
    def check_file(self) -> str:
        """Base URL of the file that a check writes: one per node, so that none pile up."""
        name = hashlib.md5(self.node_directory.encode(), usedforsecurity=False).hexdigest()
        return f"{self.root}/{CHECK_PREFIX}-{name}"

    def heartbeat_file(self, name: str) -> str:
        """Return the base URL of the heartbeat of a node, or of the head."""
        return f"{self.session_directory}/{HEARTBEAT_DIRECTORY}/{name}"

    @staticmethod
    def size_of(base_url: str) -> int:
        """Return the length that `new_file` gave a file in its name; 0 for another's file."""
        last = base_url.rpartition("-")[2]
        return int(last) if base_url.count("-multi-") == 1 and last.isdecimal() else 0

    def contains(self, base_url: str) -> bool:
        """Whether `base_url` names a file of some node under this URI, and nothing else."""
        if not base_url.startswith(self.root + "/"):
            return False
        components = base_url[len(self.root) + 1 :].split("/")
        if len(components) != (2 if self.node_local else 3):
            return False
        ours = components[-2].startswith(f"{OBJECT_PREFIX}_")
        return ours and all(map(is_valid_component, components))

    def relative(self, base_url: str) -> str:
        """Return what follows the URI in a base URL under it, with a leading slash."""
        return base_url[len(self.root) :]


def is_valid_component(component: str) -> bool:
    """Whether a component of a path may be one of the layout's."""
    return bool(_PLAIN.fullmatch(component)) and component not in (".", "..")


def find_location(locations: Sequence[SpillLocation], base_url: str) -> SpillLocation | None:
    """Return the one among the configured URIs that a file lies under; None if it is elsewhere."""
    return next((location for location in locations if location.contains(base_url)), None)


def local_path(uri: str) -> str:
    """Return the normalised plain path of a ``file://`` URI."""
    return os.path.normpath(uri.partition("://")[2])


def check_component(name: str, value: object) -> None:
    """Raise ConfigError unless a value may be a component of a path in the layout."""
    if not isinstance(value, str) or not is_valid_component(value):
        raise ConfigError(
            f"cannot use {name}={value!r}: expected letters, digits, '-', '_' and '.' only, "
            "because it becomes part of every URL."
        )
