"""``fsspill clean``: remove what dead sessions left at a URI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from fsspill import cleanup
from fsspill.cleanup import Summary
from fsspill.cli.options import json_option, older_than_option, spill_uri_argument
from fsspill.cli.tables import print_json, show_progress

__all__ = ["clean"]

_FAILURES_SHOWN = 10


@click.command(
    short_help="Remove what dead sessions left at a URI.",
    epilog="""\b
Examples:
  fsspill clean s3://bucket/spill --dry-run
  fsspill clean s3://bucket/spill --older-than 48h
  fsspill clean s3://bucket/spill --session NAME
""",
)
@spill_uri_argument
@older_than_option
@click.option("--dry-run", is_flag=True, help="Print what would be removed, remove nothing.")
@click.option(
    "--session",
    "sessions",
    multiple=True,
    metavar="NAME",
    help="Remove this session and nothing else, even if it is recent or unknown; refused if it is "
    "alive; repeatable.",
)
@click.option(
    "--node",
    "nodes",
    multiple=True,
    metavar="NODE_ID",
    help="Remove the node-local directory of this node and nothing else; make sure first that the "
    "node is gone, because it writes no heartbeat; repeatable.",
)
@click.option(
    "--dead-nodes",
    is_flag=True,
    help="Also remove the files of dead nodes of live sessions. Risk: any node of the session can "
    "still restore their objects; a program that needs one afterwards finds it lost.",
)
@json_option
def clean(
    uri: str,
    older_than: float,
    dry_run: bool,
    sessions: tuple[str, ...],
    nodes: tuple[str, ...],
    dead_nodes: bool,
    as_json: bool,
) -> int:
    """Remove what dead sessions left at a URI.

    URI is the one that Ray spills to, with its prefix if there is one.

    Removed are dead sessions, incomplete multipart uploads of S3 and files of interrupted checks. A
    live session is never touched, and an unknown one only if --session names it. 'fsspill ls URI'
    shows the state of each. Before a session is removed its heartbeats are listed again, and the
    clock of the machine that wrote the newest is compared with the one of this machine; it is kept
    if they disagree.
    """
    with show_progress(silent=as_json) as progress:
        progress("cleaning", 0, 0)
        summary = cleanup.clean(
            uri,
            older_than=older_than,
            sessions=sessions,
            nodes=nodes,
            dead_nodes=dead_nodes,
            dry_run=dry_run,
            progress=progress,
        )
    if as_json:
        print_json({"dry_run": dry_run, **_as_json(summary)})
    else:
        _print_summary(summary, "would remove" if dry_run else "removed")
    return 1 if summary.failures else 0


def _as_json(summary: Summary) -> dict[str, Any]:
    return {
        "sessions": summary.sessions,
        "nodes": summary.nodes,
        "files": summary.files,
        "bytes": summary.nbytes,
        "uploads": summary.uploads,
        "kept": summary.kept,
        "failures": {where: str(failure) for where, failure in summary.failures.items()},
    }


def _print_summary(summary: Summary, removed: str) -> None:
    """Print what was removed (or would be, as `removed` says), and what was kept."""
    for session in summary.sessions:
        click.echo(f"{removed} session {session}")
    for node in summary.nodes:
        click.echo(f"{removed} node {node}")
    for kept, reason in summary.kept.items():
        click.echo(f"kept {kept}: {reason}")
    counts = (len(summary.sessions), len(summary.nodes), summary.files, summary.nbytes)
    names = ("sessions", "nodes", "files", "bytes", "uploads")
    numbers = zip(names, (*counts, summary.uploads), strict=True)
    click.echo(f"{removed}: " + ", ".join(f"{name} {number:,}" for name, number in numbers))
    _print_failures(list(summary.failures.values()))


def _print_failures(failures: Sequence[Exception]) -> None:
    for failure in failures[:_FAILURES_SHOWN]:
        click.echo(f"fsspill: {failure}", err=True)
    if len(failures) > _FAILURES_SHOWN:
        click.echo(f"fsspill: {len(failures) - _FAILURES_SHOWN:,} more failed", err=True)
