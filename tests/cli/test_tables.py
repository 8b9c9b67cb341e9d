"""Output of the command line on a terminal, and elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fsspill import FsspillError
from fsspill.cleanup import Summary
from fsspill.cli.main import main
from fsspill.cli.tables import _age, _rate, print_report, print_summary, show_progress
from fsspill.demo import Report


def test_ls_prints_a_table_on_a_terminal(
    left_behind: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the package for it, lines of words."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["ls", f"file://{left_behind}", "--older-than", "7d"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["dead", "-", "1", "1,500", "2d", "recent", "0"] in rows
    monkeypatch.setitem(sys.modules, "rich", None)
    assert main(["ls", f"file://{left_behind}", "--older-than", "7d"]) == 0
    assert "dead - 1 1,500 2d recent 0" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("terminal", [True, False])
def test_clean_needs_no_further_package(
    terminal: bool,
    left_behind: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It may run from cron in an environment of few packages."""
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    assert main(["clean", f"file://{left_behind}", "--older-than", "1d"]) == 0
    assert "removed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (0.0, "0s"),
        (0.001, "<1s"),
        (0.999, "<1s"),
        (1.0, "1s"),
        (119.9, "119s"),
        (120.0, "2m"),
        (7199.0, "119m"),
        (7200.0, "2h"),
        (47 * 3600.0, "47h"),
        (50 * 3600.0, "2d"),
    ],
)
def test_an_age_has_the_largest_unit_of_which_there_are_two(
    seconds: float | None, shown: str
) -> None:
    """It is rounded down, so that nothing looks older than it is, but never to nothing."""
    assert _age(seconds) == shown


def test_a_summary_shows_ten_failures(capsys: pytest.CaptureFixture[str]) -> None:
    """On the error output, and counts the others."""
    failures = {str(number): FsspillError(f"number {number}") for number in range(12)}
    print_summary(Summary(kept={"session a": "alive"}, failures=failures), "removed")
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "kept session a: alive",
        "removed: sessions 0, nodes 0, files 0, bytes 0, uploads 0",
    ]
    lines = captured.err.splitlines()
    assert lines[0] == "fsspill: number 0"
    assert lines[10:] == ["fsspill: 2 more failed"]


def test_progress_is_a_line_per_finished_step(capsys: pytest.CaptureFixture[str]) -> None:
    """The output is not a terminal."""
    with show_progress() as progress:
        for done in range(3):
            progress("created", done, 2)
        progress("verified", 1, 2)
    assert capsys.readouterr().out == "created: 2 of 2\n"


def test_a_report_shows_rates(capsys: pytest.CaptureFixture[str]) -> None:
    """MiB per second that Ray counted; a dash where it counted no time."""
    report = Report("s3://b", objects=1234, spilled_bytes=2**30, spill_seconds=2, corrupted=1)
    print_report(report)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["objects", "1,234"] in rows
    assert ["corrupted", "objects", "1"] in rows
    assert ["spilled", "1,024", "MiB", "at", "512", "MiB/s"] in rows
    assert ["restored", "0", "MiB", "at", "-"] in rows


@pytest.mark.parametrize(
    ("nbytes", "seconds", "shown"),
    [
        (0, 1.0, "0 MiB at 0 MiB/s"),
        (1000, 0.1, "<1 MiB at <1 MiB/s"),
        (5 * 2**20, 100.0, "5 MiB at <1 MiB/s"),
        (2**20, 0.001, "1 MiB at 1,000 MiB/s"),
    ],
)
def test_only_zero_bytes_are_shown_as_zero(nbytes: int, seconds: float, shown: str) -> None:
    """Slow and small transfers differ from none."""
    assert _rate(nbytes, seconds) == shown
