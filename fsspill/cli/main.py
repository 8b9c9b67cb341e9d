"""The command line: ``fsspill demo [URI]``, ``fsspill ls URI``, ``fsspill clean URI``."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from fsspill import __version__
from fsspill.cleanup import Session, Summary, clean, scan
from fsspill.cleanup.sessions import DAY
from fsspill.cli.demo import Progress, Report, run
from fsspill.errors import FsspillError, MissingPackageError
from fsspill.settings import MIB

__all__ = ["main"]

_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_FAILURES_SHOWN = 10


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
        code: int = arguments.command(arguments)
        return code
    except FsspillError as error:
        print(f"fsspill: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fsspill", description="Spill the objects of a Ray cluster to any fsspec URI."
    )
    parser.add_argument("--version", action="version", version=f"fsspill {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_ls(commands)
    _add_clean(commands)
    return parser


def _add_demo(commands: _Commands) -> None:
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
    demo.set_defaults(command=_demo)


def _add_ls(commands: _Commands) -> None:
    ls = commands.add_parser(
        "ls",
        help="show the sessions and nodes that have files at a URI, and which of them are alive",
        description="Show the sessions and nodes that have files at a URI. A session is alive if "
        "it said so within the last 30 minutes, dead if it did not and nothing of it is younger "
        "than --older-than, recent in between, and unknown if it never says (fsspill as a library, "
        "node-local directories). Ages are by the clock of the storage, for which a file of 1 byte "
        "is written and deleted.",
    )
    _add_uri(ls)
    ls.set_defaults(command=_ls)


def _add_clean(commands: _Commands) -> None:
    clean = commands.add_parser(
        "clean",
        help="remove what dead sessions left at a URI",
        description="Remove the sessions that are dead, incomplete multipart uploads of S3 and "
        "files of interrupted checks. A session that is alive is never touched, and one of which "
        "that is not known only if --session names it. See 'fsspill ls URI' for which is which.",
    )
    _add_uri(clean)
    clean.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    clean.add_argument(
        "--session",
        action="append",
        default=[],
        metavar="NAME",
        help="remove what this one left and nothing else, even if it is recent or unknown; refused "
        "if it is alive; repeatable",
    )
    clean.add_argument(
        "--node",
        action="append",
        default=[],
        metavar="NODE_ID",
        help="remove the node-local directory of this node and nothing else; make sure that the "
        "node is gone, because nothing says whether it is; repeatable",
    )
    clean.add_argument(
        "--dead-nodes",
        action="store_true",
        help="also remove what nodes left that died in a session that is alive. Risk: their "
        "objects may still be wanted, since any node of the session can still restore them; a "
        "program that gets one afterwards finds it lost",
    )
    clean.set_defaults(command=_clean)


def _add_uri(command: argparse.ArgumentParser) -> None:
    command.add_argument("uri", help="as it was given to Ray, with the prefix if there is one")
    command.add_argument(
        "--older-than",
        type=_duration,
        default=DAY,
        metavar="TIME",
        help="how long nothing of a session was written before it counts as dead: 30s, 15m, 24h, "
        "7d (default: 24h; never less than 30m)",
    )


def _duration(text: str) -> float:
    match = re.fullmatch(r"([0-9]+)([smhd])", text)
    if not match:
        raise argparse.ArgumentTypeError("expected a number and a unit, as in 30s, 15m, 24h, 7d")
    return float(match[1]) * _UNITS[match[2]]


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


def _ls(arguments: argparse.Namespace) -> int:
    sessions = scan(arguments.uri, older_than=arguments.older_than)
    rows = [row for session in sessions for row in _rows_of_session(session)]
    _print_rows(("session", "node", "files", "bytes", "age", "alive", "uploads"), rows)
    return 0


def _rows_of_session(session: Session) -> Iterator[tuple[str, ...]]:
    name = session.name or "-"
    if session.name is not None:
        counts = _counts(len(session.files), session.nbytes)
        yield name, "-", *counts, _age(session.age), session.liveness, f"{len(session.uploads):,}"
    for node_id, node in sorted(session.nodes.items()):
        counts = _counts(len(node.files), node.nbytes)
        yield name, node_id, *counts, _age(node.age), node.liveness, "-"


def _counts(*numbers: int) -> Iterator[str]:
    return (f"{number:,}" for number in numbers)


def _age(seconds: float | None) -> str:
    """Write a time in the largest unit of which there are two, rounded down."""
    if seconds is None:
        return "-"
    unit = next((unit for unit, size in _UNITS.items() if seconds >= 2 * size), "s")
    return f"{seconds // _UNITS[unit]:.0f}{unit}"


def _print_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on a terminal, and lines of words elsewhere."""
    if not sys.stdout.isatty():
        for row in (header, *rows):
            print(*row)
        return
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
    except ImportError as error:
        raise _needs_rich("show a table") from error
    table = Table(*header, box=box.SIMPLE)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _clean(arguments: argparse.Namespace) -> int:
    with _shown_progress() as progress:
        summary = clean(
            arguments.uri,
            older_than=arguments.older_than,
            sessions=arguments.session,
            nodes=arguments.node,
            dead_nodes=arguments.dead_nodes,
            dry_run=arguments.dry_run,
            progress=progress,
        )
    _print_summary(summary, "would remove" if arguments.dry_run else "removed")
    return 1 if summary.failures else 0


def _print_summary(summary: Summary, removed: str) -> None:
    for session in summary.sessions:
        print(f"{removed} session {session}")
    for node in summary.nodes:
        print(f"{removed} node {node}")
    for what, reason in summary.kept.items():
        print(f"kept {what}: {reason}")
    counts = (len(summary.sessions), len(summary.nodes), summary.files, summary.nbytes)
    names = ("sessions", "nodes", "files", "bytes", "uploads")
    numbers = zip(names, (*counts, summary.uploads), strict=True)
    print(f"{removed}: " + ", ".join(f"{name} {number:,}" for name, number in numbers))
    failures = list(summary.failures.values())
    for failure in failures[:_FAILURES_SHOWN]:
        print(f"fsspill: {failure}", file=sys.stderr)
    if len(failures) > _FAILURES_SHOWN:
        print(f"fsspill: {len(failures) - _FAILURES_SHOWN:,} more failed", file=sys.stderr)


def _needs_rich(action: str) -> MissingPackageError:
    return MissingPackageError(
        f'cannot {action}: expected the package rich. Install it: pip install "fsspill[cli]"'
    )


@contextmanager
def _shown_progress() -> Iterator[Progress]:
    """Show a bar per step on a terminal, and a line per finished step elsewhere."""
    try:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars
    except ImportError as error:
        raise _needs_rich("show progress") from error
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
