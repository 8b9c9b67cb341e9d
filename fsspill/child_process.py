"""Destroying external storage while Python exits, where it starts no more threads.

Ray destroys from `atexit` when a driver never calls ``ray.shutdown()``. fsspec's filesystems look
up names and read files on threads, and fail there ("cannot schedule new futures after shutdown"),
so the work goes to a Python process that is not exiting.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

__all__ = ["destroy_in_child", "interpreter_exits"]

TIMEOUT = 60
"""Seconds: the limit that `destroy` has by itself, and the start of a process."""

_CHILD = """
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
from fsspill.external_storage import ExternalStorage
ExternalStorage(**pickle.load(sys.stdin.buffer)).destroy_external_storage()
"""


def interpreter_exits() -> bool:
    """Whether Python has begun to exit and starts no more threads."""
    executor = ThreadPoolExecutor(1)
    try:
        executor.submit(int)
    except RuntimeError:
        return True
    finally:
        executor.shutdown()
    return False


def destroy_in_child(arguments: Mapping[str, Any]) -> None:
    """Destroy the external storage that `arguments` make, in a process of its own.

    Parameters
    ----------
    arguments : mapping
        Those of `ExternalStorage`. They go through a pipe: a command line would show them.

    Raises
    ------
    subprocess.SubprocessError
        The process failed or took longer than `TIMEOUT` seconds, and was killed.
    """
    subprocess.run(
        [sys.executable, "-c", _CHILD],
        input=pickle.dumps(sys.path) + pickle.dumps(dict(arguments)),
        timeout=TIMEOUT,
        check=True,
    )
