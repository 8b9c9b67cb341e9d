"""Comparison of fsspill with its alternatives: ``python -m tests.benchmarks --help``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from itertools import chain
from pathlib import Path

from fsspill.ray.malloc import raise_trim_threshold
from fsspill.settings import MIB
from tests.benchmarks.chart import draw
from tests.benchmarks.cluster import Cluster
from tests.benchmarks.measure import Row
from tests.benchmarks.memory import measure_memory
from tests.benchmarks.suite import FULL, QUICK, count_requests, run_copies, run_local, run_s3
from tests.benchmarks.table import TableRow, aligned, shown_size

_SECTIONS = (
    "local", "s3", "s3-tls", "copy", "cpu", "cpu-tls", "requests", "memory", "ray", "ray-copy"
)  # fmt: skip
_PACKAGES = ("fsspill", "ray", "s3fs", "smart-open", "pyarrow", "obstore")

Section = tuple[str, Callable[[], Iterable[TableRow]]]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table for each section, and draw the chart."""
    arguments = _arguments(argv)
    # smart_open warns each time it opens a file that it ignores arguments of Ray.
    logging.getLogger("smart_open").setLevel(logging.ERROR)
    # As in an IO worker; a setting of the process, so it applies to all contenders.
    raise_trim_threshold()
    sections = _sections(arguments)
    for name in arguments.only:
        title, measure = sections[name]
        rows = list(_reported(measure()))
        print(f"{title}\n\n{aligned([rows[0].headings, *(row.cells for row in rows)])}\n")  # noqa: T201
        if name == "s3" and arguments.chart:
            charted = [row for row in rows if isinstance(row, Row)]
            Path(arguments.chart).write_text(draw(charted, _link(arguments)))
    print(_machine())  # noqa: T201


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.chart and "s3" not in arguments.only:
        parser.error("--chart draws what 's3' measures, which --only leaves out")
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Spill and restore alternately with fsspill, with Ray's own storage classes "
        "(FileSystemStorage on a local directory, smart_open on S3), and on S3 with bare s3fs, "
        "pyarrow and obstore. All numbers are medians of the rounds.",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="small batches")
    add("--rounds", type=int, default=3, help="rounds per batch (default: 3)")
    add("--only", nargs="+", choices=_SECTIONS, default=_SECTIONS, help="sections to measure")
    add("--chart", metavar="SVG", help="file for a chart of the speeds on S3")
    add("--directory", help="parent of local files (default: a temporary one)")
    add("--latency", type=float, default=30, help="milliseconds per request (default: 30)")
    add(
        "--bandwidth",
        type=float,
        default=80,
        help="MB/s per connection and direction (default: 80)",
    )
    add(
        "--system-config",
        type=json.loads,
        default={},
        help="JSON: Ray's settings in the Ray program",
    )
    add(
        "--params",
        type=json.loads,
        default={},
        help="JSON: fsspill's parameters in the Ray program",
    )
    add("--at-once", type=int, default=1, help="objects per ray.get of it (default: 1)")
    return parser


def _sections(arguments: argparse.Namespace) -> Mapping[str, Section]:
    suite = QUICK if arguments.quick else FULL
    rounds, link = arguments.rounds, (arguments.latency / 1e3, arguments.bandwidth * 1e6)
    cluster = Cluster(
        *link,
        suite.object_store_memory,
        arguments.system_config,
        arguments.params,
        arguments.at_once,
    )
    # A store that does not hold the small objects, either.
    small = replace(cluster, object_store_memory=80 * MIB)
    return {
        "local": (
            "A local directory",
            lambda: run_local(suite.local, rounds, arguments.directory),
        ),
        "s3": (f"S3, {_link(arguments)}", lambda: run_s3(suite.s3, rounds, *link)),
        "s3-tls": (
            f"S3 with https, {_link(arguments)}",
            lambda: run_s3(suite.s3, rounds, *link, tls=True),
        ),
        "copy": (
            f"S3 with local copies, {_link(arguments)}; Ray's own is on the disk of the copies",
            lambda: run_copies(suite.copy, rounds, *link, arguments.directory),
        ),
        "cpu": ("S3 without a link: what the CPU allows", lambda: run_s3(suite.cpu, rounds, 0, 0)),
        "cpu-tls": (
            "S3 with https, without a link",
            lambda: run_s3(suite.cpu, rounds, 0, 0, tls=True),
        ),
        "requests": ("Requests to S3", lambda: count_requests(suite.files)),
        "memory": (
            "Private memory of a process that spills to S3, above that after setup",
            lambda: map(measure_memory, suite.memory),
        ),
        "ray": (
            f"A Ray program with an object store of {shown_size(suite.object_store_memory)}, "
            f"S3, {_link(arguments)}",
            lambda: chain.from_iterable(cluster.compare(case, rounds) for case in suite.ray),
        ),
        "ray-copy": (
            f"The same with local copies, {_link(arguments)}; Ray's own spills to that disk",
            lambda: chain.from_iterable(
                each.compare_copies(case, rounds, arguments.directory)
                for each, cases in ((cluster, suite.ray), (small, suite.ray_small))
                for case in cases
            ),
        ),
    }


def _link(arguments: argparse.Namespace) -> str:
    return f"{arguments.latency:g} ms a request, {arguments.bandwidth:g} MB/s a connection"


def _reported(rows: Iterable[TableRow]) -> Iterator[TableRow]:
    for row in rows:
        print("measured", *row.cells, file=sys.stderr)  # noqa: T201
        yield row


def _machine() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return f"Python {platform.python_version()}, {os.cpu_count()} CPUs, {packages}"


if __name__ == "__main__":
    main()
