"""Environments in which fsspill is installed as users do: by a pip of some age, or by uv."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import venv
from collections.abc import Sequence
from functools import partial
from pathlib import Path

__all__ = [
    "IMAGE",
    "IMAGE_PIP",
    "PIPS",
    "CommandError",
    "Environment",
    "build_wheel",
    "find_pip",
    "run",
]

ROOT = Path(__file__).parents[2]
IMAGE = Path(__file__).parent / "images" / "ray-py311.txt"
IMAGE_PIP = "24.3.1"

PIPS = ("22.3", "23.2.1", "24.0", IMAGE_PIP, "25.0", "newest")
"""The first of Python 3.11, those that came with 3.11 to 3.13, and what is in an image of Ray."""


class CommandError(Exception):
    """A command that failed, with what it printed to both outputs."""

    def __init__(self, command: Sequence[str], status: int, output: str) -> None:
        super().__init__(f"{' '.join(command)} ended with status {status}:\n{output[-5000:]}")
        self.is_out_of_time = status == -signal.SIGXCPU
        self.output = output


class Environment:
    """A virtual environment, empty at first.

    Parameters
    ----------
    directory : Path
        Where to make it.
    installer : str
        Version of its pip, "newest", or "uv".
    """

    def __init__(self, directory: Path, installer: str = "newest") -> None:
        venv.create(directory, with_pip=False, symlinks=True)
        self.directory = directory
        self.python = str(directory / "bin" / "python")
        self._install: tuple[str, ...]
        if installer == "uv":
            self._install = (sys.executable, "-m", "uv", "pip", "install", "--python", self.python)
        else:
            pip = f"{find_pip(installer, directory)}/pip"
            options = ("--ignore-installed", "--disable-pip-version-check")
            self._install = (self.python, pip, "install", *options)

    def install(self, *arguments: str, cpu_seconds: int | None = None) -> str:
        """Install packages, and return what was printed to both outputs.

        Raises
        ------
        CommandError
            It failed, or has taken so many seconds of CPU time. Other programs on the machine make
            them up to three times as many (measured).
        """
        return run(*self._install, *arguments, cpu_seconds=cpu_seconds)

    def freeze(self) -> set[str]:
        """Return the packages that it has, without fsspill, as pip's requirements."""
        uv = (sys.executable, "-m", "uv", "pip", "freeze", "--python", self.python)
        lines = run(*uv).splitlines()
        return {line for line in lines if "==" in line and not line.startswith("fsspill")}


def run(*command: str, cpu_seconds: int | None = None) -> str:
    """Run a command, and return what it printed to both outputs.

    Raises
    ------
    CommandError
        It failed, or has taken so many seconds of CPU time.
    """
    limit = (cpu_seconds or resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",
        preexec_fn=partial(resource.setrlimit, resource.RLIMIT_CPU, limit),
    )
    if done.returncode:
        raise CommandError(command, done.returncode, done.stdout)
    return done.stdout


def find_pip(version: str, directory: Path) -> Path:
    """Return the wheel of a version of pip, which runs without being installed."""
    pips = directory / "pips" / version
    wanted = "pip" if version == "newest" else f"pip=={version}"
    run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(pips), wanted)
    return next(pips.glob("pip-*.whl"))


def build_wheel(directory: Path) -> Path:
    """Return a wheel of the working tree."""
    run(sys.executable, "-m", "uv", "build", "--quiet", "--wheel", "-o", str(directory), str(ROOT))
    return next(directory.glob("fsspill-*.whl"))
