"""``fsspill ls``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fsspill.cli.ls import _age
from fsspill.cli.main import main


def test_ls_prints_a_line_per_session_and_node(
    left_behind: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each has files, bytes, age, liveness and uploads."""
    assert main(["ls", f"file://{left_behind}"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "session node files bytes age alive uploads",
        "- n2 1 1,500 2d unknown -",
        "alive - 1 1,500 0s alive 0",
        "alive n1 1 1,500 2d unknown -",
        "dead - 1 1,500 2d dead 0",
        "dead n1 1 1,500 2d unknown -",
        "library - 1 1,500 2d unknown 0",
        "library n1 1 1,500 2d unknown -",
    ]


def test_ls_prints_json(left_behind: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sessions with their nodes, sizes in bytes and ages in seconds."""
    assert main(["ls", f"file://{left_behind}", "--json"]) == 0
    sessions = json.loads(capsys.readouterr().out)["sessions"]
    assert [session["session"] for session in sessions] == [None, "alive", "dead", "library"]
    dead = sessions[2]
    assert 50 * 3600 > dead.pop("age_seconds") > 48 * 3600
    [node] = dead.pop("nodes")
    assert dead == {
        "session": "dead",
        "files": 1,
        "bytes": 1500,
        "liveness": "dead",
        "uploads": 0,
    }
    assert node["node"] == "n1"


def test_ls_prints_a_table_on_a_terminal(
    left_behind: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the package for it, lines of words."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["ls", f"file://{left_behind}", "--older-than", "7d"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["dead", "-", "1", "1,500", "2d", "recent", "0"] in rows
    monkeypatch.setitem(sys.modules, "rich", None)
    assert main(["ls", f"file://{left_behind}", "--older-than", "7d"]) == 0
    assert "dead - 1 1,500 2d recent 0" in capsys.readouterr().out.splitlines()


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
