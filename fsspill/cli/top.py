"""``fsspill top``: what the nodes of a running cluster spill and restore, live."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import click

from fsspill.cli.options import json_option
from fsspill.cli.tables import is_terminal, print_json, print_rows, render_rows
from fsspill.errors import ConfigError, format_seconds
from fsspill.monitoring.discovery import discover
from fsspill.monitoring.report import NodeReport, Quantiles, Report, make_report
from fsspill.monitoring.scrape import Scrape, metrics_url, scrape
from fsspill.settings import MIB

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["render", "top"]

_Find: TypeAlias = Callable[[], Sequence[str]]
"""Returns the endpoints of the nodes that are alive now."""

INTERVAL = 10.0
"""Seconds between two scrapes: processes report to Ray's agent no more often by default."""

_WINDOW = 3
"""Intervals over which the rates of the live view are taken, so that they do not flicker."""

_MOVED = ("node", "tier", "spilled/s", "restored/s", "spill s", "restore s")
_STATE = ("node", "errors/s", "retries/s", "circuit", "in flight", "deletions")
_NO_ANSWER = ("-", "-", "no answer", "-", "-")


@click.command(
    short_help="Show what a running cluster spills and restores, live.",
    epilog="""\b
Examples:
  fsspill top
  fsspill top 10.0.0.1:6379 --interval 5
  fsspill top --metrics http://10.0.0.1:8080 --metrics http://10.0.0.2:8080
  fsspill top --json
""",
)
@click.argument("address", required=False)
@click.option(
    "--metrics",
    "urls",
    metavar="URL",
    multiple=True,
    help="Endpoint of a node for Prometheus, instead of a cluster; may be given several times.",
)
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=INTERVAL,
    show_default=True,
    metavar="SECONDS",
    help="Time between two looks. Ray's processes report every 10 seconds by default.",
)
@click.option("--once", is_flag=True, help="Look twice, print the difference, and end.")
@json_option
def top(
    address: str | None, urls: tuple[str, ...], interval: float, once: bool, as_json: bool
) -> None:
    """Show what the nodes of a running cluster spill and restore, until Ctrl-C.

    ADDRESS is the host and port of Ray's head (default: the cluster that runs on this machine).
    The nodes are asked for their metrics directly: no Prometheus is needed.

    "spill s" and "restore s" are seconds, median/99 %, of a batch that was spilled and of an object
    that was restored. In flight are requests and their bytes, deletions are those that wait.
    """
    find = _make_find(address, urls)
    if as_json or once or not is_terminal():
        report = _look_twice(find, interval)
        if as_json:
            print_json(asdict(report))
        else:
            _print(report)
    else:
        _show_live(find, interval)


def _make_find(address: str | None, urls: Sequence[str]) -> _Find:
    if address and urls:
        raise click.UsageError("expected ADDRESS or --metrics, not both")
    if urls:
        return partial(list, dict.fromkeys(map(metrics_url, urls)))
    if not address or address == "auto":
        return lambda: [metrics_url(place) for place in discover()]
    from fsspill.ray.metrics_endpoints import metrics_endpoints

    return lambda: [metrics_url(place) for place in metrics_endpoints(address)]


def _look_twice(find: _Find, interval: float) -> Report:
    before = _first_look(find)
    time.sleep(interval)
    return make_report(before, scrape(find()))


def _first_look(find: _Find) -> Scrape:
    found = scrape(find())
    if not found.samples:
        first = [f" ({place}: {reason})" for place, reason in found.failures.items()][:1]
        raise ConfigError(
            f"no node answers at its endpoint for metrics{''.join(first)}. Expected a cluster that "
            "runs, and ray[default] on its nodes."
        )
    return found


def _show_live(find: _Find, interval: float) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    scrapes = deque([_first_look(find)], maxlen=_WINDOW + 1)
    # Ctrl-C is how it ends.
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while True:
            before = scrapes[0] if len(scrapes) > 1 else None
            shown = render(console, make_report(before, scrapes[-1]), time.strftime("%H:%M:%S"))
            live.update(shown, refresh=True)
            time.sleep(interval)
            scrapes.append(scrape(find()))


