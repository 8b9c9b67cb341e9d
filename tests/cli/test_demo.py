"""The command ``fsspill demo``, without a Ray cluster: tests/test_demo.py has those with one."""

from __future__ import annotations

import importlib.util
import json

import pytest

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
