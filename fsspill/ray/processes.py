"""Processes of one machine: those of Ray that others wait for, and the logs of those of fsspill."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from fsspill.log import get_logger

__all__ = ["is_alive", "open_log"]

logger = get_logger(__name__)


def is_alive(pid: int) -> bool:
    """Return True if a process has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Return True if a process has ended unreaped, as in a container without an init."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] == "Z"


def open_log(path: str) -> IO[bytes]:
    """Open a log file; none where the disk is full or read-only: no process needs its log."""
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return open(os.open(path, flags, 0o666), "ab")
    except OSError as error:
        logger.warning("a process of fsspill in this session has no log: %s", error)
        return Path(os.devnull).open("ab")
