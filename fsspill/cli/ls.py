"""``fsspill ls``: the sessions and nodes that have files at a URI."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

from fsspill.cleanup import Node, Session, scan
from fsspill.cli.options import json_option, older_than_option, spill_uri_argument
from fsspill.cli.tables import UNITS, is_terminal, print_json, print_rows, show_progress

__all__ = ["ls"]


@click.command(
    short_help="List the sessions and nodes that have files at a URI.",
    epilog="""\b
Examples:
  fsspill ls s3://bucket/spill
  fsspill ls file:///mnt/nfs/spill --older-than 7d
  fsspill ls s3://bucket/spill --json
""",
)
@spill_uri_argument
@older_than_option
@json_option
def ls(uri: str, older_than: float, as_json: bool) -> None:
    """List the sessions and nodes that have files at a URI, and which of them are alive.

    URI is the one that Ray spills to, with its prefix if there is one.

    A session is alive if its heartbeat is at most 30 minutes old, dead if it is older and no file
    of the session is younger than --older-than, recent in between, and unknown if it never writes
    heartbeats (fsspill as a library, node-local directories), or if they stopped before it did.
    Ages are by the clock of the storage, for which a file of 1 byte is written and deleted.
    """
    with show_progress(silent=True) as progress:
        progress("listing", 0, 0)
        sessions = scan(uri, older_than=older_than)
    if as_json:
        print_json({"sessions": [_session_as_json(session) for session in sessions]})
        return
    state = "state" if is_terminal() else "alive"
    header = ("session", "node", "files", "bytes", "age", state, "uploads")
    print_rows(header, [row for session in sessions for row in _rows(session)], names=2)


def _session_as_json(session: Session) -> dict[str, Any]:
    nodes = [{"node": name, **_as_json(node)} for name, node in sorted(session.nodes.items())]
    uploads = len(session.uploads)
    return {"session": session.name, **_as_json(session), "uploads": uploads, "nodes": nodes}


def _as_json(found: Session | Node) -> dict[str, Any]:
    return {
        "files": len(found.files),
        "bytes": found.nbytes,
        "age_seconds": found.age,
        "liveness": found.liveness,
    }


def _rows(session: Session) -> Iterator[Sequence[str]]:
    name = session.name or "-"
    if session.name is not None:
        yield name, "-", *_cells(session), f"{len(session.uploads):,}"
    for node_id, node in sorted(session.nodes.items()):
        yield name, node_id, *_cells(node), "-"


def _cells(found: Session | Node) -> tuple[str, str, str, str]:
    return f"{len(found.files):,}", f"{found.nbytes:,}", _age(found.age), found.liveness


def _age(seconds: float | None) -> str:
    """Format a time in the largest unit that it has two of, rounded down but never to nothing."""
    if seconds is None:
        return "-"
    if 0 < seconds < 1:
        return "<1s"
    unit = next((unit for unit, size in UNITS.items() if seconds >= 2 * size), "s")
    return f"{seconds // UNITS[unit]:.0f}{unit}"
