"""``fsspill check``: the reasons for which this machine, or a cluster, cannot spill to a URI."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from fsspill.cli.options import json_option
from fsspill.cli.tables import print_json, print_prose, print_rows, show_progress
from fsspill.diagnosis.parameters import Parameter
from fsspill.diagnosis.run import Diagnosis, diagnose
from fsspill.diagnosis.verdict import Verdict
from fsspill.storage.packages import PACKAGES
from fsspill.storage.protocols import traits_of

if TYPE_CHECKING:
    from fsspill.ray.cluster_diagnosis import ClusterDiagnosis, NodeDiagnosis

__all__ = ["check"]

_HERE = "auto"
"""Ray's address of the cluster that runs on this machine, or that the environment names."""


@click.command(
    short_help="Check whether this machine, or a cluster, can spill to a URI.",
    epilog="""\b
Examples:
  fsspill check s3://bucket/spill
  fsspill check s3://bucket/spill --no-speed --json
  fsspill check file:///mnt/nfs/spill --shared
  fsspill check --cluster
  fsspill check s3://bucket/spill --cluster 10.0.0.1:6379
""",
)
@click.argument("uris", metavar="[URI]...", nargs=-1)
@click.option(
    "--cluster",
    is_flag=False,
    flag_value=_HERE,
    metavar="[ADDRESS]",
    help="On every node of a Ray cluster: host:port of its head (default: the one that runs here). "
    "Without URI, where that cluster spills to.",
)
@click.option("--shared", is_flag=True, help="The file:// URI is a directory of all nodes.")
@click.option(
    "--speed/--no-speed",
    default=None,
    help="Measure the speed, with up to 65 MiB (default: yes, except in clusters of more than 20 "
    "nodes).",
)
@json_option
def check(
    uris: tuple[str, ...],
    cluster: str | None,
    shared: bool,
    speed: bool | None,
    as_json: bool,
) -> int:
    """Check whether this machine can spill to URI, or to several.

    Every permission is tried by itself, and what costs time, money or objects is named: versions
    that stay, rules of the bucket, region, clock, latency, bandwidth, disk, packages, Ray's hook.
    Parameters are taken from the environment (FSSPILL_*), as Ray's nodes do it.

    Of each check there is a verdict: ok; warning, which costs something; failed, with which the
    machine cannot spill; or skipped. The exit code is 1 if any failed.

    What it writes is removed, also after Ctrl-C, and nothing else there is touched. It takes about
    half a minute, and less than 0.01 dollars a node.
    """
    uris, cluster = _arguments(uris, cluster)
    with show_progress(silent=True) as progress:
        if cluster:
            # Only here: it imports Ray.
            from fsspill.ray.cluster_diagnosis import diagnose_cluster

            options = {"shared": shared, "speed": speed, "progress": progress}
            nodes = diagnose_cluster(cluster, uris, **options)  # type: ignore[arg-type]
        else:
            params = {"uri": list(uris), **({"shared": True} if shared else {})}
            config = {"type": "fsspec", "params": params}
            found = diagnose(config, speed=speed is not False, progress=progress)
    result = nodes if cluster else found
    if as_json:
        print_json(result.as_json())
    elif cluster:
        _print_cluster(nodes)
    else:
        _print_diagnosis(found)
    return 0 if result.can_spill else 1


def _arguments(uris: tuple[str, ...], cluster: str | None) -> tuple[tuple[str, ...], str | None]:
    """Return the URIs and the address: click takes a URI behind ``--cluster`` for an address."""
    if cluster and cluster.startswith("ray://"):
        raise click.UsageError("expected host:port of the head after --cluster, found ray://")
    if cluster and "://" in cluster:
        return (cluster, *uris), _HERE
    if not uris and not cluster:
        raise click.UsageError("expected a URI, or --cluster")
    return uris, cluster


def _print_diagnosis(found: Diagnosis) -> None:
    if found.parameters:
        _print_section("Parameters", [_row(each) for each in found.parameters])
    for uri in dict.fromkeys(verdict.uri for verdict in found.verdicts):
        _print_section(
            uri or "This machine", _rows([each for each in found.verdicts if each.uri == uri])
        )
    _print_advice(_advice(found.verdicts))
    verb = "can" if found.can_spill else "cannot"
    click.echo(f"This machine {verb} spill there: {_counts(found.verdicts)}.")