def render(console: Console, report: Report, clock: str) -> RenderableType:
    """Return what the live view shows at a time of the day, for rich."""
    from rich.console import Group
    from rich.text import Text

    title = Text(f"{clock}  {_title(report)}  Ctrl-C ends", style="dim")
    tables = [
        render_rows(console, header, rows, names=1) for header, rows in _tables(report) if rows
    ]
    # The end may have no room.
    return Group(title, *map(Text, _remarks(report)), *tables)


def _print(report: Report) -> None:
    click.echo(_title(report))
    for header, rows in _tables(report):
        if rows:
            print_rows(header, rows, names=1)
    for line in _remarks(report):
        click.echo(line)


def _title(report: Report) -> str:
    nodes = f"{len(report.nodes)} node{'s' * (len(report.nodes) != 1)}"
    if report.seconds is None:
        return f"{nodes}  rates follow"
    return f"{nodes}  rates over {format_seconds(report.seconds)}"


def _tables(report: Report) -> Iterator[tuple[Sequence[str], list[Sequence[str]]]]:
    nodes = [report.cluster, *report.nodes] if len(report.nodes) > 1 else report.nodes
    names = _names(nodes)
    moved: list[Sequence[str]] = [
        (
            names[node.node],
            tier.tier,
            _mib(tier.spilled_bytes_per_second),
            _mib(tier.restored_bytes_per_second),
            _seconds(tier.spill_seconds),
            _seconds(tier.restore_seconds),
        )
        for node in nodes
        for tier in node.tiers
    ]
    yield _MOVED, moved
    states = [_state(names[node.node], node) for node in nodes]
    yield _STATE, [*states, *((place, *_NO_ANSWER) for place in report.failures)]


def _state(name: str, node: NodeReport) -> Sequence[str]:
    in_flight = f"{node.requests_in_flight:,}"
    if node.bytes_in_flight:
        in_flight += f", {_mib(node.bytes_in_flight)}"
    return (
        name,
        _number(node.errors_per_second),
        _number(node.retries_per_second),
        "open" if node.open_circuits else "closed",
        in_flight,
        f"{node.pending_deletions:,}",
    )


def _names(nodes: Sequence[NodeReport]) -> dict[str, str]:
    """Return what each node is called: its address, with its id where several have the same."""
    addresses = [node.address for node in nodes]
    return {
        node.node: node.address
        if addresses.count(node.address) == 1
        else f"{node.address} {node.node[:8]}"
        for node in nodes
    }


def _remarks(report: Report) -> Iterator[str]:
    """Yield a line for each thing that has to be told by its name."""
    if not report.nodes:
        yield "No metrics of fsspill yet: nothing was spilled, or it was not reported so far."
    for uri in report.cluster.open_circuits:
        nodes = [node.address for node in report.nodes if uri in node.open_circuits]
        named = f"{nodes[0]} does" if len(nodes) == 1 else f"{len(nodes)} nodes do"
        yield f"{named} not write to {uri}: it is unhealthy"
    for reason, count in report.cluster.lost_objects.items():
        if count:
            yield f"objects lost so far, {reason}: {count:,}"
    for place, reason in report.failures.items():
        yield f"{place} does not answer: {reason}"


def _mib(nbytes: float | None) -> str:
    return "-" if nbytes is None else f"{_number(nbytes / MIB)} MiB"


def _number(value: float | None) -> str:
    """Return a number with a decimal if it is below 10, and none at 0."""
    if value is None:
        return "-"
    return f"{value:,.1f}" if 0 < value < 9.95 else f"{value:,.0f}"


def _seconds(quantiles: Quantiles) -> str:
    """Return the median and the 99th percentile, in two digits."""
    if quantiles.p50 is None or quantiles.p99 is None:
        return "-"
    return "/".join(f"{float(f'{each:.2g}'):g}" for each in (quantiles.p50, quantiles.p99))
