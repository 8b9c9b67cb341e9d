"""A child process that answers each line that it is sent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["AnsweringProcess"]

P = TypeVar("P", bound="AnsweringProcess")

_ROOT = Path(__file__).parents[2]


class AnsweringProcess:
    """A module of the benchmarks that runs in a process of its own. A context manager.

    Parameters
    ----------
    module : str
        Its full name.
    *arguments : str
        Its arguments.
    environment : mapping
        Variables that differ from those of this process.
    python : str
        The Python that runs it; the modules of the benchmarks are on its path.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        environment: Mapping[str, str],
        python: str = sys.executable,
    ) -> None:
        self._process = subprocess.Popen(
            [python, "-m", module, *arguments],
            cwd=_ROOT,
            env={**os.environ, **environment, "PYTHONPATH": str(_ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self: P) -> P:
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def ask(self, line: str = "") -> Any:
        """Send a line, and return the answer, which is JSON; RuntimeError if the process ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # nothing is read either
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the process ended: its output above names the cause")
        return json.loads(answer)
