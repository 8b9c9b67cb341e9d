"""Functions that run in a child process."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import fsspec
import pytest

from fsspill.child_process import (
    is_interpreter_exiting,
    run_in_child,
    start_in_child,
    wait_for_children,
)
from tests.running import PATIENCE, PROGRAMS, poll


def write(path: str, text: str) -> None:
    Path(path).write_text(f"{text} {os.getpid()}")


def fail() -> None:
    raise ValueError("this function fails")


def sleep_forever() -> None:
    while True:
        time.sleep(1)


def write_command_line(path: str, secret: str) -> None:
    assert secret == "hunter2"
    Path(path).write_bytes(Path("/proc/self/cmdline").read_bytes())


def test_a_function_runs_in_another_process(tmp_path: Path) -> None:
    """With its arguments, and it has ended when the call returns."""
    path = tmp_path / "file"
    run_in_child(partial(write, str(path), "done by"), timeout=PATIENCE)
    text, _, pid = path.read_text().rpartition(" ")
    assert text == "done by"
    assert int(pid) != os.getpid()


def not_implemented(name: str) -> int:
    raise OSError(errno.ENOSYS, "Function not implemented")


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="the case under test, by itself")
@pytest.mark.parametrize("call", [None, not_implemented], ids=["not built in", "refused"])
def test_a_system_without_files_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: object
) -> None:
    """A Python that was built for an old glibc, or a sandbox: a file on disk does instead."""
    if call is None:
        monkeypatch.delattr(os, "memfd_create")
    else:
        monkeypatch.setattr(os, "memfd_create", call)
    path = tmp_path / "file"
    run_in_child(partial(write, str(path), "done by"), timeout=PATIENCE)
    assert path.read_text().startswith("done by")


def test_a_function_that_raises_is_reported(capfd: pytest.CaptureFixture[str]) -> None:
    """As an error of the call; the traceback is on the error output."""
    with pytest.raises(subprocess.SubprocessError):
        run_in_child(fail, timeout=PATIENCE)
    assert "ValueError: this function fails" in capfd.readouterr().err


def test_a_function_that_takes_too_long_is_killed() -> None:
    """The call raises after the timeout."""
    with pytest.raises(subprocess.TimeoutExpired):
        run_in_child(sleep_forever, timeout=0.1)


def test_a_child_imports_what_its_parent_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module on a path that was added at run time, whatever the working directory holds."""
    (tmp_path / "only_here.py").write_text("def work(path): open(path, 'w').close()")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("pickle.py", "fsspill.py"):
        (elsewhere / name).write_text("raise AssertionError('imported from the working directory')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(elsewhere)
    only_here = __import__("only_here")
    run_in_child(partial(only_here.work, str(tmp_path / "file")), timeout=PATIENCE)
    assert (tmp_path / "file").exists()


def test_a_child_that_is_killed_at_once_is_a_child_that_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before it has read its function: the parent gets the process and no error, as later on."""
    monkeypatch.setattr("fsspill.child_process._COMMAND", (sys.executable, "-c", "exit(1)"))
    more_than_a_pipe_holds = "x" * 2**20
    process = start_in_child(partial(write, "/nowhere", more_than_a_pipe_holds))
    assert process.wait(timeout=PATIENCE) == 1


def test_a_child_whose_parent_is_killed_at_once_calls_its_function(tmp_path: Path) -> None:
    """It has the function from the first moment on: none is left in doubt by a kill between."""
    path = tmp_path / "file"
    program = (
        "import os, subprocess, sys\n"
        "from functools import partial\n"
        "from fsspill.child_process import start_in_child\n"
        "from tests.test_child_process import write\n"
        "class Killed(subprocess.Popen):\n"
        "    def __init__(self, *args, **kwargs):\n"
        "        super().__init__(*args, **kwargs)\n"
        "        os.kill(os.getpid(), 9)\n"
        "subprocess.Popen = Killed\n"
        "start_in_child(partial(write, sys.argv[1], 'x' * 2**20))\n"
    )
    parent = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert parent.returncode == -signal.SIGKILL
    poll(lambda: path.exists() and path.stat().st_size > 2**20, "the file to be written")


@pytest.mark.parametrize("safe", ["", "1"])
def test_arguments_are_not_on_the_command_line(
    safe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command line would show them to every user of the machine."""
    monkeypatch.setenv("PYTHONSAFEPATH", safe)
    path = tmp_path / "file"
    run_in_child(partial(write_command_line, str(path), "hunter2"), timeout=PATIENCE)
    assert b"python" in path.read_bytes()
    assert b"hunter2" not in path.read_bytes()


def test_children_are_waited_for(tmp_path: Path) -> None:
    """Until they have ended; one that does not is left alone after a time limit."""
    forever = start_in_child(sleep_forever)
    try:
        path = tmp_path / "file"
        child = start_in_child(partial(write, str(path), "done by"))
        wait_for_children(0.0)
        assert forever.poll() is None
        poll(lambda: child.poll() is not None, "the child to end")
        wait_for_children(0.1)
        assert path.exists()
        assert forever.returncode is None
    finally:
        forever.kill()
    wait_for_children(PATIENCE)
    assert forever.returncode == -signal.SIGKILL


def test_a_child_that_is_started_runs_on(tmp_path: Path) -> None:
    """The call returns before its end; its output goes to the file, and it has a session."""
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = start_in_child(fail, output=output)
    assert process.wait(timeout=PATIENCE) == 1
    assert "ValueError: this function fails" in log.read_text()
    with log.open("wb") as output:
        process = start_in_child(sleep_forever, output=output)
    try:
        assert os.getsid(process.pid) == process.pid
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_an_interpreter_that_runs_is_not_exiting() -> None:
    """Threads can be started."""
    assert not is_interpreter_exiting()


def test_remote_storage_is_destroyed_while_python_exits(s3_bucket: str) -> None:
    """From atexit, where the filesystem itself would fail because it can start no thread."""
    program = [sys.executable, str(PROGRAMS / "destroy_at_exit.py"), f"s3://{s3_bucket}/x"]
    ended = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "1\n", "")
    fs = fsspec.filesystem("s3")
    fs.invalidate_cache()
    assert fs.find(s3_bucket) == []
