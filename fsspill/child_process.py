"""Functions that run in a child process of Python.

A child imports what its parent could import, because it gets the parent's ``sys.path``. Path,
function and arguments are in a file without a name that only the child has: a command line would
show secrets in the arguments to every user of the machine.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import IO

__all__ = ["is_interpreter_exiting", "run_in_child", "start_in_child", "wait_for_children"]

_started: list[subprocess.Popen[bytes]] = []
"""The children of this process that may outlive it."""

# The program is this file. As a module (-m) it would import the whole package before the child has
# the path on which to find it; without -I the directory of this file would be on that path, where
# the name of a module such as secrets hides that of the standard library.
_COMMAND = (sys.executable, "-I", os.path.abspath(__file__))


def run_in_child(function: Callable[[], object], *, timeout: float) -> None:
    """Call a function in a child process, and wait for its end.

    Works while Python exits, where no thread can be started (`is_interpreter_exiting`).

    Parameters
    ----------
    function : callable
        A function of a module, or a `functools.partial` of one, that can be pickled.
    timeout : float
        Seconds after which the child is killed.

    Raises
    ------
    subprocess.SubprocessError
        The function raised, in which case the child has printed the traceback, or it took too
        long.
    """
    with _message(function) as message:
        subprocess.run(_COMMAND, stdin=message, timeout=timeout, check=True)


def start_in_child(
    function: Callable[[], object], *, output: IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """Call a function in a child process that may outlive this one.

    Parameters
    ----------
    function : callable
        As for `run_in_child`.
    output : file, optional
        Receives standard output and standard error of the child; this process's own if not given.
    """
    with _message(function) as message:
        child = subprocess.Popen(
            _COMMAND, stdin=message, stdout=output, stderr=output, start_new_session=True
        )
    _started[:] = [*(each for each in _started if each.poll() is None), child]
    return child


def wait_for_children(seconds: float) -> None:
    """Wait until the children that `start_in_child` has started have ended, up to a time limit."""
    end = time.monotonic() + seconds
    for child in _started:
        with suppress(subprocess.TimeoutExpired):
            child.wait(max(0.0, end - time.monotonic()))


def _message(function: Callable[[], object]) -> IO[bytes]:
    """Return a file with all that the child needs, also if this process is killed meanwhile."""
    file = _anonymous_file()
    # Pickled separately: the child needs the path to import what the function is made of.
    pickle.dump(sys.path, file)
    pickle.dump(function, file)
    file.seek(0)
    return file


def _anonymous_file() -> IO[bytes]:
    """Open a file that no other process can: in memory where Python and the system can do that.

    A Python that was built for an old glibc has no such call, and a sandbox may refuse it.
    """
    in_memory = getattr(os, "memfd_create", None)
    try:
        return open(in_memory("fsspill"), "w+b") if in_memory else tempfile.TemporaryFile()
    except OSError:
        return tempfile.TemporaryFile()


def is_interpreter_exiting() -> bool:
    """Return True if Python has begun to exit and starts no more threads.

    Ray destroys external storage from `atexit` when a driver never calls ``ray.shutdown()``.
    fsspec's filesystems resolve names and read files on threads, and fail there ("cannot schedule
    new futures after shutdown").
    """
    executor = ThreadPoolExecutor(1)
    try:
        executor.submit(int)
    except RuntimeError:
        return True
    finally:
        executor.shutdown()
    return False


def _main() -> None:
    """Take over the parent's ``sys.path``, then load the function and call it."""
    sys.path[:] = pickle.load(sys.stdin.buffer)
    pickle.load(sys.stdin.buffer)()


if __name__ == "__main__":
    _main()
