"""Compare fsspill with Ray's own storage classes: ``python -m tests.benchmarks --help``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence

from fsspill.transfer import MIB
from tests.benchmarks.measure import Row
from tests.benchmarks.suite import FULL, QUICK

_HEADINGS: tuple[tuple[str, ...], ...] = (
    ("to", "objects", "", "MiB/s", "", "", "CPU s/GiB", "", "requests", "", "read/needed", ""),
    ("", "", "", "fsspill", "Ray", "ratio", *("fsspill", "Ray") * 3),
)
_TEXT_COLUMNS = 3


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    arguments = _parser().parse_args(argv)
    # smart_open warns at every single opening that it ignores what Ray passes to it.
    logging.getLogger("smart_open").setLevel(logging.ERROR)
    table = list(_HEADINGS)
    for row in _rows(arguments):
        table.append(_cells(row))
        print("measured", *table[-1][:_TEXT_COLUMNS], file=sys.stderr)  # noqa: T201
    print(_aligned(table))  # noqa: T201


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Spill and restore with fsspill and with Ray's own storage classes by turns: "
        "its FileSystemStorage on a local directory, its smart_open storage on S3. MiB/s, CPU "
        "seconds and requests are medians of the rounds, the ratio that of the pairs.",
    )
    parser.add_argument("--quick", action="store_true", help="small batches")
    parser.add_argument("--rounds", type=int, default=5, help="rounds per batch (default: 5)")
    parser.add_argument("--only", choices=("local", "s3"), help="one kind of storage")
    parser.add_argument("--directory", help="where local files go (default: a temporary one)")
    parser.add_argument(
        "--latency", type=float, default=30, help="milliseconds per request (default: 30)"
    )
    parser.add_argument(
        "--bandwidth", type=float, default=80, help="MB/s per connection, each way (default: 80)"
    )
    parser.add_argument(
        "--no-latency",
        action="store_true",
        help="S3 with neither latency nor a bound on bandwidth: what the CPU allows",
    )
    return parser


def _rows(arguments: argparse.Namespace) -> Iterator[Row]:
    suite = QUICK if arguments.quick else FULL
    latency, bandwidth = arguments.latency / 1e3, arguments.bandwidth * 1e6
    if arguments.no_latency:
        latency = bandwidth = 0
    if arguments.only != "s3":
        yield from suite.run_local(arguments.rounds, arguments.directory)
    if arguments.only != "local":
        yield from suite.run_s3(arguments.rounds, latency, bandwidth)


def _cells(row: Row) -> tuple[str, ...]:
    ours, rays = row.sides
    case = row.case
    restores = row.operation == "restore"
    count = case.restored if restores else case.count
    return (
        case.name,
        f"{count:,} x {_size(case.size)}",
        row.operation,
        f"{ours.mib_per_second:,.0f}",
        f"{rays.mib_per_second:,.0f}",
        f"{row.ratio:.2f}",
        f"{ours.cpu_seconds_per_gib:.2f}",
        f"{rays.cpu_seconds_per_gib:.2f}",
        *(f"{side.requests:,}" if side.requests else "-" for side in row.sides),
        *(f"{side.overread:,.2f}" if case.name == "s3" and restores else "-" for side in row.sides),
    )


def _size(nbytes: int) -> str:
    return f"{nbytes // MIB} MiB" if nbytes >= MIB else f"{nbytes // 2**10} KiB"


def _aligned(table: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join("  ".join(_padded(cells, widths)).rstrip() for cells in table)


def _padded(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for column, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        yield cell.ljust(width) if column < _TEXT_COLUMNS else cell.rjust(width)


if __name__ == "__main__":
    main()
