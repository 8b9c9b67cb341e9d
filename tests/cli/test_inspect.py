"""``fsspill inspect``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fsspill.cli.main import main
from tests.test_inspection import FRAME, OWNER, spill


def test_frames_are_printed_in_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each with its place, its metadata, its owner in full, and the verdict."""
    path, urls = spill(tmp_path)
    assert main(["inspect", path]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == path
    assert lines[1] == "60,450 bytes, 3 frames, by its name 3 objects of 60,450 bytes"
    assert lines[2] == "offset size metadata owner digest"
    assert lines[3] == f"0 20,150 PYTHON {OWNER.hex()} unchecked"
    assert lines[4].startswith("20,150 20,150 ")
    assert lines[6:] == ["unchecked: digests are in the URLs of objects. Name one to verify it."]
    assert main(["inspect", *urls]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[3:]] == ["right"] * 3


def test_a_damaged_file_is_an_exit_code_of_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the damage is told in words."""
    path, urls = spill(tmp_path)
    os.truncate(path, 2 * FRAME + 30)
    assert main(["inspect", path]) == 1
    last = capsys.readouterr().out.splitlines()[-2]
    assert last.startswith("bytes 40,300 to 40,330: cut off: its header announces a frame of ")
    assert main(["inspect", urls[2]]) == 1
    out = capsys.readouterr().out
    assert "40,300 20,150 - - wrong" in out
    assert "frame at 40,300: cannot restore" in out


def test_json_has_all_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Errors of other files too."""
    path, urls = spill(tmp_path)
    with Path(path).open("ab") as file:
        file.write(b"x")
    assert main(["inspect", "--json", urls[0], str(tmp_path / "gone")]) == 1
    captured = capsys.readouterr()
    found, gone = json.loads(captured.out)["files"]
    assert found["frames"][0] == {
        "offset": 0,
        "size": FRAME,
        "owner_bytes": len(OWNER),
        "metadata_bytes": 6,
        "data_bytes": FRAME - 24 - len(OWNER) - 6,
        "owner": OWNER.hex(),
        "metadata": "PYTHON",
        "metadata_hex": b"PYTHON".hex(),
        "compression": None,
        "digest": "right",
        "algorithm": "xxh3_128",
        "problem": None,
    }
    assert found["gaps"] == [{"offset": 3 * FRAME, "size": 1, "reason": "too short for a frame"}]
    assert (found["sound"], found["bytes"], found["error"]) == (False, 3 * FRAME + 1, None)
    assert gone["error"] in captured.err
    assert (gone["sound"], gone["frames"]) == (False, [])


@pytest.mark.parametrize("target", ["x?offset=1", "s3://bucket", "nonsense://x/y"])
def test_what_is_no_file_is_reported_in_one_line(
    target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback, and exit code 1."""
    assert main(["inspect", target]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert line.startswith("fsspill: ")
