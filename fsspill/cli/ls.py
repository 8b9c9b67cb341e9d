"""``fsspill ls``: the sessions and nodes that have files at a URI."""

from __future__ import annotations

import click

from fsspill.cleanup import scan
from fsspill.cli.options import json_option, older_than_option, spill_uri_argument
from fsspill.cli.tables import print_json, print_sessions, sessions_as_json

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
    sessions = scan(uri, older_than=older_than)
    if as_json:
        print_json({"sessions": sessions_as_json(sessions)})
    else:
        print_sessions(sessions)
