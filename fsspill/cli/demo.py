"""``fsspill demo``: a Ray program larger than its object store, on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import click

from fsspill.cli.options import json_option
from fsspill.cli.tables import print_json, print_rows, show_progress
from fsspill.demo import Report, run
from fsspill.settings import MIB

__all__ = ["demo"]

_MIN_STORE_MIB = 80


@click.command(
    short_help="Run a Ray program four times larger than its object store.",
    epilog="""\b
Examples:
  fsspill demo
  fsspill demo --s3
  fsspill demo s3://bucket/spill --store-mib 256
""",
)
@click.argument("uri", required=False)
@click.option("--s3", is_flag=True, help="Spill to an S3 server started for the demo.")
@click.option(
    "--store-mib",
    type=click.IntRange(min=_MIN_STORE_MIB),
    default=128,
    metavar="MIB",
    help="Size of the object store in MiB (default: 128; at least 80, as Ray's minimum is 75).",
)
@json_option
def demo(uri: str | None, s3: bool, store_mib: int, as_json: bool) -> int:
    """Run a Ray program four times larger than its object store, and verify every byte.

    It starts Ray with a small object store, creates objects worth four times its size so that they
    spill, reads all of them back, verifies every byte, drops them, and waits until the storage is
    empty. They spill to URI, or to a temporary directory. Other files at the URI are not touched.
    """
    if uri and s3:
        raise click.UsageError("expected a URI or --s3, found both")
    with show_progress(silent=as_json) as progress:
        report = run(uri, s3=s3, object_store_memory=store_mib * MIB, progress=progress)
    if as_json:
        print_json({"succeeded": report.succeeded, **asdict(report)})
    else:
        _print_report(report)
    return 0 if report.succeeded else 1


def _print_report(report: Report) -> None:
    click.echo(f"spilled to {report.uri}")
    print_rows(("", ""), list(_rows(report)))


def _rows(report: Report) -> Iterator[tuple[str, str]]:
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
