"""Promtool and Prometheus of Debian, unpacked where they are not installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["find_prometheus"]


def find_prometheus(directory: Path) -> Path:
    """Return the folder with the programs; without them they are downloaded, 19 MB."""
    installed = shutil.which("promtool")
    if installed:
        return Path(installed).parent
    apt = shutil.which("apt-get") or pytest.skip("promtool is installed from Debian's package")
    download = [apt, "download", "prometheus"]
    if subprocess.run(download, cwd=directory, capture_output=True, check=False).returncode:
        # A fresh machine has no list of packages.
        subprocess.run([apt, "update"], capture_output=True, check=True)
        subprocess.run(download, cwd=directory, capture_output=True, check=True)
    [package] = directory.glob("prometheus_*.deb")
    subprocess.run(["dpkg-deb", "-x", str(package), str(directory)], check=True)
    return directory / "usr" / "bin"
