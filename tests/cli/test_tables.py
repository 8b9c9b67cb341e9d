"""Output of the command line on a terminal, and elsewhere."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable

import pytest

from fsspill.cli.tables import is_terminal, print_json, print_prose, print_rows, show_progress

NODE = "4f0c8e2ab1d34c5e9f60718293a4b5c6d7e8f9011223344556677889"
SESSION = "session_2026-11-28_03-38-23_123456_1234567"
HEADER = ("session", "node", "files", "bytes", "state")
ROWS = [
    (SESSION, "-", "1,234", "1,099,511,627,776", "dead"),
    (SESSION, NODE, "1,234", "1,099,511,627,776", "unknown"),
]

Screen = Callable[..., io.StringIO]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Return a function that makes both outputs a terminal of so many columns."""

    def make(columns: int = 80, **variables: str) -> io.StringIO:
        terminal = _Terminal()
        for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE"):
            monkeypatch.delenv(name, raising=False)
        defaults = {"TERM": "xterm-256color", "COLUMNS": str(columns)}
        for name, value in (defaults | variables).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.stdout", terminal)
        monkeypatch.setattr("sys.stderr", terminal)
        return terminal

    return make


def plain(terminal: io.StringIO) -> str:
    """Return what is on a screen without its styles."""
    return re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())


def test_elsewhere_rows_are_words(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each row, its titles before them."""
    print_rows(HEADER, ROWS, names=2)
    assert capsys.readouterr().out.splitlines() == [" ".join(row) for row in (HEADER, *ROWS)]


def test_without_its_package_there_is_no_table(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines of words, on a terminal too."""
    shown = screen()
    monkeypatch.setattr("fsspill.cli.tables._has_rich", lambda: False)
    assert not is_terminal()
    print_rows(("a", "b"), [("1", "x")])
    assert shown.getvalue() == "a b\n1 x\n"


PROSE = [("warning", "https", "others on the network see the objects"), ("ok", "read", "2 bytes")]


def test_prose_is_wrapped_beside_its_other_cells(screen: Screen) -> None:
    """No line is wider than the terminal; elsewhere a row is one line."""
    shown = screen(40)
    print_prose(PROSE)
    assert [line.rstrip() for line in plain(shown).splitlines()] == [
        "warning  https  others on the network",
        "                see the objects",
        "ok       read   2 bytes",
    ]


def test_elsewhere_prose_is_not_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    """Cells that are empty leave no gap."""
    print_prose([*PROSE, ("", "https", "Use it.")])
    assert capsys.readouterr().out.splitlines() == [
        "warning https others on the network see the objects",
        "ok read 2 bytes",
        "https Use it.",
    ]


@pytest.mark.parametrize("columns", [60, 80])
def test_what_is_too_wide_for_a_table_is_printed_in_blocks(screen: Screen, columns: int) -> None:
    """No line is wider than the terminal, and no name is cut: it may have to be copied."""
    shown = screen(columns)
    print_rows(HEADER, ROWS, names=2)
    lines = plain(shown).splitlines()
    assert lines == [
        SESSION,
        "  files 1,234  bytes 1,099,511,627,776  state dead",
        f"  {NODE}",
        "    files 1,234  bytes 1,099,511,627,776  state unknown",
    ]
    assert max(map(len, lines)) <= columns


def test_a_table_is_printed_where_it_fits(screen: Screen) -> None:
    """Numbers are aligned to the right."""
    shown = screen(160)
    print_rows(HEADER, ROWS, names=2)
    [header, _, *rows] = [line for line in plain(shown).splitlines() if line.strip()]
    assert header.split() == list(HEADER)
    assert [row.split() for row in rows] == [list(row) for row in ROWS]
    assert header.index("files") + len("files") == rows[0].index("1,234") + len("1,234")


def test_names_are_aligned_to_the_left(screen: Screen) -> None:
    """Also those that look like numbers, as the addresses of nodes."""
    shown = screen(80)
    print_rows(("a long title", "number"), [("10.0.0.1", "7")], names=1)
    [header, _, row] = [line for line in plain(shown).splitlines() if line.strip()]
    assert header.index("a long title") == row.index("10.0.0.1")


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_are_for_terminals_that_want_them(
    screen: Screen, variables: dict[str, str]
) -> None:
    """NO_COLOR and a dumb terminal have none."""
    shown = screen(160, **variables)
    print_rows(HEADER, ROWS, names=2)
    assert ("\x1b[31mdead" in shown.getvalue()) is not bool(variables)


def test_markup_in_cells_is_text(screen: Screen) -> None:
    """What a file holds may look like it."""
    shown = screen()
    print_rows(("metadata",), [("[bold]x[/bold]",), ("[/nonsense]",)])
    assert "[bold]x[/bold]" in plain(shown)
    assert "[/nonsense]" in plain(shown)


def test_json_is_printed_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """One object."""
    print_json({"a": [1, None]})
    assert json.loads(capsys.readouterr().out) == {"a": [1, None]}


def test_progress_is_a_line_per_finished_step(capsys: pytest.CaptureFixture[str]) -> None:
    """The output is not a terminal. What has no number is not mentioned."""
    with show_progress() as progress:
        progress("starting", 0, 0)
        for done in range(3):
            progress("created", done, 2)
        progress("verified", 1, 2)
    captured = capsys.readouterr()
    assert captured.out == "created: 2 of 2\n"
    assert captured.err == ""


def test_silent_progress_prints_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The result is all that a program reads."""
    with show_progress(silent=True) as progress:
        progress("created", 2, 2)
    assert capsys.readouterr().out == ""


def test_without_its_package_a_terminal_shows_what_takes_a_while(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As lines, from the beginning."""
    shown = screen()
    monkeypatch.setattr("fsspill.cli.tables._has_rich", lambda: False)
    with show_progress() as progress:
        progress("starting", 0, 0)
        progress("created", 1, 2)
        progress("created", 2, 2)
    assert shown.getvalue() == "starting ...\ncreated: 2 of 2\n"


def test_bars_are_on_the_error_output(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of known length stay, what takes a while is gone in the end."""
    shown = screen(60)
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    with show_progress(silent=True) as progress:
        progress("starting", 0, 0)
        progress("created", 1, 1000)
        progress("stopping", 0, 0)
        assert "starting" in shown.getvalue()
    last = shown.getvalue().rpartition("\x1b[2K")[2]
    assert "1/1,000" in last
    assert "starting" not in last
    assert "stopping" not in last
    assert out.getvalue() == ""
    assert sys.stderr is shown


def test_nothing_stays_of_what_has_no_number(screen: Screen) -> None:
    """The screen is as before."""
    shown = screen(60)
    with show_progress() as progress:
        progress("listing", 0, 0)
    assert shown.getvalue().rpartition("\x1b[2K")[2].replace("\x1b[?25h", "").strip() == ""
