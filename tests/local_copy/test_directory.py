"""The directories of copies: private, locked, and removed once nobody holds them."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from fsspill.local_copy import directory as module
from fsspill.local_copy.directory import ALIVE, CopyDirectory, GoneError, remove_unheld
from tests.other_users import NOT_ROOT, OTHER, needs_root, public_directory, run_as

COPY = "0" * 32 + "-multi-1-4"


def make(root: Path, session: str = "session", node: str = "node") -> CopyDirectory:
    """Return a directory that this process holds, with one copy in it."""
    directory = CopyDirectory(str(root), session, node)
    os.close(directory.enter(make=True).create(COPY))
    return directory


HELD = """
import sys, time
from pathlib import Path
from tests.local_copy.test_directory import make
held = make(Path(sys.argv[1]), "other", "node")
print("held", flush=True)
time.sleep(1000)
"""


def test_a_directory_is_private_and_is_removed_with_all_that_is_in_it(tmp_path: Path) -> None:
    """The session's goes with the last node's."""
    first, second = make(tmp_path, node="a"), make(tmp_path, node="b")
    path = tmp_path / "session" / "a"
    assert path.stat().st_mode & 0o777 == 0o700
    assert (path / COPY).stat().st_mode & 0o777 == 0o600
    first.remove()
    assert os.listdir(tmp_path / "session") == ["b"]
    second.remove()
    assert os.listdir(tmp_path) == []


def test_what_a_killed_process_held_is_removed_and_what_lives_stays(tmp_path: Path) -> None:
    """By the lock alone: a session that was killed a moment ago is as dead as an old one."""
    mine = make(tmp_path, "mine")
    command = [sys.executable, "-c", HELD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as other:
        assert other.stdout
        assert other.stdout.readline() == b"held\n"
        remove_unheld(str(tmp_path))
        assert sorted(os.listdir(tmp_path)) == ["mine", "other"]
        other.kill()
    remove_unheld(str(tmp_path))
    assert os.listdir(tmp_path) == ["mine"]
    assert (tmp_path / "mine" / "node" / COPY).exists()
    mine.leave()
    remove_unheld(str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_nothing_but_copies_is_removed(tmp_path: Path) -> None:
    """Files and directories of others stay, next to copies and among them."""
    make(tmp_path).leave()
    others = [
        tmp_path / "data.bin",
        tmp_path / "data" / "part" / COPY,  # in a directory without the file of the lock
        tmp_path / "session" / "node" / "data.bin",
        tmp_path / "empty",
    ]
    for other in others[:3]:
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_bytes(b"data")
    others[3].mkdir()
    remove_unheld(str(tmp_path))
    assert all(other.exists() for other in others)
    assert os.listdir(tmp_path / "session" / "node") == ["data.bin"]


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Neither by the removal nor by a node whose name is a link."""
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    root.mkdir()
    make(elsewhere_root := tmp_path, "elsewhere").leave()
    (root / "session").symlink_to(elsewhere_root / "elsewhere")
    remove_unheld(str(root))
    assert (elsewhere / "node" / COPY).exists()
    with pytest.raises(PermissionError, match="found a link"):
        CopyDirectory(str(root), "session", "node").enter(make=True)


