"""The command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

import fsspill
from fsspill.cli import main
from fsspill.demo import Report
from tests.running import Program, ray_environment

FSSPILL = os.path.join(os.path.dirname(sys.executable), "fsspill")


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    with ray_environment() as environment:
        yield environment


@pytest.mark.ray
@pytest.mark.parametrize("arguments", [[], ["--s3"]])
def test_demo(environment: dict[str, str], arguments: list[str]) -> None:
    """It exits with 0, shows how far it is, and ends with a table that says 0 files left."""
    pytest.importorskip("ray")
    command = [FSSPILL, "demo", "--store-mib", "80", *arguments]
    with Program(*command, environment=environment) as program:
        output = program.output()
    for step in ("made: 84 of 84", "read back and verified: 84 of 84", "removed from storage"):
        assert step in output
    rows = [line.split() for line in output.splitlines()]
    assert ["objects", "84"] in rows
    assert ["objects", "that", "came", "back", "wrong", "0"] in rows
    assert ["files", "left", "0"] in rows
    assert not any(row[:2] == ["files", "written"] and row[2] == "0" for row in rows)


@pytest.mark.ray
def test_demo_beside_other_files(s3_bucket: str, environment: dict[str, str]) -> None:
    """At a URI of the user's, files of others are neither touched nor counted."""
    pytest.importorskip("ray")
    fs = fsspec.filesystem("s3")
    others = [f"{s3_bucket}/x/other", f"{s3_bucket}/x/session_1/ray_spilled_objects_1/f"]
    for key in others:
        fs.pipe_file(key, b"keep")
    command = [FSSPILL, "demo", "--store-mib", "80", f"s3://{s3_bucket}/x"]
    with Program(*command, environment=environment) as program:
        output = program.output()
    assert ["files", "left", "0"] in [line.split() for line in output.splitlines()]
    fs.invalidate_cache()
    assert sorted(fs.find(s3_bucket)) == sorted(others)


@pytest.mark.parametrize(
    ("report", "succeeded"),
    [
        (Report("u", files_written=1), True),
        (Report("u", files_written=1, wrong=1), False),
        (Report("u", files_written=1, files_left=1), False),
        (Report("u", files_written=0), False),
    ],
)
def test_the_exit_code_says_whether_all_went_well(
    report: Report, succeeded: bool, monkeypatch: pytest.MonkeyPatch, capsys: object
) -> None:
    """1 if an object was wrong, a file was left, or nothing was spilled at all."""
    monkeypatch.setattr("fsspill.cli.run", lambda *args, **kwargs: report)
    assert main(["demo"]) == (0 if succeeded else 1)


@pytest.mark.ray
def test_a_bad_uri_is_one_line(environment: dict[str, str]) -> None:
    """No traceback: the message, on the error output, and exit code 1."""
    pytest.importorskip("ray")
    command = [FSSPILL, "demo", "nonsense://x"]
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, cwd="/"
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.splitlines()[-1].startswith("fsspill: cannot spill to 'nonsense://x'")
    assert "Traceback" not in ended.stderr


def test_a_missing_package_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without Ray, or without what shows progress, the message is what to install."""
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["demo"]) == 1
    assert 'pip install "fsspill[ray]"' in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    assert main(["demo"]) == 1
    assert 'pip install "fsspill[cli]"' in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["demo", "--store-mib", "10"], ["demo", "--s3", "x"], []])
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be is said with the usage, and exit code 2."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: fsspill" in capsys.readouterr().err


def test_version() -> None:
    """The command is installed."""
    printed = subprocess.run([FSSPILL, "--version"], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == f"fsspill {fsspill.__version__}"


def test_the_temporary_directory_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default place to spill to does not outlive the demo, however that ends."""
    from fsspill.demo import _temporary_directory

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = _temporary_directory()
    directory = Path(made.__enter__().removeprefix("file://"))
    assert directory.is_dir()
    assert not made.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert list(tmp_path.iterdir()) == []
