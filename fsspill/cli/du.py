"""``fsspill du``: the space that sessions and nodes take at a URI."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

from fsspill.cleanup import Session, Space, scan
from fsspill.cli.options import json_option, spill_uri_argument
from fsspill.cli.tables import print_json, print_rows, show_progress

__all__ = ["du"]


@click.command(
    short_help="Show the space that sessions and nodes take at a URI.",
    epilog="""\b
Examples:
  fsspill du s3://bucket/spill
  fsspill du s3://bucket/spill --json
""",
)
@spill_uri_argument
@json_option
def du(uri: str, as_json: bool) -> None:
    """Show the space that sessions and nodes take at a URI, the largest first.

    URI is the one that Ray spills to, with its prefix if there is one.

    Counted are spilled files and heartbeats. Where a bucket keeps old versions of files that are
    deleted or written again, the bytes include those, since they are billed; the column "old" has
    how many they are. Uploads are incomplete multipart uploads of S3, which are billed too.

    A file of 1 byte is written and deleted, as by 'fsspill ls'.
    """
    with show_progress(silent=True) as progress:
        progress("listing", 0, 0)
        sessions = sorted(scan(uri), key=_by_size)
    total = sum(map(Space.of_session, sessions), Space())
    if as_json:
        found = [_session_as_json(session) for session in sessions]
        print_json({"sessions": found, "total": _as_json(total)})
        return
    rows = [row for session in sessions for row in _rows(session)]
    header = ("session", "node", "files", "bytes", "old", "uploads")
    print_rows(header, [*rows, ("total", "-", *_cells(total))], names=2)


def _by_size(session: Session) -> tuple[int, str]:
    return -Space.of_session(session).nbytes, session.name or ""


def _nodes(session: Session) -> list[tuple[str, Space]]:
    spaces = [(node_id, Space.of_node(node)) for node_id, node in session.nodes.items()]
    return sorted(spaces, key=lambda found: (-found[1].nbytes, found[0]))


def _session_as_json(session: Session) -> dict[str, Any]:
    nodes = [{"node": node_id, **_as_json(space)} for node_id, space in _nodes(session)]
    return {"session": session.name, **_as_json(Space.of_session(session)), "nodes": nodes}


def _as_json(space: Space) -> dict[str, int]:
    return {
        "files": space.files,
        "bytes": space.nbytes,
        "old_bytes": space.old_nbytes,
        "uploads": space.uploads,
    }


def _rows(session: Session) -> Iterator[Sequence[str]]:
    name = session.name or "-"
    if session.name is not None:
        yield name, "-", *_cells(Space.of_session(session))
    for node_id, space in _nodes(session):
        yield name, node_id, *_cells(space)[:-1], "-"


def _cells(space: Space) -> tuple[str, str, str, str]:
    return (
        f"{space.files:,}",
        f"{space.nbytes:,}",
        f"{space.old_nbytes:,}",
        f"{space.uploads:,}",
    )
