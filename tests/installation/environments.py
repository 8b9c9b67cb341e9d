"""Environments in which fsspill is installed as users do: by a pip of some age, or by uv."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

__all__ = ["IMAGE", "IMAGE_PIP", "PIPS", "Environment", "build_wheel", "find_pip"]

ROOT = Path(__file__).parents[2]
IMAGE = Path(__file__).parent / "images" / "ray-py311.txt"
IMAGE_PIP = "24.3.1"

PIPS = ("22.3", "23.2.1", "24.0", IMAGE_PIP, "25.0", "newest")
"""The first of Python 3.11, those that came with 3.11 to 3.13, and what is in an image of Ray."""


class Environment:
    """A virtual environment.

    Parameters
    ----------
    directory : Path
        Where to make it.
    pip : str
        Version of its pip, or "newest".
    """

    def __init__(self, directory: Path, pip: str = "newest") -> None:
        venv.create(directory, with_pip=False, symlinks=True)
        self.python = str(directory / "bin" / "python")
        self._pip = str(find_pip(pip, directory))

    def pip(self, *arguments: str, seconds: float | None = None) -> str:
        """Run its pip, and return what it printed to both outputs.

        Raises
        ------
        subprocess.CalledProcessError
            pip failed; the output is in it.
        subprocess.TimeoutExpired
            It took longer than so many seconds.
        """
        return run(self.python, f"{self._pip}/pip", *arguments, seconds=seconds)

    def freeze(self) -> set[str]:
        """Return the packages that it has, without fsspill, as pip's requirements."""
        lines = self.pip("freeze").splitlines()
        return {line for line in lines if "==" in line and not line.startswith("fsspill")}


def run(*command: str, seconds: float | None = None) -> str:
    """Run a command, and return what it printed to both outputs."""
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        cwd="/",
    )
    if done.returncode:
        print(done.stdout)  # pytest shows it
        done.check_returncode()
    return done.stdout


def find_pip(version: str, directory: Path) -> Path:
    """Return the wheel of a version of pip, which runs without being installed."""
    pips = directory / "pips" / version
    wanted = "pip" if version == "newest" else f"pip=={version}"
    run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(pips), wanted)
    return next(pips.glob("pip-*.whl"))


def build_wheel(directory: Path) -> Path:
    """Return a wheel of the working tree."""
    arguments: Sequence[str] = ("wheel", "--quiet", "--no-deps", "-w", str(directory), str(ROOT))
    run(sys.executable, "-m", "pip", *arguments)
    return next(directory.glob("fsspill-*.whl"))
