"""The command ``fsspill demo``, without a Ray cluster: tests/test_demo.py has those with one."""

from __future__ import annotations

import importlib.util
import json

import pytest

from fsspill.cli.demo import _print_report, _rate
from fsspill.cli.main import main
from fsspill.demo import Report


@pytest.mark.parametrize("failed", [False, True])
def test_json_is_the_only_output(
    failed: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report, and whether it is a success; the exit code says so too."""
    report = Report("file:///x", objects=3, files_written=2, corrupted=int(failed))

    def run(*arguments: object, **options: object) -> Report:
        progress = options["progress"]
        assert callable(progress)
        progress("created", 3, 3)
        return report

    monkeypatch.setattr("fsspill.cli.demo.run", run)
    assert main(["demo", "--json"]) == int(failed)
    printed = json.loads(capsys.readouterr().out)
    assert printed["succeeded"] is not failed
    assert (printed["uri"], printed["objects"], printed["files_written"]) == ("file:///x", 3, 2)


def test_a_missing_grpcio_is_reported_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ray does not bring it; the line names the extra that does."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "grpc" else find(name)
    )
    assert main(["demo"]) == 1
    assert 'pip install "fsspill[cli]"' in capsys.readouterr().err


def test_a_report_shows_rates(capsys: pytest.CaptureFixture[str]) -> None:
    """MiB per second that Ray counted; a dash where it counted no time."""
    report = Report("s3://b", objects=1234, spilled_bytes=2**30, spill_seconds=2, corrupted=1)
    _print_report(report)
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
