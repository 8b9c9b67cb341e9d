"""Output of the command line: tables and progress on a terminal, lines of words elsewhere."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from fsspill.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress as Bars
    from rich.progress import TaskID
    from rich.table import Table
    from rich.text import Text

__all__ = [
    "UNITS",
    "is_terminal",
    "print_json",
    "print_prose",
    "print_rows",
    "render_rows",
    "show_progress",
]

UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
"""Seconds of each unit of time, the largest first."""

_STYLES = {
    "alive": "green",
    "right": "green",
    "closed": "green",
    "dead": "red",
    "no answer": "red",
    "open": "bold red",
    "wrong": "bold red",
    "unknown": "yellow",
    "unchecked": "yellow",
    "ok": "green",
    "warning": "yellow",
    "failed": "bold red",
    "skipped": "dim",
}
"""Styles of cells, by their text."""

_WIDEST = 10_000
"""Columns in which every table has room."""

_NUMBER = re.compile(r"[0-9<][0-9,.]*( ?[A-Za-z]+)?|-")


def is_terminal() -> bool:
    """Return True if tables are printed: on a terminal, where the package for them is installed."""
    return sys.stdout.isatty() and _has_rich()


def _has_rich() -> bool:
    return importlib.util.find_spec("rich") is not None


def print_json(value: Mapping[str, Any]) -> None:
    """Print an object for programs."""
    print(json.dumps(value, indent=2))


def print_rows(header: Sequence[str], rows: Sequence[Sequence[str]], *, names: int = 0) -> None:
    """Print rows: words, or on a terminal a table, or blocks of lines where that is too wide.

    Parameters
    ----------
    header : sequence of str
        Title of each column; no line of titles where all are empty.
    rows : sequence of sequence of str
        Cells. A column of numbers is aligned to the right.
    names : int
        Number of leading columns that name the row, "-" for none, the last one most closely. They
        may be long, and are printed in full, to be copied.
    """
    if not is_terminal():
        for row in (header, *rows) if any(header) else rows:
            print(*row)
        return
    from rich.console import Console

    console = Console(highlight=False)
    console.print(render_rows(console, header, rows, names=names), soft_wrap=True)


def render_rows(
    console: Console, header: Sequence[str], rows: Sequence[Sequence[str]], *, names: int = 0
) -> RenderableType:
    """Return what `print_rows` prints on a terminal, for rich."""
    from rich.console import Group

    table = _make_table(header, rows, names)
    wide = console.options.update(width=_WIDEST)
    if console.measure(table, options=wide).maximum <= console.width:
        return table
    return Group(*_block_lines(console.width, header, rows, names))


def print_prose(rows: Sequence[Sequence[str]]) -> None:
    """Print rows whose last cell is a text: it is wrapped beside the others on a terminal.

    Elsewhere each row is a line of words.
    """
    if not is_terminal():
        for row in rows:
            print(*filter(None, row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 1))
    last = len(rows[0]) - 1
    for number in range(last + 1):
        table.add_column(no_wrap=number < last, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    Console(highlight=False).print(table)


def _make_table(header: Sequence[str], rows: Sequence[Sequence[str]], names: int) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, show_header=any(header))
    columns = zip(*rows, strict=True) if rows else header
    for index, (title, cells) in enumerate(zip(header, columns, strict=True)):
        is_number = index >= names and all(map(_NUMBER.fullmatch, cells))
        table.add_column(title, justify="right" if is_number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    return table


def _block_lines(
    width: int, header: Sequence[str], rows: Sequence[Sequence[str]], names: int
) -> Iterator[Text]:
    """Yield the name of each row on a line, and its other cells with their titles below it."""
    from rich.text import Text

    for row in rows:
        named = [name for name in row[:names] if name != "-"]
        if named:
            indent = "  " * (len(named) - 1)
            yield Text(indent + named[-1], style="bold")
        indent = "  " * len(named)
        cells = zip(header[names:], row[names:], strict=True)
        shown = [
            Text.assemble(f"{title} ", (cell, _STYLES.get(cell, "")))
            for title, cell in cells
            if cell != "-"
        ]
        for line in _fill(shown, width - len(indent)):
            yield Text(indent) + line


def _fill(words: Sequence[Text], width: int) -> list[Text]:
    """Return lines of words, which are not broken."""
    lines: list[Text] = []
    for word in words:
        if lines and lines[-1].cell_len + 2 + word.cell_len <= width:
            lines[-1] = lines[-1] + "  " + word
        else:
            lines.append(word)
    return lines


@contextmanager
def show_progress(*, silent: bool = False) -> Iterator[Progress]:
    """Show a bar per step on a terminal, and a line per finished step elsewhere or without rich.

    Parameters
    ----------
    silent : bool
        True to print no lines of finished steps: nothing but the result is wanted on the standard
        output. All else is on the error output, and only if that is a terminal.
    """
    if not (sys.stderr.isatty() and _has_rich()):
        yield partial(_show_line, silent)
        return
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    columns = (
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}"),
        # Room remains for the ^C that a terminal shows, which would break a line of full width.
        BarColumn(max(10, min(40, console.width - 50))),
        TextColumn("{task.fields[count]}", justify="right"),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=console) as bars:
        shown = _BarsByStep(bars)
        try:
            yield shown
        finally:
            shown.finish()


class _BarsByStep:
    """The bars of the steps of a command; a step of unknown length is shown until the next one.

    Right at any time, since Ctrl-C may come at any time.
    """

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._steps: dict[str, TaskID] = {}
        self._waiting: tuple[str, TaskID] | None = None

    def __call__(self, step: str, done: int, total: int) -> None:
        if self._waiting and self._waiting[0] == step and not total:
            return
        self._end_waiting()
        if not total:
            self._waiting = step, self._bars.add_task(step, total=None, count="")
            return
        count = f"{done:,}/{total:,}"
        if step not in self._steps:
            self._steps[step] = self._bars.add_task(step, total=total, count=count)
        self._bars.update(self._steps[step], completed=done, total=total, count=count)

    def finish(self) -> None:
        """Leave the bars of known length on the screen, and nothing if there are none."""
        self._end_waiting()
        self._bars.live.transient = not self._steps

    def _end_waiting(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting:
            self._bars.remove_task(waiting[1])


def _show_line(silent: bool, step: str, done: int, total: int) -> None:
    if not total and sys.stderr.isatty():
        print(f"{step} ...", file=sys.stderr)
    elif total and done == total and not silent:
        print(f"{step}: {done} of {total}", flush=True)
