"""A URI with leftovers, for the commands that list and remove them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest


@pytest.fixture
def left_behind(tmp_path: Path) -> Path:
    """Return a directory with a dead session, a live one, a library's and a local node."""
    beats = {
        "dead": 49 * 3600,
        "alive": -3600,
    }  # in the future, as if written during the listing: of age 0
    for session in ("dead", "alive", "library"):
        old_file(tmp_path / session / "ray_spilled_objects_n1" / "f", 50 * 3600)
    for session, age in beats.items():
        old_heartbeat(tmp_path / session / "fsspill_heartbeats" / "head", age)
    old_file(tmp_path / "ray_spilled_objects_n2" / "f", 50 * 3600)
    return tmp_path


def old_heartbeat(path: Path, age: float) -> None:
    old_file(path, age, f"{time.time() - age:<1500.0f}".encode())


def old_file(path: Path, age: float, data: bytes = b"x" * 1500) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    written = path.stat().st_mtime - age
    os.utime(path, (written, written))
