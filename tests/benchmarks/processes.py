"""Throughput of several IO workers on one link, and the cores that a fast network takes.

``python -m tests.benchmarks.processes`` prints both tables. A link of few bytes per second and
connection keeps the cores of this machine idle, so that the first shows how workers add up; the
second is computed from CPU time without a link.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from fsspill.bench.measure import GIB, Batch
from fsspill.settings import MIB
from tests.benchmarks.link_server import LinkServer
from tests.benchmarks.movers import BUCKET, FSSPILL_KEEPS
from tests.benchmarks.peers import OPERATIONS, MoverProcess, compare, write_files
from tests.benchmarks.table import aligned, shown_size, shown_speed

__all__ = ["CoresRow", "ProcessesRow", "measure_cores", "measure_processes"]

NETWORKS = (10, 25, 100)
"""Gbit/s of a node."""


@dataclass(frozen=True)
class ProcessesRow:
    """Several processes that do the same at the same time, each with objects of its own.

    Attributes
    ----------
    mib_per_second : float
        Speed of all of them together.
    ratio : float
        The same, relative to the first row of the operation.
    connections : float
        Connections that were busy on average: all that the bandwidth of the link leaves.
    """

    headings: ClassVar[Sequence[str]] = (
        "objects of each", "", "processes", "MiB/s", "x the first", "connections", "CPU s/GiB"
    )  # fmt: skip

    batch: Batch
    operation: str
    processes: int
    mib_per_second: float
    ratio: float
    connections: float
    cpu_seconds_per_gib: float

    @property
    def cells(self) -> tuple[str, ...]:
        """Cells of the row."""
        return (
            f"{self.batch.count:,} x {shown_size(self.batch.size)}",
            self.operation,
            str(self.processes),
            shown_speed(self.mib_per_second),
            f"{self.ratio:.2f}",
            f"{self.connections:.0f}",
            f"{self.cpu_seconds_per_gib:.2f}",
        )


def measure_processes(
    batch: Batch, counts: Sequence[int], latency: float, bandwidth: float
) -> Iterator[ProcessesRow]:
    """Spill and restore one batch in each of several processes at the same time.

    Parameters
    ----------
    batch : Batch
        Objects of each process.
    counts : sequence of int
        Numbers of processes.
    latency, bandwidth : float
        Latency of the link in seconds, bandwidth of a connection in bytes per second.
    """
    with LinkServer(0, None) as server, ExitStack() as stack:
        server.create_bucket(BUCKET)
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_files(directory / "source", batch)
        opened = (MoverProcess(FSSPILL_KEEPS, directory, server) for _ in range(max(counts)))
        processes = [stack.enter_context(process) for process in opened]
        _move_all(processes)
        server.set_link(latency, bandwidth)
        first: dict[str, float] = {}
        for count in counts:
            for operation, seconds, cpu_seconds in _move_all(processes[:count]):
                nbytes = count * batch.nbytes
                speed = nbytes / seconds
                yield ProcessesRow(
                    batch,
                    operation,
                    count,
                    speed / MIB,
                    speed / first.setdefault(operation, speed),
                    speed / bandwidth,
                    cpu_seconds * GIB / nbytes,
                )
            server.reset()


def _move_all(processes: Sequence[MoverProcess]) -> list[tuple[str, float, float]]:
    """Return the seconds until the last process was ready, and their CPU seconds, by operation."""
    found = []
    with ThreadPoolExecutor(len(processes)) as threads:
        for operation in OPERATIONS:
            samples = list(threads.map(partial(MoverProcess.do, operation=operation), processes))
            seconds = max(sample.seconds for sample in samples)
            found.append((operation, seconds, sum(sample.cpu_seconds for sample in samples)))
    return found


@dataclass(frozen=True)
class CoresRow:
    """The cores that one direction of a network takes, on paper."""

    headings: ClassVar[Sequence[str]] = (
        "", "CPU s/GiB", *(f"{network} Gbit/s" for network in NETWORKS)
    )  # fmt: skip

    operation: str
    cpu_seconds_per_gib: float

    def cores(self, gbits: float) -> float:
        """Return the cores for so many Gbit/s, all of which are bytes of objects."""
        return self.cpu_seconds_per_gib * gbits * 1e9 / 8 / GIB

    @property
    def cells(self) -> tuple[str, ...]:
        """Cells of the row."""
        cores = (f"{self.cores(network):.1f}" for network in NETWORKS)
        return (self.operation, f"{self.cpu_seconds_per_gib:.2f}", *cores)


def measure_cores(batch: Batch, rounds: int) -> Iterator[CoresRow]:
    """Measure the CPU time of fsspill over http and https, without a link."""
    for scheme in ("http", "https"):
        with LinkServer(0, None, tls=scheme == "https") as server:
            server.create_bucket(BUCKET)
            for row in compare(batch, [FSSPILL_KEEPS], rounds, server, (0, 0)):
                yield CoresRow(f"{row.operation}, {scheme}", row.cpu_seconds_per_gib)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print both tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.processes")
    add = parser.add_argument
    add("--processes", type=int, nargs="+", default=[1, 2, 4, 8], help="default: 1 2 4 8")
    add("--latency", type=float, default=30, help="milliseconds per request (default: 30)")
    add("--bandwidth", type=float, default=1, help="MB/s per connection (default: 1)")
    add("--rounds", type=int, default=9, help="rounds of the second table (default: 9)")
    arguments = parser.parse_args(argv)
    link = (arguments.latency / 1e3, arguments.bandwidth * 1e6)
    rows = [
        row
        for batch in (Batch(1, 100 * MIB), Batch(5, 20 * MIB))
        for row in measure_processes(batch, arguments.processes, *link)
    ]
    print(aligned([ProcessesRow.headings, *(row.cells for row in rows)]), flush=True)  # noqa: T201
    cores = list(measure_cores(Batch(10, 20 * MIB), arguments.rounds))
    print("\n" + aligned([CoresRow.headings, *(row.cells for row in cores)]))  # noqa: T201


if __name__ == "__main__":
    main()
