"""Output of the command line: tables and progress on a terminal, lines of words elsewhere."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from fsspill.cleanup import Node, Session, Summary
from fsspill.demo import Progress, Report
from fsspill.settings import MIB

__all__ = [
    "UNITS",
    "print_json",
    "print_report",
    "print_sessions",
    "print_summary",
    "report_as_json",
    "sessions_as_json",
    "show_progress",
    "summary_as_json",
]

UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
"""Seconds of each unit of time, the largest first."""

_FAILURES_SHOWN = 10


def print_json(value: Mapping[str, Any]) -> None:
    """Print an object for programs."""
    print(json.dumps(value, indent=2))


def sessions_as_json(sessions: Sequence[Session]) -> list[dict[str, Any]]:
    """Return sessions and their nodes as JSON has them."""
    return [
        {
            "session": session.name,
            **_as_json(session),
            "uploads": len(session.uploads),
            "nodes": [
                {"node": node_id, **_as_json(node)}
                for node_id, node in sorted(session.nodes.items())
            ],
        }
        for session in sessions
    ]


def _as_json(found: Session | Node) -> dict[str, Any]:
    return {
        "files": len(found.files),
        "bytes": found.nbytes,
        "age_seconds": found.age,
        "liveness": found.liveness,
    }


def print_sessions(sessions: Sequence[Session]) -> None:
    """Print a row for each session and each of its nodes."""
    header = ("session", "node", "files", "bytes", "age", "alive", "uploads")
    rows = [row for session in sessions for row in _session_rows(session)]
    if _has_rich() and sys.stdout.isatty():
        _print_table(header, rows)
        return
    for row in (header, *rows):
        print(*row)


def _has_rich() -> bool:
    return importlib.util.find_spec("rich") is not None


def _session_rows(session: Session) -> Iterator[tuple[str, ...]]:
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
    """Format a time in the largest unit that it has two of, rounded down but never to nothing."""
    if seconds is None:
        return "-"
    if 0 < seconds < 1:
        return "<1s"
    unit = next((unit for unit, size in UNITS.items() if seconds >= 2 * size), "s")
    return f"{seconds // UNITS[unit]:.0f}{unit}"


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*header, box=box.SIMPLE)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def print_summary(summary: Summary, removed: str) -> None:
    """Print what a clean-up removed (or would remove, as `removed` says), and what it kept."""
    for session in summary.sessions:
        print(f"{removed} session {session}")
    for node in summary.nodes:
        print(f"{removed} node {node}")
    for kept, reason in summary.kept.items():
        print(f"kept {kept}: {reason}")
    counts = (len(summary.sessions), len(summary.nodes), summary.files, summary.nbytes)
    names = ("sessions", "nodes", "files", "bytes", "uploads")
    numbers = zip(names, (*counts, summary.uploads), strict=True)
    print(f"{removed}: " + ", ".join(f"{name} {number:,}" for name, number in numbers))
    _print_failures(list(summary.failures.values()))


def summary_as_json(summary: Summary) -> dict[str, Any]:
    """Return what a clean-up removed, kept and could not remove as JSON has it."""
    return {
        "sessions": summary.sessions,
        "nodes": summary.nodes,
        "files": summary.files,
        "bytes": summary.nbytes,
        "uploads": summary.uploads,
        "kept": summary.kept,
        "failures": {where: str(failure) for where, failure in summary.failures.items()},
    }


def _print_failures(failures: Sequence[Exception]) -> None:
    for failure in failures[:_FAILURES_SHOWN]:
        print(f"fsspill: {failure}", file=sys.stderr)
    if len(failures) > _FAILURES_SHOWN:
        print(f"fsspill: {len(failures) - _FAILURES_SHOWN:,} more failed", file=sys.stderr)


@contextmanager
def show_progress(*, silent: bool = False) -> Iterator[Progress]:
    """Show a bar per step on a terminal, and a line per finished step elsewhere or without rich."""
    if silent:
        yield lambda step, done, total: None
        return
    if not (_has_rich() and sys.stdout.isatty()):
        yield _show_line
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns) as bars:
        steps = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in steps:
                steps[step] = bars.add_task(step, total=total)
            bars.update(steps[step], completed=done, total=total)

        yield show


def _show_line(step: str, done: int, total: int) -> None:
    if done == total:
        print(f"{step}: {done} of {total}", flush=True)


def print_report(report: Report) -> None:
    """Print the table of a demo, or lines where rich is not installed."""
    if not _has_rich():
        for row in _report_rows(report):
            print(*row)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE, show_header=False, title=f"spilled to {report.uri}")
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in _report_rows(report):
        table.add_row(name, value)
    Console().print(table)


def report_as_json(report: Report) -> dict[str, Any]:
    """Return the outcome of a demo as JSON has it."""
    return {"succeeded": report.succeeded, **asdict(report)}


def _report_rows(report: Report) -> Iterator[tuple[str, str]]:
    yield "objects", f"{report.objects:,}"
    yield "bytes", f"{report.object_bytes:,}"
    yield "corrupted objects", f"{report.corrupted:,}"
    yield "spilled", _rate(report.spilled_bytes, report.spill_seconds)
    yield "restored", _rate(report.restored_bytes, report.restore_seconds)
    yield "files written", f"{report.files_written:,}"
    yield "files left", f"{report.files_left:,}"


def _rate(nbytes: int, seconds: float) -> str:
    speed = f"{_mebibytes(nbytes / seconds)}/s" if seconds else "-"
    return f"{_mebibytes(nbytes)} at {speed}"


def _mebibytes(nbytes: float) -> str:
    return "<1 MiB" if 0 < nbytes < MIB else f"{nbytes / MIB:,.0f} MiB"
