"""Pictures of ``fsspill top`` and of the dashboard, for the README, with a simulated cluster.

``python -m tests.monitoring.pictures docs/top.svg docs/dashboard.svg`` draws them. The curves are
the answers of a real Prometheus to the expressions of the dashboard.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fsspill.cli.top import render
from fsspill.monitoring.dashboard import make_dashboard
from fsspill.monitoring.exposition import parse
from fsspill.monitoring.report import make_report
from fsspill.monitoring.scrape import Scrape
from tests.monitoring.prometheus import Prometheus, find_programs, prometheus
from tests.monitoring.simulation import STEP, Cluster, history

END = 1_796_140_800.0
"""Time of the last step: any, but always the same."""

SECONDS = 3600
VARIABLES = {"$__rate_interval": "1m", "$__range": f"{SECONDS}s", "$node": ".*", "$uri": ".*"}

_UNITS: Mapping[str, tuple[float, str]] = {
    "binBps": (2**20, "MiB/s"),
    "bytes": (2**30, "GiB"),
    "currencyUSD": (1, "dollars"),
    "none": (1, ""),
    "ops": (1, "per s"),
    "percentunit": (0.01, "%"),
    "reqps": (1, "requests/s"),
    "s": (1, "s"),
}
"""Divisor and name, by Grafana's name of a unit."""

_PAGE, _PANEL, _TEXT, _GRID = "#111217", "#181b1f", "#ccccdc", "#2c3235"
_COLORS = ("#73bf69", "#f2cc0c", "#5794f2", "#ff780a", "#f2495c", "#b877d9", "#8ab8ff", "#96d98d")


def with_values(expression: str) -> str:
    """Return an expression with values for the variables of Grafana."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


def answers(found: Prometheus, panel: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the legend and the values of each series of a panel, over the last hour."""
    for target in panel["targets"]:
        expression = with_values(target["expr"])
        if target["instant"]:
            series = [{**each, "values": [each["value"]]} for each in found.query(expression, END)]
        else:
            series = found.query_range(expression, END - SECONDS + 60, END, 4 * STEP)
        for each in series:
            yield _legend(target["legendFormat"], each["metric"]), each["values"]


def _legend(template: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), template)


def draw_top(path: str) -> None:
    """Draw what a terminal of 80 columns shows of the simulated cluster."""
    from rich.console import Console

    cluster, scrapes = Cluster(), []
    while cluster.seconds < 1920:  # while one of the buckets does not answer
        cluster.step()
        pages = {f"{node}:8080": list(parse(cluster.exposition(node))) for node in cluster.nodes}
        failures = {"10.0.0.15:8080": "Connection refused"}
        scrapes.append(Scrape(float(cluster.seconds), pages, failures))
    console = Console(record=True, width=80, file=io.StringIO(), highlight=False)
    console.print(render(console, make_report(scrapes[-3], scrapes[-1]), "14:03:22"))
    # Without the fonts, which would be fetched from elsewhere.
    drawn = re.sub(
        r"@font-face \{.*?\}\s*", "", console.export_svg(title="fsspill top"), flags=re.S
    )
    Path(path).write_text(drawn)


def draw_dashboard(path: str, found: Prometheus) -> None:
    """Draw every panel of the dashboard in its place."""
    import matplotlib
    from matplotlib.figure import Figure

    panels = json.loads(make_dashboard())["panels"]
    last = panels[-1]["gridPos"]
    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": "fsspill",
        "font.size": 7,
        "path.simplify": True,
    }
    with matplotlib.rc_context(style):
        rows = last["y"] + last["h"]
        figure = Figure(figsize=(13, rows * 0.27), facecolor=_PAGE)
        for panel in panels:
            place = panel["gridPos"]
            if panel["type"] == "row":
                y = 1 - (place["y"] + 0.75) / rows
                figure.text(0.012, y, panel["title"], color=_TEXT, fontsize=9, weight="bold")
                continue
            left, bottom = place["x"] / 24 + 0.032, 1 - (place["y"] + place["h"] - 1.9) / rows
            size = place["w"] / 24 - 0.042, (place["h"] - 3.1) / rows
            _draw(figure.add_axes((left, bottom, *size)), panel, list(answers(found, panel)))
        note = "a simulated cluster of 4 nodes; minutes before now"
        figure.text(0.99, 1 - 0.75 / rows, note, color=_TEXT, horizontalalignment="right")
        figure.savefig(path, metadata={"Date": None})


@contextmanager
def simulated_hour() -> Iterator[Prometheus]:
    """Run a Prometheus that has seen the simulated cluster for an hour."""
    with tempfile.TemporaryDirectory() as name:
        programs = find_programs(Path(name))
        data = Path(name) / "history"
        data.mkdir()
        with prometheus(programs, data, history(SECONDS, END)) as found:
            yield found


def _draw(axes: Any, panel: Mapping[str, Any], curves: list[tuple[str, list[Any]]]) -> None:
    divisor, unit = _UNITS[panel["fieldConfig"]["defaults"]["unit"]]
    axes.set_title(panel["title"], color=_TEXT, fontsize=8, loc="left")
    axes.set_facecolor(_PANEL)
    if panel["type"] == "stat":
        for index, (name, [(_, value)]) in enumerate(curves):
            y = 0.7 - 0.35 * index
            axes.text(0.06, y, f"${float(value):.2f}", color=_COLORS[0], fontsize=20)
            axes.text(0.42, y, name, color=_TEXT)
        axes.set_axis_off()
        return
    for index, (name, values) in enumerate(curves):
        minutes = [(time - END) / 60 for time, _ in values]
        shown = [round(float(value) / divisor, 4) for _, value in values]
        color = _COLORS[index % len(_COLORS)]
        axes.plot(minutes, shown, label=name, color=color, linewidth=1)
    axes.set_xlim(-SECONDS / 60, 0)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(unit, color=_TEXT)
    axes.grid(color=_GRID, linewidth=0.5)
    axes.tick_params(colors=_TEXT, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    # Grafana scrolls what has no room.
    columns = max(1, panel["gridPos"]["w"] * 11 // (max(len(name) for name, _ in curves) + 7))
    lines, names = axes.get_legend_handles_labels()
    axes.legend(
        lines[: 2 * columns],
        names[: 2 * columns],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.13),
        ncols=columns,
        frameon=False,
        labelcolor=_TEXT,
        fontsize=6,
    )


def main() -> None:
    """Draw both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("top", help="file of the picture of fsspill top")
    parser.add_argument("dashboard", help="file of the picture of the dashboard")
    arguments = parser.parse_args()
    draw_top(arguments.top)
    with simulated_hour() as found:
        draw_dashboard(arguments.dashboard, found)


if __name__ == "__main__":
    main()
