"""The command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

import fsspill
from fsspill.cli.demo import Report
from fsspill.cli.main import main
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
    monkeypatch.setattr("fsspill.cli.main.run", lambda *args, **kwargs: report)
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
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be is said with the usage, and exit code 2."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: fsspill" in capsys.readouterr().err


@pytest.fixture
def left_behind(tmp_path: Path) -> Path:
    """Return a directory with a dead session, one that lives, a library's and a local node."""
    beats = {"dead": 49 * 3600, "alive": -3600}  # written while somebody looks: of age 0
    for session in ("dead", "alive", "library"):
        old_file(tmp_path / session / "ray_spilled_objects_n1" / "f", 50 * 3600)
    for session, age in beats.items():
        old_file(tmp_path / session / "fsspill_heartbeats" / "head", age)
    old_file(tmp_path / "ray_spilled_objects_n2" / "f", 50 * 3600)
    return tmp_path


def old_file(path: Path, age: float) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 1500)
    written = path.stat().st_mtime - age
    os.utime(path, (written, written))


def test_ls(left_behind: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line of words per session and node: files, bytes, age, whether it is alive, uploads."""
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


def test_ls_on_a_terminal(
    left_behind: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table, for which a package is needed."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["ls", f"file://{left_behind}", "--older-than", "7d"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["dead", "-", "1", "1,500", "2d", "recent", "0"] in rows
    monkeypatch.setitem(sys.modules, "rich.table", None)
    assert main(["ls", f"file://{left_behind}"]) == 1
    assert 'pip install "fsspill[cli]"' in capsys.readouterr().err


def test_clean(left_behind: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what it removed, what it kept and why; a dry run says the same and removes none."""
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


def test_clean_what_is_named(left_behind: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sessions and node-local directories, several at once; one that is alive is refused."""
    uri = f"file://{left_behind}"
    assert main(["clean", uri, "--session", "dead", "--session", "alive"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert line.startswith("fsspill: cannot remove session alive: it is alive")
    named = ["--session", "dead", "--session", "library", "--node", "n2"]
    assert main(["clean", uri, *named]) == 0
    assert [path.name for path in left_behind.iterdir()] == ["alive"]


def test_clean_dead_nodes(left_behind: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only with --dead-nodes, and --older-than says since when they are silent."""
    old_file(left_behind / "alive" / "ray_spilled_objects_n3" / "f", 9 * 3600)
    beat = left_behind / "alive" / "fsspill_heartbeats" / "n3"
    beat.write_bytes(b"")
    os.utime(beat, (0, beat.stat().st_mtime - 9 * 3600))
    uri = f"file://{left_behind}"
    assert main(["clean", uri, "--older-than", "600m"]) == 0
    assert main(["clean", uri, "--older-than", "60m"]) == 0
    assert "kept node n3 of session alive: dead" in capsys.readouterr().out
    assert beat.exists()
    assert main(["clean", uri, "--older-than", "60m", "--dead-nodes"]) == 0
    assert "removed node n3" in capsys.readouterr().out.splitlines()
    assert not beat.exists()


def test_clean_says_what_it_could_not_remove(
    left_behind: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and a line for each of the first ten files."""

    def refuse(self: object, path: str) -> None:
        if "fsspill-check" not in path:
            raise PermissionError(path)
        os.remove(path)

    for number in range(11):
        old_file(left_behind / "dead" / f"ray_spilled_objects_{number}" / "f", 50 * 3600)
    monkeypatch.setattr(LocalFileSystem, "rm_file", refuse)
    assert main(["clean", f"file://{left_behind}"]) == 1
    captured = capsys.readouterr()
    assert "removed: sessions 0, nodes 0, files 0, bytes 0, uploads 0" in captured.out
    lines = captured.err.splitlines()
    assert len(lines) == 11
    assert all(line.startswith("fsspill: cannot delete /") for line in lines[:10])
    assert lines[10] == "fsspill: 2 more failed"


@pytest.mark.parametrize("command", ["ls", "clean"])
def test_a_missing_bucket_is_one_line(
    s3_bucket: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback, and exit code 1."""
    assert main([command, "s3://no-such-bucket/x"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert line.startswith("fsspill: cannot list s3://no-such-bucket/x")


def test_version() -> None:
    """The command is installed."""
    printed = subprocess.run([FSSPILL, "--version"], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == f"fsspill {fsspill.__version__}"


def test_the_temporary_directory_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default place to spill to does not outlive the demo, however that ends."""
    from fsspill.cli.demo import _temporary_directory

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = _temporary_directory()
    directory = Path(made.__enter__().removeprefix("file://"))
    assert directory.is_dir()
    assert not made.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert list(tmp_path.iterdir()) == []
