"""A bar chart of speeds, as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from tests.benchmarks.measure import Row
from tests.benchmarks.table import shown_size, shown_speed

__all__ = ["draw"]

_PANEL_WIDTH, _LABEL_WIDTH, _NUMBER_WIDTH = 430, 170, 60
_BAR_HEIGHT, _BAR_STEP, _TITLE_HEIGHT, _GAP = 16, 22, 30, 18
_TOP = 34

# One grey for all text and no background: legible on white and on black. A picture on GitHub
# cannot detect the colour of the page.
_TEXT, _OTHERS, _FSSPILL = "#7d8590", "#8b949e", "#2f81f7"


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
    cases = list(dict.fromkeys(row.case for row in rows))
    contenders = len({row.contender for row in rows})
    panel_height = _TITLE_HEIGHT + contenders * _BAR_STEP + _GAP
    parts = [_text(0, 16, f"MiB/s, {subtitle}")]
    for index, case in enumerate(cases):
        for column, operation in enumerate(("spill", "restore")):
            panel = [row for row in rows if (row.case, row.operation) == (case, operation)]
            parts += _panel(panel, column * _PANEL_WIDTH, _TOP + index * panel_height)
    width, height = 2 * _PANEL_WIDTH, _TOP + len(cases) * panel_height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'font-family="sans-serif" font-size="13" fill="{_TEXT}" role="img">\n'
        "<title>Speed of spilling and restoring</title>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _panel(rows: Sequence[Row], left: int, top: int) -> Iterator[str]:
    operation, case = rows[0].operation, rows[0].case
    title = f"{operation} {rows[0].count:,} x {shown_size(case.size)}"
    yield _text(left, top + 16, title, weight="bold")
    longest = _PANEL_WIDTH - _LABEL_WIDTH - _NUMBER_WIDTH
    fastest = max(row.mib_per_second for row in rows)
    for index, row in enumerate(rows):
        y = top + _TITLE_HEIGHT + index * _BAR_STEP
        width = max(1, round(longest * row.mib_per_second / fastest))
        x, baseline = left + _LABEL_WIDTH, y + _BAR_HEIGHT - 3
        color = _FSSPILL if row.contender.startswith("fsspill") else _OTHERS
        yield _text(x - 8, baseline, row.contender, anchor="end")
        yield f'<rect x="{x}" y="{y}" width="{width}" height="{_BAR_HEIGHT}" fill="{color}"/>'
        yield _text(x + width + 6, baseline, shown_speed(row.mib_per_second))


def _text(x: int, y: int, text: str, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'
    )
