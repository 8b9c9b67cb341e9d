"""Other users of the machine, and disks that are full: real ones, for tests that run as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["NOT_ROOT", "OTHER", "fill", "needs_root", "public_directory", "run_as", "small_disk"]

OTHER = 4321
"""Id of another user, who need not have a name."""

NOT_ROOT = 4322
"""Id of the user as whom fsspill runs, for tests in which it must not be root."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="acts as other users")

# All modules are imported before: another user may not read those of this environment.
_BECOME = """
import encodings.idna, importlib, os, pkgutil, sys
import fsspill
for module in pkgutil.walk_packages(fsspill.__path__, "fsspill."):
    if module.name.split(".")[1] not in ("ray", "hook", "testing", "cli"):
        importlib.import_module(module.name)
for uri in ("memory://warm-up", "file:///nowhere"):
    fsspill.storage.connection.connect(uri, {})
fsspill.ExternalStorage("memory://warm-up").check()
os.setgroups([])
os.setgid(int(sys.argv[1]))
os.setuid(int(sys.argv[1]))
"""


def run_as(user: int, code: str, *arguments: object) -> str:
    """Run a program as another user, and return what it printed; its arguments follow the user."""
    command = [sys.executable, "-c", _BECOME + code, str(user), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def public_directory(mode: int = 0o1777) -> Iterator[Path]:
    """Make a directory in which every user may write; pytest's own are closed to other users."""
    directory = Path(tempfile.mkdtemp(prefix="fsspill-test-", dir="/tmp"))
    try:
        directory.chmod(mode)
        yield directory
    finally:
        shutil.rmtree(directory)


@contextmanager
def small_disk(
    directory: Path, *options: str, size: str = "64k", max_files: int = 16
) -> Iterator[None]:
    """Mount a small disk at a directory; skips the test where that is refused."""
    wanted = ",".join([f"size={size}", f"nr_inodes={max_files}", *options])
    command = ["mount", "-t", "tmpfs", "-o", wanted, "none", str(directory)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def fill(directory: Path) -> None:
    """Fill a small disk to its last byte."""
    with (directory / "filler").open("wb", buffering=0) as filler:
        try:
            while filler.write(bytes(4096)):
                pass
        except OSError:
            pass
