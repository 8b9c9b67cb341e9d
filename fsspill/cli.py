"""The command line: ``fsspill demo [URI]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fsspill import __version__
from fsspill.demo import Progress, Report, run
from fsspill.errors import FsspillError, MissingPackageError
from fsspill.transfer import MIB

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        Its arguments; those of the process if not given.

    Returns
    -------
    int
        0 if all went well, 1 if anything was wrong or left behind.
    """
    arguments = _parser().parse_args(argv)
    try:
        return _demo(arguments)
    except FsspillError as error:
        print(f"fsspill: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fsspill", description="Spill the objects of a Ray cluster to any fsspec URI."
    )
    parser.add_argument("--version", action="version", version=f"fsspill {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="run a Ray program four times larger than its object store, and verify every byte",
        description="Start Ray with a small object store, make objects worth four times its size, "
        "let them spill, read all back, verify every byte, drop them, and wait until the storage "
        "is empty. Files of others at the URI are not touched.",
    )
    where = demo.add_mutually_exclusive_group()
    where.add_argument("uri", nargs="?", help="where to spill to (default: a temporary directory)")
    where.add_argument("--s3", action="store_true", help="spill to an S3 server started for it")
    demo.add_argument(
        "--store-mib",
        type=_store_size,
        default=128,
        metavar="MIB",
        help="size of the object store in MiB (default: 128; Ray's minimum is 75)",
    )
    return parser


def _store_size(text: str) -> int:
    size = int(text)
    if size < 80:
        raise argparse.ArgumentTypeError("expected 80 or more: Ray's minimum is 75 MiB")
    return size


def _demo(arguments: argparse.Namespace) -> int:
    with _shown_progress() as progress:
        report = run(
            arguments.uri,
            s3=arguments.s3,
            object_store_memory=arguments.store_mib * MIB,
            progress=progress,
        )
    _print_table(report)
    return 0 if report.succeeded else 1


@contextmanager
def _shown_progress() -> Iterator[Progress]:
    """Show a bar per step on a terminal, and a line per finished step elsewhere."""
    try:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars
    except ImportError as error:
        raise MissingPackageError(
            "cannot show progress: expected the package rich. Install it: "
            'pip install "fsspill[cli]"'
        ) from error
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, disable=not sys.stdout.isatty()) as bars:
        steps = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in steps:
                steps[step] = bars.add_task(step, total=total)
            bars.update(steps[step], completed=done, total=total)
            if bars.disable and done == total:
                print(f"{step}: {done} of {total}", flush=True)

        yield show


def _print_table(report: Report) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE, show_header=False, title=f"spilled to {report.uri}")
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in _rows(report):
        table.add_row(name, value)
    Console().print(table)


def _rows(report: Report) -> Iterator[tuple[str, str]]:
    yield "objects", f"{report.objects:,}"
    yield "bytes", f"{report.object_bytes:,}"
    yield "objects that came back wrong", f"{report.wrong:,}"
    yield "spilled", _rate(report.spilled_bytes, report.spill_seconds)
    yield "restored", _rate(report.restored_bytes, report.restore_seconds)
    yield "files written", f"{report.files_written:,}"
    yield "files left", f"{report.files_left:,}"


def _rate(nbytes: int, seconds: float) -> str:
    speed = f"{nbytes / MIB / seconds:,.0f} MiB/s" if seconds else "-"
    return f"{nbytes / MIB:,.0f} MiB at {speed}"
