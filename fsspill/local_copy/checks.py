"""Checks of the directory for local copies, when a node starts."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from fsspill.errors import ConfigError
from fsspill.local_copy.directory import CopyDirectory
from fsspill.local_copy.eviction import FREE_SHARE
from fsspill.log import get_logger
from fsspill.storage.local_files import OpenDirectory
from fsspill.storage.mount import Mount

__all__ = ["check_directory", "probe_directory"]

logger = get_logger(__name__)

_PROBE, _CONTENT = "fsspill.probe", bytes(range(256)) * 16

_IN_MEMORY = ("tmpfs", "ramfs")


def check_directory(mount: Mount, root: str, max_bytes: int) -> None:
    """Verify that a directory can keep so many bytes of copies.

    Parameters
    ----------
    mount : Mount
        Its file system.
    root : str
        The configured directory.
    max_bytes : int
        Bytes of all copies.

    Raises
    ------
    ConfigError
        It cannot; the message says why.

    Notes
    -----
    A directory in memory is accepted, with a line in the log: its copies take memory of the node.
    """
    try:
        kind, nbytes = mount.call(_look, root)
    except OSError as error:
        raise _error(root, str(error)) from error
    room = nbytes - nbytes // FREE_SHARE
    if max_bytes > room:
        raise ConfigError(
            f"cannot use cache_max_bytes={max_bytes} with cache_dir={root!r}: expected no more "
            f"than {room}, nine tenths of the disk, because a tenth stays free."
        )
    if kind in _IN_MEMORY:
        logger.warning(
            "cache_dir=%r is in memory (%s): its copies take memory of this node. Name a "
            "directory on a disk.",
            root,
            kind,
        )


def _look(root: str) -> tuple[str, int]:
    """Return the kind of a file system and its bytes, once the directory could be used."""
    probe_directory(root)
    disk = os.statvfs(root)
    return _file_system(os.path.realpath(root)), disk.f_frsize * disk.f_blocks


def probe_directory(root: str) -> None:
    """Write, read and remove a small file where copies would be. Raises OSError."""
    if not os.path.isdir(root):
        raise FileNotFoundError("there is no such directory")
    directory = CopyDirectory(root, f"check-{uuid.uuid4().hex}", "node")
    try:
        _probe(directory.enter(make=True))
    finally:
        directory.remove()


def _probe(directory: OpenDirectory) -> None:
    with open(directory.create(_PROBE), "wb", buffering=0) as file:
        file.write(_CONTENT)
    with open(directory.open(_PROBE), "rb", buffering=0) as file:
        if file.read() != _CONTENT:
            raise OSError("found other bytes than those that were written")


def _file_system(path: str) -> str:
    """Return the kind of the file system of a path; "" where the system does not tell."""
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return ""
    mounts = [line.split()[1:3] for line in lines]
    above = [(len(at), kind) for at, kind in mounts if f"{path}/".startswith(f"{at.rstrip('/')}/")]
    return max(above, default=(0, ""))[1]


def _error(root: str, reason: str) -> ConfigError:
    return ConfigError(
        f"cannot use cache_dir={root!r}: {reason}. Expected a directory that exists on this node, "
        "on a disk of its own, in which this user may write: make it, or leave cache_dir out."
    )
