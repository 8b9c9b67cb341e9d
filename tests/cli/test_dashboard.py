"""``fsspill dashboard``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fsspill.cli.main import main
from fsspill.monitoring.alerts import make_rules
from fsspill.monitoring.dashboard import make_dashboard

NAMES = ("fsspill-dashboard.json", "fsspill-alerts.yml")


def test_both_files_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To a directory that is created; it says where they belong."""
    out = tmp_path / "some" / "where"
    assert main(["dashboard", "--out", str(out)]) == 0
    assert (out / NAMES[0]).read_text() == make_dashboard()
    assert (out / NAMES[1]).read_text() == make_rules()
    assert json.loads(make_dashboard())["title"] == "fsspill"
    [first, second, *advice] = capsys.readouterr().out.splitlines()
    assert (first, second) == (f"wrote {out / NAMES[0]}", f"wrote {out / NAMES[1]}")
    assert "rule_files" in " ".join(advice)


def test_writing_the_same_again_succeeds(tmp_path: Path) -> None:
    """Nothing is lost."""
    for _ in range(2):
        assert main(["dashboard", "--out", str(tmp_path)]) == 0


@pytest.mark.parametrize("name", NAMES)
def test_another_file_is_only_overwritten_by_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Somebody may have edited it. Without --force nothing at all is written."""
    (tmp_path / name).write_bytes(b"\xff mine")
    assert main(["dashboard", "--out", str(tmp_path)]) == 1
    assert f"its {name} differs. Expected --force" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"\xff mine"
    assert main(["dashboard", "--out", str(tmp_path), "--force"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == set(NAMES)
    assert b"mine" not in (tmp_path / name).read_bytes()


def test_a_directory_that_cannot_be_made_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the reason."""
    (tmp_path / "file").write_text("")
    assert main(["dashboard", "--out", str(tmp_path / "file" / "x")]) == 1
    assert f"fsspill: cannot write to '{tmp_path / 'file' / 'x'}': " in capsys.readouterr().err


def test_the_directory_has_to_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is 2."""
    assert main(["dashboard"]) == 2
    assert "Missing option '--out'" in capsys.readouterr().err
