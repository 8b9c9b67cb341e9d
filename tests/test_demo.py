"""The demo."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import fsspec
import pytest

from fsspill.demo import _temporary_directory
from tests.running import INTERRUPTIBLE, PATIENCE, Program, processes, ray_environment

FSSPILL = os.path.join(os.path.dirname(sys.executable), "fsspill")


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    with ray_environment() as environment:
        yield environment


def sessions(environment: Mapping[str, str]) -> list[Path]:
    """Return what Ray keeps of sessions."""
    return list(Path(environment["RAY_TMPDIR"], "ray").glob("session_*"))


@pytest.mark.ray
@pytest.mark.parametrize("arguments", [[], ["--s3"]])
def test_the_demo_leaves_no_file(
    environment: dict[str, str], arguments: list[str], tmp_path: Path
) -> None:
    """It exits with 0, shows its progress, and ends with a table with 0 files left.

    Nor does it leave anything in the user's home directory, such as Ray's token.
    """
    pytest.importorskip("ray")
    environment["HOME"] = str(tmp_path)
    del environment["RAY_AUTH_MODE"]
    command = [FSSPILL, "demo", "--store-mib", "80", *arguments]
    with Program(*command, environment=environment) as program:
        output = program.output()
    for step in ("created: 84 of 84", "read back and verified: 84 of 84", "removed from storage"):
        assert step in output
    rows = [line.split() for line in output.splitlines()]
    assert ["objects", "84"] in rows
    assert ["corrupted", "objects", "0"] in rows
    assert ["files", "left", "0"] in rows
    assert not any(row[:2] == ["files", "written"] and row[2] == "0" for row in rows)
    assert not (tmp_path / ".ray").exists()
    assert sessions(environment) == []


@pytest.mark.ray
def test_demo_leaves_other_files_alone(s3_bucket: str, environment: dict[str, str]) -> None:
    """At a URI of the user, other files are neither touched nor counted."""
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


@pytest.mark.ray
def test_a_bad_uri_is_reported_in_one_line(environment: dict[str, str]) -> None:
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
    assert sessions(environment) == []


def test_the_temporary_directory_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default place to spill to does not outlive the demo, however that ends."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = _temporary_directory()
    directory = Path(made.__enter__().removeprefix("file://"))
    assert directory.is_dir()
    assert not made.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.ray
def test_what_ray_refuses_is_reported_in_one_line(environment: dict[str, str]) -> None:
    """Such as more memory than there is. Its logs are kept."""
    pytest.importorskip("ray")
    command = [FSSPILL, "demo", "--store-mib", "100000000"]
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, cwd="/"
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("fsspill: cannot start Ray for the demo: ")
    assert "Traceback" not in ended.stderr
    assert sessions(environment)


@pytest.mark.ray
@pytest.mark.nightly
@pytest.mark.parametrize("arguments", [[], ["--s3"]])
@pytest.mark.parametrize("moment", ["starting Ray", "created", "read back", "removed"])
def test_ctrl_c_leaves_nothing_behind(
    environment: dict[str, str], arguments: list[str], moment: str, tmp_path: Path
) -> None:
    """No process, no file, no session; one line on the screen, whatever it was doing."""
    pytest.importorskip("ray")
    environment |= {"TERM": "xterm", "COLUMNS": "80", "TMPDIR": str(tmp_path)}
    terminal, its_end = pty.openpty()
    command = [*INTERRUPTIBLE, "demo", "--store-mib", "80", *arguments]
    shown = b""
    with (
        os.fdopen(terminal, "rb", buffering=0) as screen,
        subprocess.Popen(
            command,
            env=environment,
            stderr=its_end,
            stdout=its_end,
            start_new_session=True,
            cwd="/",
        ) as demo,
    ):
        os.close(its_end)
        with suppress(OSError):  # the end of a terminal
            while found := screen.read(4096):
                was_shown = moment.encode() in shown
                shown += found
                if not was_shown and moment.encode() in shown:
                    os.killpg(demo.pid, signal.SIGINT)  # as a terminal does
        assert demo.wait(timeout=PATIENCE) == 130, shown.decode()
    assert shown.splitlines()[-1] == b"fsspill: interrupted"
    assert b"Traceback" not in shown
    assert processes(environment["RAY_TMPDIR"]) == []
    assert sessions(environment) == []
    assert list(tmp_path.iterdir()) == []
