"""The chart of the speeds on S3."""

from __future__ import annotations

from collections.abc import Sequence

from fsspill.bench import chart
from fsspill.bench.chart import Panel
from tests.benchmarks.measure import Row
from tests.benchmarks.table import shown_size

__all__ = ["draw"]


def draw(rows: Sequence[Row], subtitle: str) -> str:
    """Draw a panel for each case and operation, with a bar for each contender.

    Parameters
    ----------
    rows : sequence of Row
        The measurements.
    subtitle : str
        Their conditions, for the line above the panels.

    Returns
    -------
    str
        The SVG document, with spilling on the left and restoring on the right.
    """
    panels = [
        Panel(
            f"{operation} {panel[0].count:,} x {shown_size(case.size)}",
            [(row.contender, row.mib_per_second) for row in panel],
        )
        for case in dict.fromkeys(row.case for row in rows)
        for operation in ("spill", "restore")
        if (panel := [row for row in rows if (row.case, row.operation) == (case, operation)])
    ]
    return chart.draw(panels, subtitle)
