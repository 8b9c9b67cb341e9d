"""The command line: ``fsspill demo [URI]``, ``fsspill ls URI``, ``fsspill clean URI``."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import TypeAlias

from fsspill import __version__
from fsspill.cleanup import clean, scan
from fsspill.cleanup.sessions import DAY
from fsspill.cli.demo import run
from fsspill.cli.tables import UNITS, print_report, print_sessions, print_summary, show_progress
from fsspill.error_chain import redact_errors
from fsspill.errors import FsspillError
from fsspill.settings import MIB

__all__ = ["main"]

_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

_MIN_STORE_MIB = 80


@redact_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        Its arguments; those of the process if not given.

    Returns
    -------
    int
        0 if everything succeeded, 1 if anything failed or was left behind.
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
        description="Start Ray with a small object store, create objects worth four times its "
        "size so that they spill, read all of them back, verify every byte, drop them, and wait "
        "until the storage is empty. Other files at the URI are not touched.",
    )
    where = demo.add_mutually_exclusive_group()
    where.add_argument(
        "uri", nargs="?", help="the URI to spill to (default: a temporary directory)"
    )
    where.add_argument(
        "--s3", action="store_true", help="spill to an S3 server started for the demo"
    )
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
        help="list the sessions and nodes that have files at a URI, and which of them are alive",
        description="List the sessions and nodes that have files at a URI. A session is alive if "
        "its heartbeat is at most 30 minutes old, dead if it is older and no file of the session "
        "is younger than --older-than, recent in between, and unknown if it never writes "
        "heartbeats (fsspill as a library, node-local directories), or if they stopped before it "
        "did. Ages are by the clock of the "
        "storage, for which a file of 1 byte is written and deleted.",
    )
    _add_uri(ls)
    ls.set_defaults(command=_ls)


def _add_clean(commands: _Commands) -> None:
    clean = commands.add_parser(
        "clean",
        help="remove what dead sessions left at a URI",
        description="Remove dead sessions, incomplete multipart uploads of S3 and files of "
        "interrupted checks. A live session is never touched, and an unknown one only if "
        "--session names it. 'fsspill ls URI' shows the state of each. Before a session is removed "
        "its heartbeats are listed again, and the clock of the machine that wrote the newest is "
        "compared with the one of this machine; it is kept if they disagree.",
    )
    _add_uri(clean)
    clean.add_argument(
        "--dry-run", action="store_true", help="print what would be removed, remove nothing"
    )
    clean.add_argument(
        "--session",
        action="append",
        default=[],
        metavar="NAME",
        help="remove this session and nothing else, even if it is recent or unknown; refused if "
        "it is alive; repeatable",
    )
    clean.add_argument(
        "--node",
        action="append",
        default=[],
        metavar="NODE_ID",
        help="remove the node-local directory of this node and nothing else; make sure first that "
        "the node is gone, because it writes no heartbeat; repeatable",
    )
    clean.add_argument(
        "--dead-nodes",
        action="store_true",
        help="also remove the files of dead nodes of live sessions. Risk: any node of the session "
        "can still restore their objects; a program that needs one afterwards finds it lost",
    )
    clean.set_defaults(command=_clean)


def _add_uri(command: argparse.ArgumentParser) -> None:
    command.add_argument("uri", help="the URI that Ray spills to, with its prefix if there is one")
    command.add_argument(
        "--older-than",
        type=_duration,
        default=DAY,
        metavar="TIME",
        help="time since the last write of a session after which it counts as dead: 30s, 15m, "
        "24h, 7d (default: 24h; never less than 30m)",
    )


def _duration(text: str) -> float:
    match = re.fullmatch(r"([0-9]+)([smhd])", text)
    if not match:
        raise argparse.ArgumentTypeError("expected a number and a unit, as in 30s, 15m, 24h, 7d")
    return float(match[1]) * UNITS[match[2]]


def _store_size(text: str) -> int:
    size = int(text)
    if size < _MIN_STORE_MIB:
        raise argparse.ArgumentTypeError(
            f"expected {_MIN_STORE_MIB} or more: Ray's minimum is 75 MiB"
        )
    return size


def _demo(arguments: argparse.Namespace) -> int:
    with show_progress() as progress:
        report = run(
            arguments.uri,
            s3=arguments.s3,
            object_store_memory=arguments.store_mib * MIB,
            progress=progress,
        )
    print_report(report)
    return 0 if report.succeeded else 1


def _ls(arguments: argparse.Namespace) -> int:
    print_sessions(scan(arguments.uri, older_than=arguments.older_than))
    return 0


def _clean(arguments: argparse.Namespace) -> int:
    with show_progress() as progress:
        summary = clean(
            arguments.uri,
            older_than=arguments.older_than,
            sessions=arguments.session,
            nodes=arguments.node,
            dead_nodes=arguments.dead_nodes,
            dry_run=arguments.dry_run,
            progress=progress,
        )
    print_summary(summary, "would remove" if arguments.dry_run else "removed")
    return 1 if summary.failures else 0
