"""State shared by all processes of a node and session."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from fsspill.placement import shared_state
from fsspill.placement.shared_state import SharedState, gettempdir
from tests.other_users import (
    NOT_ROOT,
    OTHER,
    fill,
    needs_root,
    public_directory,
    run_as,
    small_disk,
)
from tests.timeouts import IMPATIENT


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


def test_one_process_creates_a_record_and_one_removes_it() -> None:
    """Both are told which of them it was; the record has no content."""
    first, second = SharedState("session", "node"), SharedState("session", "node")
    assert not first.remove("kind", "key")
    assert first.create("kind", "key")
    assert not second.create("kind", "key")
    assert first.read("kind", "key") is None
    assert second.remove("kind", "key")
    assert not first.remove("kind", "key")


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
    assert not state.create("kind", "key")
    assert state.remove("kind", "key")
    assert not state.remove("kind", "key")
    assert state.read("kind", "key") is None
    assert state.create("kind", "key")


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


@contextmanager
def holding_process() -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that holds the lock, until it is killed."""
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
        yield holder


def test_one_process_at_a_time_holds_a_lock(directory: Path) -> None:
    """It ends with the process that holds it."""
    state = SharedState("session", "node")
    with holding_process() as holder:
        with state.lock("kind", "key", wait=False) as mine:
            assert not mine
        holder.kill()
        holder.wait()
    with state.lock("kind", "key", wait=False) as mine:
        assert mine


# A temporary directory that cannot be written


@contextmanager
def no_room(directory: Path) -> Iterator[None]:
    """Let no file of this process grow: a quota that is used up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def full(directory: Path) -> Iterator[None]:
    """Use up the bytes and the inodes of a disk."""
    fill(directory)
    inodes = directory / "inodes"
    inodes.mkdir()
    try:
        for number in range(16):
            (inodes / str(number)).touch()
    except OSError:
        pass
    yield
    for path in (*inodes.iterdir(), directory / "filler"):
        path.unlink()
    inodes.rmdir()


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "remount,ro", str(directory)], check=True)
    yield
    subprocess.run(["mount", "-o", "remount,rw", str(directory)], check=True)


@contextmanager
def gone(directory: Path) -> Iterator[None]:
    """Move the directory away while the process runs."""
    directory.rename(directory.with_name("gone"))
    yield
    directory.with_name("gone").rename(directory)


@contextmanager
def a_file(directory: Path) -> Iterator[None]:
    with gone(directory):
        directory.write_text("")
        yield
        directory.unlink()


def test_a_file_without_room_is_not_left(directory: Path) -> None:
    """Nothing could be changed in it, and nobody would remove it."""
    state = SharedState("session", "node")
    state.write("kind", "key", {})  # its directories
    before = sorted(directory.rglob("*"))
    with no_room(directory), pytest.raises(OSError, match="large"):
        state.open_file("kind", "other", create=True)
    assert sorted(directory.rglob("*")) == before


Fault = Callable[[Path], AbstractContextManager[None]]


UNWRITABLE = [no_room, full, read_only, gone, a_file]


@pytest.fixture
def fault(request: pytest.FixtureRequest, directory: Path) -> Iterator[Fault]:
    """Return a fault of the temporary directory, on a small disk if it needs one."""
    fault: Fault = request.param
    if fault not in (full, read_only):
        yield fault
        return
    with small_disk(directory):
        yield fault


def notices(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in caplog.messages if "cannot share state" in line]


def own_files(directory: Path) -> set[Path]:
    return {path for path in directory.glob("fsspill-*/**/*") if path.is_file()}


@pytest.mark.parametrize("fault", UNWRITABLE, indirect=True)
def test_the_own_record_counts_where_it_cannot_be_written(
    fault: Fault, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An old one in the directory does not win; no file is left, and one line is in the log."""
    state = SharedState("session", "node")
    state.write("kind", "key", {"a": 0})
    before = own_files(directory)
    with fault(directory):
        for number in range(1, 100):
            state.write("kind", "key", {"a": number})
            state.write("kind", "new", {"a": number})
            assert state.read("kind", "key") == {"a": number}
            assert state.read("kind", "new") == {"a": number}
        with state.lock("kind", "key", wait=True) as held:
            assert held
    left = own_files(directory) - before
    assert {path.suffix for path in left} <= {".lock"}
    assert len(notices(caplog)) == 1


