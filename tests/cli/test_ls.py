"""``fsspill ls``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
