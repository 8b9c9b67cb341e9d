"""State shared by all processes of a node and session."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fsspill.placement.shared_state import SharedState


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("fsspill.placement.shared_state.gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_no_directory_is_created_before_the_first_record(directory: Path) -> None:
    """Reading a record that does not exist leaves no trace."""
    assert SharedState("session", "node").read("kind", "key") is None
    assert list(directory.iterdir()) == []


def test_another_process_reads_the_record(directory: Path) -> None:
    """A record is visible to all processes of the node, and to no other node."""
    state = SharedState("session", "node")
    state.write("kind", "s3://bucket/x", {"a": 1})
    code = (
        "from fsspill.placement.shared_state import SharedState\n"
        "print(SharedState('session', 'node').read('kind', 's3://bucket/x'))\n"
        "print(SharedState('session', 'other').read('kind', 's3://bucket/x'))\n"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout == "{'a': 1}\nNone\n", printed.stderr
    state.remove("kind", "s3://bucket/x")
    assert state.read("kind", "s3://bucket/x") is None


def test_records_are_private(directory: Path) -> None:
    """Only the user can read the directories."""
    SharedState("session", "node").write("kind", "key", {})
    made = [path for path in directory.rglob("*") if path.is_dir()]
    assert len(made) == 3
    assert all(path.stat().st_mode & 0o077 == 0 for path in made)


def test_discarding_removes_records_and_empty_directories(directory: Path) -> None:
    """Records of other nodes stay."""
    mine, other = SharedState("session", "node"), SharedState("session", "other")
    mine.write("kind", "key", {})
    other.write("kind", "key", {"a": 1})
    mine.discard()
    assert mine.read("kind", "key") is None
    assert other.read("kind", "key") == {"a": 1}
    other.discard()
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("what", ["open directory", "file", "link"])
def test_a_directory_that_is_not_private_is_not_used(directory: Path, what: str) -> None:
    """It is left as it is, and each process keeps its records to itself."""
    squatted = directory / f"fsspill-{os.getuid()}"
    elsewhere = directory / "elsewhere"
    elsewhere.mkdir()
    if what == "open directory":
        squatted.mkdir(mode=0o777)
        squatted.chmod(0o777)
    elif what == "file":
        squatted.write_text("")
    else:
        squatted.symlink_to(elsewhere)
    state = SharedState("session", "node")
    state.write("kind", "key", {"a": 1})
    assert state.read("kind", "key") == {"a": 1}
    assert SharedState("session", "node").read("kind", "key") is None
    assert list(elsewhere.iterdir()) == []
    state.remove("kind", "key")
    assert state.read("kind", "key") is None


def test_an_invalid_record_is_ignored(directory: Path) -> None:
    """A file that holds no JSON counts as no record."""
    state = SharedState("session", "node")
    state.write("kind", "key", {"a": 1})
    [path] = directory.rglob("kind-*")
    path.write_text("{")
    assert state.read("kind", "key") is None


def test_records_of_killed_sessions_are_removed_after_a_week(directory: Path) -> None:
    """The next session that writes a record removes them; more recent ones stay."""
    week = 7 * 24 * 3600
    for name, age in (("old", week + 60), ("young", week - 3600)):
        SharedState(name, "node").write("kind", "key", {})
        [node] = directory.glob(f"fsspill-*/{name}/node")
        os.utime(node, (time.time() - age,) * 2)
    SharedState("session", "node").write("kind", "key", {})
    assert {path.name for path in directory.glob("fsspill-*/*")} == {"young", "session"}


def test_one_process_at_a_time_holds_a_lock(directory: Path) -> None:
    """It ends with the process that holds it."""
    state = SharedState("session", "node")
    code = (
        "import sys\n"
        "from fsspill.placement.shared_state import SharedState\n"
        "with SharedState('session', 'node').lock('kind', 'key', wait=True):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with state.lock("kind", "key", wait=False) as mine:
            assert not mine
        holder.kill()
        holder.wait()
    with state.lock("kind", "key", wait=False) as mine:
        assert mine
