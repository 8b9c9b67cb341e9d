"""``fsspill bench``: the speed of a URI on this machine, beside Ray's own classes."""

from __future__ import annotations

import sys

import click

from fsspill.bench.chart import check_chart, write_chart
from fsspill.bench.estimate import Estimate
from fsspill.bench.run import SECONDS, expect_requests, run
from fsspill.bench.table import panels, report_as_json, report_lines
from fsspill.cli.options import json_option, size
from fsspill.cli.tables import print_json, show_progress
from fsspill.errors import ConfigError

__all__ = ["bench"]

_ASKED_ABOVE = 0.10
"""Dollars of requests that are spent without a question."""


@click.command(
    short_help="Measure a URI on this machine, beside Ray's own classes.",
    epilog="""\b
Examples:
  fsspill bench s3://bucket/spill
  fsspill bench s3://bucket/spill --plot speed.svg
  fsspill bench file:///mnt/disk --size 1GiB
""",
)
@click.argument("uri")
@click.option("--shared", is_flag=True, help="The file:// URI is a directory of all nodes.")
@click.option(
    "--size",
    "nbytes",
    type=size,
    metavar="SIZE",
    help="Size of a batch, at least 4MiB (default: up to 160MiB, less on a slow link).",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=SECONDS,
    show_default=True,
    help="Time for all rounds; at least one is made.",
)
@click.option("--plot", metavar="FILE", help="Draw a chart: .svg, or .png with matplotlib.")
@click.option("--yes", is_flag=True, help="Spend more than 0.10 dollars without asking.")
@json_option
def bench(
    uri: str,
    shared: bool,
    nbytes: int | None,
    seconds: float,
    plot: str | None,
    yes: bool,
    as_json: bool,
) -> int:
    """Measure a URI on this machine: fsspill, some of its parameters, and Ray's own class.

    Batches of objects of 20 MiB and of 1 MiB are spilled and restored by one process, as an IO
    worker of Ray does it; a node has several. Ray's own class takes part on directories, and on S3
    where smart_open is installed. What it suggests to set was faster in every round.

    Nothing is left at the URI, also after Ctrl-C, and nothing else there is touched.
    """
    if plot:
        check_chart(plot)
    if not yes:
        _confirm(expect_requests(uri, shared=shared, nbytes=nbytes))
    with show_progress(silent=as_json) as progress:
        report = run(uri, shared=shared, nbytes=nbytes, seconds=seconds, progress=progress)
    if as_json:
        print_json(report_as_json(report))
    else:
        click.echo("\n".join(report_lines(report)))
    if plot:
        write_chart(plot, panels(report), report.uri)
    return 0 if report.files_left == 0 else 1


def _confirm(expected: Estimate) -> None:
    """Ask where the requests cost something; a program cannot answer, and needs --yes."""
    if expected.price is None or expected.dollars <= _ASKED_ABOVE:
        return
    text = (
        f"Up to {expected.writes:,} writes and {expected.reads:,} reads cost up to "
        f"{expected.dollars:.2f} dollars ({expected.price.source})."
    )
    if not sys.stdin.isatty():
        raise ConfigError(f"{text} Expected --yes, or a smaller --size.")
    click.confirm(f"{text} Go on?", abort=True, err=True)
