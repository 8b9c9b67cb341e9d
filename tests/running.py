"""Run programs in processes of their own, and clean up after them."""

from __future__ import annotations

import fcntl
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import IO

PROGRAMS = Path(__file__).parent / "clusters" / "programs"
_INTERRUPTIBLE = """
import signal, sys
from fsspill.cli.main import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main(sys.argv[1:]))
"""
INTERRUPTIBLE = (sys.executable, "-c", _INTERRUPTIBLE)
"""The command ``fsspill``, also where SIGINT is ignored, as by what runs in the background."""

RAYS_IO_WORKERS = 4
PATIENCE = 240.0
"""Seconds to wait for what should take a few: machines that run tests are shared."""


@contextmanager
def ray_environment(
    extra: Mapping[str, str] | None = None, *, io_workers: int = 2
) -> Iterator[dict[str, str]]:
    """Yield an environment in which Ray has a directory of its own, and end what started there.

    A node starts up to `io_workers` processes that spill and as many that restore. Ray's default of
    4, `RAYS_IO_WORKERS`, would take most of the CPU time of a test.
    """
    # Short, because Ray puts sockets there, whose paths may have 107 characters.
    directory = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    environment = {name: v for name, v in os.environ.items() if not name.startswith("RAY_")}
    # With token authentication, Ray would write a token into the user's home directory.
    environment |= {
        "RAY_TMPDIR": directory,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
        # Ray would kill workers because other programs of this machine need memory.
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_max_io_workers": str(io_workers),
        **(extra or {}),
    }
    try:
        yield environment
    finally:
        poll(lambda: not kill_processes(directory), "Ray's processes to end")
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def one_of_few(directory: Path, count: int) -> Iterator[None]:
    """Wait until fewer than so many other blocks of any process are in this context."""
    with ExitStack() as files:
        places = [files.enter_context((directory / f"place-{n}").open("w")) for n in range(count)]
        while not any(map(_try_lock, places)):
            time.sleep(0.2)
        yield


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def kill_processes(directory: str) -> list[int]:
    """Kill the processes that have `directory` as RAY_TMPDIR, and return their ids."""
    pids = processes(directory)
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return pids


def processes(directory: str) -> list[int]:
    """Return the ids of the processes that have `directory` as RAY_TMPDIR."""
    wanted = f"RAY_TMPDIR={directory}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                variables = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue  # ended, or of another user
            if wanted in variables:
                found.append(int(entry.name))
    return found


def poll(condition: Callable[[], object], what: str) -> None:
    """Wait until `condition` holds."""
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up, f"waited {PATIENCE} s for {what}"
        time.sleep(0.1)


class BegunThreads:
    """The live threads of a name that began after this was made.

    Those of earlier tests do not count: what a test dropped may still be referenced somewhere.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._earlier = set(threading.enumerate())

    def __call__(self) -> list[threading.Thread]:
        begun = set(threading.enumerate()) - self._earlier
        return [thread for thread in begun if thread.name == self._name]


class Program(AbstractContextManager["Program"]):
    """A Python program in a process of its own, line by line. A context manager.

    Parameters
    ----------
    arguments : str
        What follows ``python``; the first may be a file of `PROGRAMS`.
    environment : mapping
        Its environment.
    python : str
        The Python that runs it.
    """

    def __init__(
        self, *arguments: str, environment: Mapping[str, str], python: str = sys.executable
    ) -> None:
        first = PROGRAMS / arguments[0]
        command = [str(first) if first.exists() else arguments[0], *arguments[1:]]
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._printed: list[str] = []
        self._process = subprocess.Popen(
            [python, *command],
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",  # so that nothing is imported from the working tree
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def expect(self, text: str) -> str:
        """Wait for a line that contains `text`, and return it."""
        while (line := self._next()) is not None:
            if text in line:
                return line
        raise AssertionError(f"ended without printing {text!r}:\n{self._so_far()}")

    def _next(self) -> str | None:
        try:
            line = self._lines.get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError(
                f"silent for {PATIENCE} s, having printed:\n{self._so_far()}"
            ) from None
        self._printed.append(line or "")
        return line

    def _so_far(self) -> str:
        return "\n".join(self._printed)

    def tell(self, line: str = "") -> None:
        """Send a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def output(self) -> str:
        """Close its standard input, wait for its end, which must be a success, and return all."""
        code = self.status()
        assert code == 0, f"exit code {code}:\n{self._so_far()}"
        return self._so_far()

    def status(self) -> int:
        """Close its standard input, wait for its end, and return its exit status."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        while self._next() is not None:
            pass
        return self._process.wait(timeout=PATIENCE)

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._reader.join()
        self._process.stdout.close()
