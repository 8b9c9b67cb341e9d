"""Debian's Prometheus and promtool, and the history of a cluster in a real Prometheus."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.emulators import free_port, server
from tests.running import poll

__all__ = ["Prometheus", "find_programs", "prometheus"]


def find_programs(directory: Path) -> Path:
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


class Prometheus:
    """A Prometheus that answers.

    Parameters
    ----------
    url : str
        Its URL.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def query(self, expression: str, time: float) -> list[dict[str, Any]]:
        """Return the series of an expression at a time, each with its labels and value."""
        return self._ask("query", query=expression, time=time)

    def query_range(
        self, expression: str, start: float, end: float, step: float
    ) -> list[dict[str, Any]]:
        """Return the series of an expression over a time, each with its labels and values."""
        return self._ask("query_range", query=expression, start=start, end=end, step=step)

    def _ask(self, path: str, **parameters: object) -> list[dict[str, Any]]:
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found


@contextmanager
def prometheus(programs: Path, directory: Path, history: Iterable[str]) -> Iterator[Prometheus]:
    """Run a Prometheus that has a history, and asks nobody.

    Parameters
    ----------
    programs : Path
        Folder of the programs.
    directory : Path
        An empty one, for its data.
    history : iterable of str
        Lines with times, each time later than the one before.
    """
    text, configuration = directory / "history.txt", directory / "prometheus.yml"
    text.write_text("".join(history) + "# EOF\n")
    configuration.write_text("global: {}\n")
    arguments = ["tsdb", "create-blocks-from", "openmetrics", str(text), str(directory / "data")]
    subprocess.run([str(programs / "promtool"), *arguments], check=True, capture_output=True)
    port = free_port()
    command = [str(programs / "prometheus"), f"--config.file={configuration}", "--log.level=error"]
    command += [
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with server(command, port):
        found = Prometheus(f"http://127.0.0.1:{port}")
        poll(lambda: _is_ready(port), "Prometheus to be ready")
        yield found


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready") as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
