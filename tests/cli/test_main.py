"""The command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fsspill
from fsspill.cli.demo import Report
from fsspill.cli.main import main
from fsspill.storage.local_files import OpenDirectory
from tests.cli.conftest import old_file, old_heartbeat

FSSPILL = os.path.join(os.path.dirname(sys.executable), "fsspill")


@pytest.mark.parametrize(
    ("report", "succeeded"),
    [
        (Report("u", files_written=1), True),
        (Report("u", files_written=1, corrupted=1), False),
        (Report("u", files_written=1, files_left=1), False),
        (Report("u", files_written=0), False),
    ],
)
def test_the_exit_code_is_1_unless_the_demo_succeeded(
    report: Report, succeeded: bool, monkeypatch: pytest.MonkeyPatch, capsys: object
) -> None:
    """1 if an object was corrupted, a file was left, or nothing was spilled at all."""
    monkeypatch.setattr("fsspill.cli.main.run", lambda *args, **kwargs: report)
    assert main(["demo"]) == (0 if succeeded else 1)


def test_a_missing_package_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without Ray the message of the demo is what to install."""
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["demo"]) == 1
    assert 'pip install "fsspill[ray]"' in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "--store-mib", "10"],
        ["demo", "--s3", "x"],
        ["ls"],
        ["clean"],
        ["clean", "file:///x", "--older-than", "5"],
        ["clean", "file:///x", "--older-than", "-5h"],
        ["ls", "file:///x", "--older-than", "1w"],
        [],
    ],
)
def test_invalid_arguments_print_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 2."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: fsspill" in capsys.readouterr().err


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


def test_clean_reports_removed_and_kept_sessions(
    left_behind: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A dry run prints the same, and removes nothing."""
    kept = [
        "kept session alive: alive",
        "kept session library: nothing says whether it is alive",
        "kept node n2: nothing says whether it is alive",
    ]
    counts = "sessions 1, nodes 0, files 2, bytes 3,000, uploads 0"
    assert main(["clean", f"file://{left_behind}", "--dry-run"]) == 0
    expected = ["would remove session dead", *kept, f"would remove: {counts}"]
    assert capsys.readouterr().out.splitlines() == expected
    assert main(["clean", f"file://{left_behind}"]) == 0
    expected = ["files handled: 2 of 2", "removed session dead", *kept, f"removed: {counts}"]
    assert capsys.readouterr().out.splitlines() == expected
    assert sorted(path.name for path in left_behind.iterdir()) == [
        "alive",
        "library",
        "ray_spilled_objects_n2",
    ]


def test_clean_removes_named_sessions_and_nodes(
    left_behind: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Several sessions and node-local directories in one call; a live one is refused."""
    uri = f"file://{left_behind}"
    assert main(["clean", uri, "--session", "dead", "--session", "alive"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert line.startswith("fsspill: cannot remove session alive: it is alive")
    named = ["--session", "dead", "--session", "library", "--node", "n2"]
    assert main(["clean", uri, *named]) == 0
    assert [path.name for path in left_behind.iterdir()] == ["alive"]


def test_clean_removes_dead_nodes_on_request(
    left_behind: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only with --dead-nodes; --older-than is the age of their last heartbeat."""
    old_file(left_behind / "alive" / "ray_spilled_objects_n3" / "f", 9 * 3600)
    beat = left_behind / "alive" / "fsspill_heartbeats" / "n3"
    old_heartbeat(beat, 9 * 3600)
    uri = f"file://{left_behind}"
    assert main(["clean", uri, "--older-than", "600m"]) == 0
    assert main(["clean", uri, "--older-than", "60m"]) == 0
    assert "kept node n3 of session alive: dead" in capsys.readouterr().out
    assert beat.exists()
    assert main(["clean", uri, "--older-than", "60m", "--dead-nodes"]) == 0
    assert "removed node n3" in capsys.readouterr().out.splitlines()
    assert not beat.exists()


def test_clean_reports_failed_deletions(
    left_behind: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and a line for each of the first ten files."""
    remove = OpenDirectory.remove

    def refuse(self: OpenDirectory, name: str) -> bool:
        if not name.startswith("fsspill-check"):
            raise PermissionError(name)
        return remove(self, name)

    for number in range(11):
        old_file(left_behind / "dead" / f"ray_spilled_objects_{number}" / "f", 50 * 3600)
    monkeypatch.setattr(OpenDirectory, "remove", refuse)
    assert main(["clean", f"file://{left_behind}"]) == 1
    captured = capsys.readouterr()
    assert "removed: sessions 0, nodes 0, files 0, bytes 0, uploads 0" in captured.out
    lines = captured.err.splitlines()
    assert len(lines) == 11
    assert all(line.startswith("fsspill: cannot delete /") for line in lines[:10])
    assert lines[10] == "fsspill: 2 more failed"


@pytest.mark.parametrize("command", ["ls", "clean"])
def test_a_missing_bucket_is_reported_in_one_line(
    s3_bucket: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback, and exit code 1."""
    assert main([command, "s3://no-such-bucket/x"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert line.startswith("fsspill: cannot list s3://no-such-bucket/x")


def test_the_version_is_printed() -> None:
    """The command is installed."""
    printed = subprocess.run([FSSPILL, "--version"], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == f"fsspill {fsspill.__version__}"