def _print_section(title: str, rows: Sequence[Sequence[str]]) -> None:
    click.echo(title)
    print_prose(rows)
    click.echo()


def _row(parameter: Parameter) -> tuple[str, str, str]:
    value = parameter.value
    shown = ", ".join(value) if isinstance(value, list) else str(value)
    return parameter.name, parameter.source, "none" if value in (None, "") else shown


def _rows(verdicts: Iterable[Verdict]) -> list[tuple[str, str, str]]:
    """Return a row for each check that was made, and one for all that were skipped for a reason."""
    skipped: dict[str, list[str]] = {}
    rows = []
    for each in verdicts:
        if each.outcome == "skipped":
            skipped.setdefault(each.found, []).append(each.name)
        else:
            rows.append((each.outcome, each.name, each.found))
    return [
        *rows,
        *(("skipped", "", f"{', '.join(names)}: {found}") for found, names in skipped.items()),
    ]


def _advice(verdicts: Iterable[Verdict]) -> list[tuple[str, str, str]]:
    """Return what to do, once where several checks ask for the same."""
    first: dict[str, str] = {}
    for each in verdicts:
        first.setdefault(each.advice, each.name)
    return [("", name, advice) for advice, name in first.items() if advice]


def _print_advice(rows: Sequence[Sequence[str]]) -> None:
    if rows:
        _print_section("To do", rows)


def _counts(verdicts: Iterable[Verdict]) -> str:
    """Return how many checks came to which outcome."""
    outcomes = [verdict.outcome for verdict in verdicts]
    names = [name for name in ("ok", "warning", "failed", "skipped") if name in outcomes]
    return ", ".join(f"{outcomes.count(name)} {name}" for name in names)


def _print_cluster(found: ClusterDiagnosis) -> None:
    click.echo(f"Spilling to {', '.join(found.uris)}")
    packages = _packages(found.uris)
    header = ("node", "verdict", *packages, "checks")
    print_rows(header, [_node_row(node, packages) for node in found.nodes], names=1)
    for each in found.differences:
        lines = [("", value, ", ".join(nodes)) for value, nodes in each.nodes.items()]
        _print_section(f"{each.name} differs", lines)
    _print_advice(_cluster_advice(found))
    able = sum(node.can_spill for node in found.nodes)
    click.echo(f"{able} of {len(found.nodes)} nodes can spill there.")


def _packages(uris: Iterable[str]) -> list[str]:
    """Return the packages whose versions are shown of each node."""
    extras = {extra for uri in uris if (extra := traits_of(uri).extra)}
    return ["fsspill", "ray", "python", "fsspec", *(PACKAGES[extra][0] for extra in sorted(extras))]


def _node_row(node: NodeDiagnosis, packages: Sequence[str]) -> tuple[str, ...]:
    named = {
        outcome: [each["name"] for each in node.verdicts if each["outcome"] == outcome]
        for outcome in ("failed", "warning")
    }
    verdict = next((outcome for outcome, names in named.items() if names), "ok")
    versions = [node.versions.get(package, "-") for package in packages]
    checks = ", ".join([*named["failed"], *named["warning"]])
    return node.node, verdict, *versions, checks or "-"


def _cluster_advice(found: ClusterDiagnosis) -> list[tuple[str, str, str]]:
    """Return what to do, once for all nodes that found the same, but for numbers."""
    rows: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for node in found.nodes:
        for each in node.verdicts:
            if each["advice"]:
                key = each["name"], each["advice"], re.sub(r"[0-9.]", "", each["found"])
                rows.setdefault(key, []).append((node.node, each["found"]))
    return [
        ("", name, f"{_nodes(named, len(found.nodes))}: {named[0][1].rstrip('.')}. {advice}")
        for (name, advice, _), named in rows.items()
    ]


def _nodes(named: Sequence[tuple[str, str]], total: int) -> str:
    nodes = list(dict.fromkeys(node for node, _ in named))
    return "all nodes" if len(nodes) == total > 1 else ", ".join(nodes)
