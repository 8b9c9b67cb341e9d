"""``fsspill check``: the reasons for which this machine, or a cluster, cannot spill to a URI."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import click

from fsspill.cli.options import json_option
from fsspill.cli.tables import print_json, print_prose, show_progress
from fsspill.diagnosis.parameters import Parameter
from fsspill.diagnosis.run import Diagnosis, diagnose
from fsspill.diagnosis.verdict import Verdict

__all__ = ["check"]


@click.command(
    short_help="Check whether this machine, or a cluster, can spill to a URI.",
    epilog="""\b
Examples:
  fsspill check s3://bucket/spill
  fsspill check s3://bucket/spill --no-speed --json
  fsspill check file:///mnt/nfs/spill --shared
""",
)
@click.argument("uris", metavar="URI...", nargs=-1, required=True)
@click.option("--shared", is_flag=True, help="The file:// URI is a directory of all nodes.")
@click.option("--speed/--no-speed", default=True, help="Measure the speed, with up to 66 MiB.")
@json_option
def check(uris: tuple[str, ...], shared: bool, speed: bool, as_json: bool) -> int:
    """Check whether this machine can spill to URI, or to several.

    Every permission is tried by itself, and what costs time, money or objects is named: versions
    that stay, rules of the bucket, region, clock, latency, bandwidth, disk, packages, Ray's hook.
    Parameters are taken from the environment (FSSPILL_*), as Ray's nodes do it.

    Of each check there is a verdict: ok; warning, which costs something; failed, with which the
    machine cannot spill; or skipped. The exit code is 1 if any failed.

    What it writes is removed, also after Ctrl-C, and nothing else there is touched. It takes about
    half a minute, and less than 0.01 dollars.
    """
    params = {"uri": list(uris), **({"shared": True} if shared else {})}
    with show_progress(silent=True) as progress:
        found = diagnose({"type": "fsspec", "params": params}, speed=speed, progress=progress)
    if as_json:
        print_json(found.as_json())
    else:
        _print_diagnosis(found)
    return 0 if found.can_spill else 1


def _print_diagnosis(found: Diagnosis) -> None:
    if found.parameters:
        _print_section("Parameters", [_row(each) for each in found.parameters])
    for uri in dict.fromkeys(verdict.uri for verdict in found.verdicts):
        rows = [_cells(each) for each in found.verdicts if each.uri == uri]
        _print_section(uri or "This machine", rows)
    _print_advice(found.verdicts)
    click.echo(_summary(found))


def _print_section(title: str, rows: Sequence[Sequence[str]]) -> None:
    click.echo(title)
    print_prose(rows)
    click.echo()


def _row(parameter: Parameter) -> tuple[str, str, str]:
    value = parameter.value
    shown = ", ".join(value) if isinstance(value, list) else str(value)
    return parameter.name, parameter.source, "none" if value in (None, "") else shown


def _cells(verdict: Verdict) -> tuple[str, str, str]:
    return verdict.outcome, verdict.name, verdict.found


def _print_advice(verdicts: Iterable[Verdict]) -> None:
    advice = [("", each.name, each.advice) for each in verdicts if each.advice]
    if advice:
        _print_section("To do", advice)


def _summary(found: Diagnosis) -> str:
    """Return the verdict on the whole machine."""
    counts = [f"{count} {name}" for name, count in _counted(found.verdicts)]
    verb = "can" if found.can_spill else "cannot"
    return f"This machine {verb} spill there: {', '.join(counts)}."


def _counted(verdicts: Sequence[Verdict]) -> Iterator[tuple[str, int]]:
    outcomes = [verdict.outcome for verdict in verdicts]
    for name in ("ok", "warning", "failed", "skipped"):
        if name in outcomes:
            yield name, outcomes.count(name)
