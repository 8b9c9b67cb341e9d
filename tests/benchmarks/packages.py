"""Speed of fsspill with the packages of several Python environments, side by side.

``python -m tests.benchmarks.packages PYTHON [PYTHON ...]`` spills and restores alternately in a
process of each of them, on one S3 server, and prints a table. All of them import fsspill from this
directory; what differs is what is installed beside it. Speeds are relative to the first Python: the
median of the rounds' ratios, in which temporary load on this machine cancels out.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import ClassVar

from fsspill import ExternalStorage
from fsspill.bench.reused_store import OWNER_ADDRESS, ReusedStore, random_bytes
from fsspill.settings import MIB
from tests.benchmarks.answering_process import AnsweringProcess
from tests.benchmarks.link_server import LinkServer
from tests.benchmarks.table import aligned, shown_speed

__all__ = ["PackagesRow", "compare"]

_BUCKET = "benchmarks"
_SIZE = 20 * MIB
_COUNT = 10
_OPERATIONS = ("spill", "restore")


@dataclass(frozen=True)
class PackagesRow:
    """One operation with the packages of one Python: medians of the rounds.

    Attributes
    ----------
    ratio : float
        Speed relative to the first Python.
    cpu_ratio : float
        CPU time of the first Python relative to this one.
    """

    headings: ClassVar[Sequence[str]] = (
        "python", "", "MiB/s", "x the first", "CPU s/GiB", "x the first",
    )  # fmt: skip

    python: str
    operation: str
    mib_per_second: float
    ratio: float
    cpu_seconds_per_gib: float
    cpu_ratio: float

    @property
    def cells(self) -> tuple[str, ...]:
        """Cells of the row."""
        return (
            self.python,
            self.operation,
            shown_speed(self.mib_per_second),
            f"{self.ratio:.2f}",
            f"{self.cpu_seconds_per_gib:.2f}",
            f"{self.cpu_ratio:.2f}",
        )


class _Process(AnsweringProcess):
    """A process of a Python that spills and restores once for each line that it is sent."""

    def __init__(self, python: str, server: LinkServer, count: int) -> None:
        super().__init__(
            "tests.benchmarks.packages",
            *("--count", str(count), "--serve", server.endpoint_url),
            environment=server.environment,
            python=python,
        )

    def sample(self) -> dict[str, tuple[float, float]]:
        """Return wall and CPU seconds of each operation of one round."""
        found: dict[str, tuple[float, float]] = self.ask()
        return found


def compare(
    pythons: Sequence[str], rounds: int, latency: float, bandwidth: float, count: int = _COUNT
) -> Iterator[PackagesRow]:
    """Measure objects of 20 MiB with each Python alternately.

    Parameters
    ----------
    pythons : sequence of str
        Paths of interpreters; speeds are relative to the first.
    rounds : int
        Number of times that each of them spills and restores, after one that is not counted.
    latency, bandwidth : float
        Latency of the link in seconds, bandwidth in bytes per second; 0 for none and unlimited.
    count : int
        Number of objects.
    """
    with LinkServer(0, None) as server, ExitStack() as stack:
        server.create_bucket(_BUCKET)
        made = [stack.enter_context(_Process(python, server, count)) for python in pythons]
        for process in made:
            process.sample()
        server.set_link(latency, bandwidth)
        samples = [[process.sample() for process in made] for _ in range(rounds)]
    for operation in _OPERATIONS:
        for index, python in enumerate(pythons):
            walls, cpus, ratios, cpu_ratios = zip(
                *(_of_round(one[index][operation], one[0][operation]) for one in samples),
                strict=True,
            )
            nbytes = count * _SIZE
            speed = nbytes / MIB / median(walls)
            cpu = median(cpus) * 2**30 / nbytes
            yield PackagesRow(python, operation, speed, median(ratios), cpu, median(cpu_ratios))


def _of_round(
    own: tuple[float, float], first: tuple[float, float]
) -> tuple[float, float, float, float]:
    return *own, first[0] / own[0], first[1] / own[1]


def _serve(endpoint_url: str, count: int) -> None:
    """Spill, restore and delete once for each line of the standard input; print the seconds."""
    store = ReusedStore(random_bytes(count * _SIZE))
    refs = store.fill(count, _SIZE)
    options = {"endpoint_url": endpoint_url}
    storage = ExternalStorage(f"s3://{_BUCKET}", storage_options=options, object_store=store)
    owners = [OWNER_ADDRESS] * count
    for _ in sys.stdin:
        start = _now()
        urls = storage.spill_objects(refs, owners)
        spilled = _now()
        for ref, url in zip(refs, urls, strict=True):
            storage.restore_spilled_objects([ref], [url])
        restored = _now()
        storage.delete_spilled_objects(urls)
        times = {"spill": _between(start, spilled), "restore": _between(spilled, restored)}
        sys.stdout.write(json.dumps(times) + "\n")
        sys.stdout.flush()


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _between(start: tuple[float, float], end: tuple[float, float]) -> tuple[float, float]:
    return end[0] - start[0], end[1] - start[1]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.packages")
    add = parser.add_argument
    add("pythons", nargs="*", default=[sys.executable], help="interpreters (default: this one)")
    add("--rounds", type=int, default=9, help="rounds of each (default: 9)")
    add("--count", type=int, default=_COUNT, help="objects of 20 MiB in a round (default: 10)")
    add("--latency", type=float, default=0, help="milliseconds per request (default: 0)")
    add("--bandwidth", type=float, default=0, help="MB/s per connection (default: unlimited)")
    add("--serve", metavar="ENDPOINT", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.serve:
        _serve(arguments.serve, arguments.count)
        return
    link = (arguments.latency / 1000, arguments.bandwidth * 1e6)
    rows = list(compare(arguments.pythons, arguments.rounds, *link, arguments.count))
    print(aligned([PackagesRow.headings, *(row.cells for row in rows)]))  # noqa: T201


if __name__ == "__main__":
    main()