@pytest.mark.parametrize("fault", UNWRITABLE, indirect=True)
def test_records_are_shared_again_once_they_can_be_written(fault: Fault, directory: Path) -> None:
    """The own record counts until any process has replaced the file that it should have."""
    state, other = SharedState("session", "node"), SharedState("session", "node")
    state.write("kind", "key", {"a": 0})
    with fault(directory):
        state.write("kind", "key", {"a": 1})
    assert state.read("kind", "key") == {"a": 1}
    other.write("kind", "key", {"a": 2})
    assert state.read("kind", "key") == {"a": 2}
    state.write("kind", "key", {"a": 3})
    assert other.read("kind", "key") == {"a": 3}


@pytest.mark.parametrize("fault", [read_only], indirect=True)
def test_a_record_that_cannot_be_removed_does_not_count(fault: Fault, directory: Path) -> None:
    """A URI that is healthy again is used again."""
    state = SharedState("session", "node")
    state.write("kind", "key", {"a": 0})
    with fault(directory):
        assert state.remove("kind", "key")
        assert not state.remove("kind", "key")
        assert not state.remove("kind", "missing")
        assert state.read("kind", "key") is None
        state.write("kind", "key", {"a": 1})
        assert state.read("kind", "key") == {"a": 1}


# A quota of bytes leaves room for a record without content.
@pytest.mark.parametrize("fault", UNWRITABLE[1:], indirect=True)
def test_a_record_that_cannot_be_shared_is_created_once(fault: Fault, directory: Path) -> None:
    """The process that created it also removes it once."""
    state = SharedState("session", "node")
    with fault(directory):
        assert state.create("kind", "key")
        assert not state.create("kind", "key")
        assert state.remove("kind", "key")
        assert not state.remove("kind", "key")
        assert state.create("kind", "key")


def test_a_directory_that_was_removed_is_made_again(directory: Path) -> None:
    """Somebody tidies up: what this process wrote counts until then."""
    state = SharedState("session", "node")
    state.write("kind", "key", {"a": 0})
    [node] = directory.glob("fsspill-*")
    node.rename(directory / "removed")
    assert state.read("kind", "key") == {"a": 0}
    state.write("kind", "other", {})
    assert SharedState("session", "node").read("kind", "other") == {}


def test_the_directory_is_the_same_when_it_is_full(
    monkeypatch: pytest.MonkeyPatch, directory: Path
) -> None:
    """Processes that start then share records with those that started before."""
    code = "from fsspill.placement.shared_state import gettempdir; print(gettempdir())"
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); "
    for program in (code, limited + code):
        found = subprocess.run(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True
        )
        assert found.stdout == f"{directory}\n"
    monkeypatch.setenv("TMPDIR", f"{directory}/missing")
    monkeypatch.setenv("TMP", str(directory))
    assert gettempdir() == str(directory)


# Other users


@pytest.mark.parametrize("level", ["", "session", "session/node"])
@pytest.mark.parametrize("planted", ["link", "open directory"])
def test_every_directory_is_checked(directory: Path, level: str, planted: str) -> None:
    """One that exists is no more trusted at the end of the path than at its beginning."""
    mine = directory / f"fsspill-{os.geteuid()}"
    elsewhere = directory / "elsewhere"
    (elsewhere / "session" / "node").mkdir(parents=True)
    place = mine / level
    for parent in reversed(place.parents):
        parent.mkdir(mode=0o700, exist_ok=True)
    if planted == "link":
        place.symlink_to(elsewhere / level)
    else:
        place.mkdir()
        place.chmod(0o755)
    for path in elsewhere.rglob("*"):
        path.chmod(0o700)
    state = SharedState("session", "node")
    state.write("kind", "key", {"a": 1})
    with state.lock("kind", "key", wait=False) as held:
        assert held
    assert SharedState("session", "node").read("kind", "key") is None
    state.discard()
    found = [path for path in directory.rglob("*") if not path.is_dir()]
    assert found in ([], [place])
    assert (elsewhere / "session" / "node").is_dir()


