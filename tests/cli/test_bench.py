"""``fsspill bench``."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from fsspill.cli.main import main

QUICK = ["--size", "4MiB", "--seconds", "1"]


def test_a_table_and_a_chart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a directory, which is left empty."""
    directory, chart = tmp_path / "spill", tmp_path / "speed.svg"
    directory.mkdir()
    assert main(["bench", f"file://{directory}", *QUICK, "--plot", str(chart)]) == 0
    output = capsys.readouterr().out
    assert "\nspill 1 x 4 MiB, " in output
    assert "\nTo set:\n  Nothing" in output
    assert "fsspill" in chart.read_text()
    assert list(directory.iterdir()) == []


def test_json_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without progress."""
    assert main(["bench", f"file://{tmp_path}", *QUICK, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["measurements"][0]["mib_per_second"] > 0
    assert found["files_left"] == 0


def test_money_is_not_spent_unasked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program has to say --yes; the message has requests, price and its source."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main(["bench", "s3://no-such-bucket-0123", "--size", "100GiB"]) == 1
    captured = capsys.readouterr()
    assert "writes" in captured.err
    assert "dollars (S3 Standard, us-east-1: aws.amazon.com/s3/pricing)" in captured.err
    assert "Expected --yes, or a smaller --size." in captured.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["file:///tmp", "--plot", "/no/such/x.svg"], 1, "expected a directory '/no/such'"),
        (["s3:/bucket"], 1, "Did you mean 's3://bucket'?"),
        (["memory://x", "--size", "1MiB"], 1, "cannot measure with batches of"),
        (["memory://x", "--seconds", "0"], 2, "0 is not in the range"),
    ],
)
def test_mistakes_are_explained(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is measured."""
    assert main(["bench", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