def test_the_configured_directory_is_never_made(tmp_path: Path) -> None:
    """A disk that is not mounted must not be replaced by a directory of the same path."""
    with pytest.raises(GoneError, match=r"expected the directory .* to exist"):
        make(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()


def test_reading_makes_no_directory(tmp_path: Path) -> None:
    """A process that only restores leaves nothing after the removal of the node."""
    with pytest.raises(FileNotFoundError):
        CopyDirectory(str(tmp_path), "session", "node").enter()
    assert os.listdir(tmp_path) == []


def test_a_directory_that_another_process_removed_is_not_made_again_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been the end of the node, which leaves nothing; a minute later it was not."""
    directory = make(tmp_path)
    CopyDirectory(str(tmp_path), "session", "node").remove()
    with pytest.raises(FileNotFoundError, match="was removed"):
        directory.enter(make=True)
    assert os.listdir(tmp_path) == []
    monkeypatch.setattr(module, "_REMOVED_SECONDS", 0)
    directory.enter(make=True)
    assert os.listdir(tmp_path / "session" / "node") == [ALIVE]


def test_a_directory_that_is_being_removed_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that starts while its directory is removed ends with a locked one that exists."""
    make(tmp_path).leave()
    path = tmp_path / "session" / "node"
    lock = os.open(path / ALIVE, os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    attempts: list[float] = []

    def pause(seconds: float) -> None:
        attempts.append(seconds)
        if len(attempts) == 2:
            for name in os.listdir(path):
                os.unlink(path / name)
            path.rmdir()
            os.close(lock)

    monkeypatch.setattr(time, "sleep", pause)
    directory = CopyDirectory(str(tmp_path), "session", "node")
    directory.enter(make=True)
    assert len(attempts) >= 2
    remove_unheld(str(tmp_path))
    assert os.listdir(path) == [ALIVE]


def test_the_end_of_a_node_waits_for_processes_that_still_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that appears while others are removed goes too."""
    first, second = make(tmp_path), CopyDirectory(str(tmp_path), "session", "node")
    late = [f"{number:032x}-multi-1-4" for number in range(3)]
    rmdir = os.rmdir

    def remove(name: str, *, dir_fd: int) -> None:
        if late:
            with suppress(FileNotFoundError):
                os.close(second.enter().create(late.pop()))
        rmdir(name, dir_fd=dir_fd)

    second.enter()
    monkeypatch.setattr(os, "rmdir", remove)
    first.remove()
    assert late == []
    assert os.listdir(tmp_path) == []


def test_a_directory_that_could_not_be_removed_is_removed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is still known as one of copies."""
    directory = make(tmp_path)
    monkeypatch.setattr(module, "_ATTEMPTS", 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", lambda *arguments, **options: None)
        directory.remove()
    assert os.listdir(tmp_path / "session" / "node") == [ALIVE]
    remove_unheld(str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_the_first_process_of_a_node_removes_what_nobody_holds(tmp_path: Path) -> None:
    """A library has no other start."""
    make(tmp_path, "left").leave()
    make(tmp_path, "new")
    assert os.listdir(tmp_path) == ["new"]


def test_forgotten_directories_are_not_held(tmp_path: Path) -> None:
    """The lock ends with the object, as a library's storage that is dropped."""
    directory = make(tmp_path)
    del directory
    remove_unheld(str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_a_directory_that_a_thread_uses_stays_open(tmp_path: Path) -> None:
    """Also once another has seen its removal: its number would be that of another file."""
    directory = make(tmp_path)
    used = directory.enter()
    CopyDirectory(str(tmp_path), "session", "node").remove()
    with pytest.raises(FileNotFoundError):
        directory.enter()
    assert os.fstat(used.fd).st_nlink == 0
    fd = used.fd
    del used
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@needs_root
def test_two_users_share_a_directory() -> None:
    """Neither reads, removes or replaces what the other has; each removes its own."""
    code = """
from pathlib import Path
from fsspill.local_copy.directory import remove_unheld
root, session = sys.argv[2:]
remove_unheld(root)
directory = __import__("fsspill.local_copy.directory", fromlist=["x"]).CopyDirectory(
    root, session, "node")
os.close(directory.enter(make=True).create("0" * 32 + "-multi-1-4"))
directory.leave()
"""
    with public_directory() as root:
        run_as(NOT_ROOT, code, root, "first")
        run_as(OTHER, code, root, "second")
        assert sorted(os.listdir(root)) == ["first", "second"]
        run_as(NOT_ROOT, code, root, "third")
        assert sorted(os.listdir(root)) == ["second", "third"]


@needs_root
def test_a_directory_of_another_user_is_not_used() -> None:
    """One that is there before, with the names of this node."""
    with public_directory() as root:
        node = root / "session" / "node"
        node.mkdir(parents=True, mode=0o777)
        os.chown(node, OTHER, OTHER)
        with pytest.raises(PermissionError, match=f"of user {OTHER}"):
            make(root)