SQUAT = """
from pathlib import Path
node = Path(sys.argv[2]) / "session" / "node"
node.mkdir(parents=True)
(node / sys.argv[3]).symlink_to(sys.argv[4])
for path in (node, node.parent, node.parent.parent):
    path.chmod(0o777)
"""

USE = """
from fsspill.placement import shared_state
shared_state.gettempdir = lambda: sys.argv[2]
state = shared_state.SharedState("session", "node")
state.write("kind", "key", {"secret": 1})
with state.lock("kind", "key", wait=True) as held:
    print(held, state.read("kind", "key"))
state.discard()
"""


@needs_root
@pytest.mark.parametrize("user", [0, NOT_ROOT])
def test_another_user_receives_no_records(user: int) -> None:
    """He knows session and node from the list of processes, and makes the directories first."""
    with public_directory() as temporary:
        victim = temporary / "victim"
        lock = shared_state._name("kind", "key") + ".lock"
        squatted = temporary / f"fsspill-{user}"
        run_as(OTHER, SQUAT, squatted, lock, victim)
        assert run_as(user, USE, temporary) == "True {'secret': 1}\n"
        assert not victim.exists()
        assert [path.name for path in (squatted / "session/node").iterdir()] == [lock]


def test_a_link_in_place_of_a_lock_is_not_followed(directory: Path) -> None:
    """Nothing is made at its other end."""
    state = SharedState("session", "node")
    state.write("kind", "key", {})
    [node] = directory.glob("fsspill-*/session/node")
    (node / (shared_state._name("kind", "key") + ".lock")).symlink_to(directory / "victim")
    with state.lock("kind", "key", wait=True) as held:
        assert held
    assert not (directory / "victim").exists()


def test_records_are_private_whatever_the_umask(directory: Path) -> None:
    """Other users can neither read nor replace them."""
    before = os.umask(0)
    try:
        SharedState("session", "node").write("kind", "key", {})
    finally:
        os.umask(before)
    found = directory.glob("fsspill-*/**/*")
    assert {stat.S_IMODE(path.stat().st_mode) for path in found} == {0o700, 0o600}


def test_a_lock_that_is_never_released_is_waited_for_once(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is stopped holds it: calls go on without it, and wait again after a while."""
    monkeypatch.setattr(shared_state, "_LOCK_SECONDS", IMPATIENT)
    pauses: list[float] = []
    pause = time.sleep

    def record(seconds: float) -> None:
        pauses.append(seconds)
        pause(seconds)

    monkeypatch.setattr(time, "sleep", record)
    state = SharedState("session", "node")
    with holding_process() as holder:
        holder.send_signal(signal.SIGSTOP)
        with state.lock("kind", "key", wait=True) as held:
            assert not held
        assert pauses
        pauses.clear()
        with state.lock("kind", "key", wait=True) as held:
            assert not held
        assert not pauses
        holder.kill()
        holder.wait()
    with state.lock("kind", "key", wait=True) as held:
        assert held


def test_a_file_is_changed_in_place(directory: Path) -> None:
    """By all processes of the node; without `create` it has to be there."""
    state = SharedState("session", "node")
    with pytest.raises(FileNotFoundError):
        state.open_file("kind", "key", create=False)
    assert list(directory.iterdir()) == []
    made = state.open_file("kind", "key", create=True)
    found = SharedState("session", "node").open_file("kind", "key", create=False)
    os.pwrite(made, b"data", 0)
    assert os.pread(found, 4, 0) == b"data"
    assert stat.S_IMODE(os.fstat(found).st_mode) == 0o600
    os.close(made)
    os.close(found)
    state.discard()
    assert list(directory.iterdir()) == []
