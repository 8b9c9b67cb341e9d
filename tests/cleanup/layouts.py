"""Sessions in a local directory, written without fsspill, and short forms of a scan."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from fsspill.cleanup import Session, scan
from fsspill.cleanup.sessions import DAY, STALE_AFTER

MINUTE, HOUR = 60.0, 3600.0


def write(path: Path, age: float, data: bytes = b"abc") -> Path:
    """Write a file, of 3 bytes, that is `age` seconds old by the clock of its filesystem."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    written = path.stat().st_mtime - age
    os.utime(path, (written, written))
    return path


def heartbeat_data(age: float) -> bytes:
    """Return the 10 bytes that were written to a heartbeat so many seconds ago."""
    return str(int(time.time() - age)).encode()


def write_heartbeat(root: Path, session: str, name: str, age: float) -> Path:
    """Write a heartbeat that is `age` seconds old by both clocks."""
    return write(root / session / "fsspill_heartbeats" / name, age, heartbeat_data(age))


def write_spilled(root: Path, session: str, node: str, age: float, heartbeat: float | None) -> Path:
    """Write a spilled file of a node, and its heartbeat of the age `heartbeat`, if any."""
    if heartbeat is not None:
        write_heartbeat(root, session, node, heartbeat)
    return write(root / session / f"ray_spilled_objects_{node}" / f"f-{age:.0f}", age)


def write_head_heartbeat(root: Path, session: str, age: float) -> Path:
    """Write the heartbeat of the head."""
    return write_heartbeat(root, session, "head", age)


def write_dead_session(root: Path, name: str) -> None:
    """Write a dead session of two nodes: 3 heartbeats and 2 spilled files."""
    write_head_heartbeat(root, name, 2 * DAY)
    write_spilled(root, name, "n1", age=3 * DAY, heartbeat=2 * DAY)
    write_spilled(root, name, "n2", age=4 * DAY, heartbeat=4 * DAY)


def about(age: float) -> Any:
    """Return a value that equals an age and those up to 5 minutes off, for busy machines."""
    return pytest.approx(age, abs=5 * MINUTE)


def liveness_of(
    uri: str, older_than: float = DAY, stale_after: float = STALE_AFTER
) -> dict[str | None, str]:
    """Return the liveness of each session under a URI, by name."""
    found = scan(uri, older_than=older_than, stale_after=stale_after)
    return {session.name: session.liveness for session in found}


def only_session(uri: str) -> Session:
    """Return the only session under a URI."""
    [session] = scan(uri)
    return session
