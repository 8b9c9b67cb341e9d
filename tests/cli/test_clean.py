"""``fsspill clean``."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from fsspill import FsspillError
from fsspill.cleanup import Summary
from fsspill.cli.clean import _print_summary
from fsspill.cli.main import main
from fsspill.storage.local_files import OpenDirectory
from tests.cli.conftest import old_file, old_heartbeat
from tests.running import INTERRUPTIBLE, PATIENCE, poll


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


def test_clean_prints_json(left_behind: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was removed and what was kept, and no line of progress."""
    for dry_run in (True, False):
        assert main(["clean", f"file://{left_behind}", "--json", *["--dry-run"] * dry_run]) == 0
        printed = json.loads(capsys.readouterr().out)
        kept = printed.pop("kept")
        assert kept["session alive"] == "alive"
        assert printed == {
            "dry_run": dry_run,
            "sessions": ["dead"],
            "nodes": [],
            "files": 2,
            "bytes": 3000,
            "uploads": 0,
            "failures": {},
        }


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


def test_a_summary_shows_ten_failures(capsys: pytest.CaptureFixture[str]) -> None:
    """On the error output, and counts the others."""
    failures = {str(number): FsspillError(f"number {number}") for number in range(12)}
    _print_summary(Summary(kept={"session a": "alive"}, failures=failures), "removed")
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "kept session a: alive",
        "removed: sessions 0, nodes 0, files 0, bytes 0, uploads 0",
    ]
    lines = captured.err.splitlines()
    assert lines[0] == "fsspill: number 0"
    assert lines[10:] == ["fsspill: 2 more failed"]


def test_ctrl_c_leaves_no_file_of_its_own(tmp_path: Path) -> None:
    """Not the one that shows the time of the storage; one line says what happened."""
    for number in range(3000):
        old_heartbeat(tmp_path / f"session_{number}" / "fsspill_heartbeats" / "head", 50 * 3600)
    before = set(tmp_path.iterdir())
    command = [*INTERRUPTIBLE, "clean", f"file://{tmp_path}"]
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True) as clean:
        poll(lambda: set(tmp_path.iterdir()) - before, "the listing to begin")
        clean.send_signal(signal.SIGINT)
        out, err = clean.communicate(timeout=PATIENCE)
    assert clean.returncode == 130
    assert (out, err.splitlines()[-1]) == ("", "fsspill: interrupted")
    assert "Traceback" not in err
    assert set(tmp_path.iterdir()) == before
