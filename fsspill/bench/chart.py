"""Bar charts of speeds, as SVG, or by matplotlib in any format that it has."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from fsspill.bench.contenders import FSSPILL
from fsspill.errors import ConfigError, MissingPackageError

__all__ = ["Panel", "check_chart", "draw", "shown_speed", "write_chart"]

_PANEL_WIDTH, _LABEL_WIDTH, _NUMBER_WIDTH = 430, 190, 60
_BAR_HEIGHT, _BAR_STEP, _TITLE_HEIGHT, _GAP = 16, 22, 30, 18
_TOP = 34

# One grey for all text and no background: legible on white and on black. A picture on GitHub
# cannot detect the colour of the page.
_TEXT, _OTHERS, _FSSPILL = "#7d8590", "#8b949e", "#2f81f7"


@dataclass(frozen=True)
class Panel:
    """The bars of one operation.

    Attributes
    ----------
    title : str
        Title of the panel.
    bars : sequence of (str, float)
        Name and speed in MiB/s of each contender.
    """

    title: str
    bars: Sequence[tuple[str, float]]


def shown_speed(number: float) -> str:
    """Return a number without decimals, or with one if it is below 10."""
    return f"{number:,.1f}" if number < 10 else f"{number:,.0f}"


def write_chart(path: str, panels: Sequence[Panel], subtitle: str) -> None:
    """Write a chart in the format of the file's name.

    Raises
    ------
    MissingPackageError
        The format is not SVG, and matplotlib is not installed.
    ConfigError
        matplotlib has no such format, or the file cannot be written.
    """
    try:
        if path.lower().endswith(".svg"):
            with open(path, "w") as file:
                file.write(draw(panels, subtitle))
        else:
            _plot(path, panels, subtitle)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot write a chart to {path!r}: {error}") from error


def check_chart(path: str) -> None:
    """Check that a chart could be written, before anything is measured. Errors as of writing."""
    directory = os.path.dirname(path) or "."
    if not os.path.isdir(directory):
        raise ConfigError(
            f"cannot write a chart to {path!r}: expected a directory {directory!r} that exists."
        )
    if not path.lower().endswith(".svg"):
        _figure_class()


def draw(panels: Sequence[Panel], subtitle: str) -> str:
    """Draw panels in two columns, as a document of SVG.

    Parameters
    ----------
    panels : sequence of Panel
        The panels, by rows.
    subtitle : str
        Conditions of the measurements, for the line above the panels.
    """
    height = _TITLE_HEIGHT + max(len(panel.bars) for panel in panels) * _BAR_STEP + _GAP
    parts = [_text(0, 16, f"MiB/s, {subtitle}")]
    for index, panel in enumerate(panels):
        row, column = divmod(index, 2)
        parts += _panel(panel, column * _PANEL_WIDTH, _TOP + row * height)
    width, total = 2 * _PANEL_WIDTH, _TOP + -(-len(panels) // 2) * height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {total}" width="{width}" '
        f'font-family="sans-serif" font-size="13" fill="{_TEXT}" role="img">\n'
        "<title>Speed of spilling and restoring</title>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _panel(panel: Panel, left: int, top: int) -> Iterator[str]:
    yield _text(left, top + 16, panel.title, weight="bold")
    longest = _PANEL_WIDTH - _LABEL_WIDTH - _NUMBER_WIDTH
    fastest = max(speed for _, speed in panel.bars)
    for index, (name, speed) in enumerate(panel.bars):
        y = top + _TITLE_HEIGHT + index * _BAR_STEP
        width = max(1, round(longest * speed / fastest))
        x, baseline = left + _LABEL_WIDTH, y + _BAR_HEIGHT - 3
        yield _text(x - 8, baseline, name, anchor="end")
        size = f'width="{width}" height="{_BAR_HEIGHT}"'
        yield f'<rect x="{x}" y="{y}" {size} fill="{_color(name)}"/>'
        yield _text(x + width + 6, baseline, shown_speed(speed))


def _color(name: str) -> str:
    return _FSSPILL if name.startswith(FSSPILL) else _OTHERS


def _text(x: int, y: int, text: str, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'
    )


def _figure_class() -> type:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError(
            "cannot draw this chart: expected a name that ends with .svg, or the package "
            "matplotlib, which draws other formats. Install it: pip install matplotlib"
        ) from error
    found: type = Figure
    return found


def _plot(path: str, panels: Sequence[Panel], subtitle: str) -> None:
    rows = -(-len(panels) // 2)
    figure = _figure_class()(figsize=(10, 2.6 * rows), layout="constrained")
    figure.suptitle(f"MiB/s, {subtitle}")
    axes = figure.subplots(rows, 2, squeeze=False).flat
    for panel, axis in zip(panels, axes, strict=False):
        names, speeds = zip(*panel.bars, strict=True)
        bars = axis.barh(names, speeds, color=[_color(name) for name in names])
        axis.bar_label(bars, [shown_speed(speed) for speed in speeds], padding=3)
        axis.set_title(panel.title)
        axis.invert_yaxis()
        axis.margins(x=0.15)
    figure.savefig(path)
