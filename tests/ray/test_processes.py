"""Processes of one machine, and their logs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fsspill.ray.processes import is_alive, open_log
from tests.running import poll


def test_a_process_is_alive_until_it_has_ended() -> None:
    """One that nobody has waited for has ended too, as in a container without an init."""
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert is_alive(process.pid)
        assert is_alive(os.getpid())
        assert process.stdin is not None
        process.stdin.close()
        poll(lambda: not is_alive(process.pid), "the process to end")
        assert process.returncode is None  # not waited for
    assert not is_alive(process.pid)


def test_a_log_is_appended_to(tmp_path: Path) -> None:
    """A process that takes over writes into the same file."""
    path = tmp_path / "log"
    for line in (b"one\n", b"two\n"):
        with open_log(str(path)) as log:
            log.write(line)
    assert path.read_bytes() == b"one\ntwo\n"


def test_a_process_without_a_log_starts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A link that another user has planted is not followed, and a directory may be missing."""
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_bytes(b"mine")
    link.symlink_to(victim)
    for path in (link, tmp_path / "missing" / "log"):
        with open_log(str(path)) as log:
            log.write(b"lost")
    assert victim.read_bytes() == b"mine"
    assert caplog.text.count("has no log") == 2
