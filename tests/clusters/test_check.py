"""``fsspill check --cluster`` on real nodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.at_rest import keys
from tests.running import PATIENCE, Program

pytestmark = [pytest.mark.ray]
pytest.importorskip("ray")

FSSPILL = os.path.join(os.path.dirname(sys.executable), "fsspill")


def check(*arguments: str, environment: dict[str, str]) -> tuple[int, dict[str, Any]]:
    """Return the exit code of ``fsspill check``, and what it has printed."""
    done = subprocess.run(
        [FSSPILL, "check", *arguments, "--no-speed", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd="/",  # Ray adds the working directory to the paths of the nodes
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_every_node_is_checked_by_itself(environment: dict[str, str]) -> None:
    """One with the hook off, and a parameter of its own, has failed; the difference is shown."""
    uri, own = "s3://bucket/x", ["FSSPILL_HOOK=0", "FSSPILL_FILE_SIZE=1048576"]
    with Program("two_settings.py", uri, *own, environment=environment) as program:
        address = program.expect("address ").split()[1]
        code, found = check("--cluster", address, environment=environment)
        program.tell()
        program.output()
    assert code == 1
    assert found["uris"] == [uri]
    assert [node["can_spill"] for node in found["nodes"]].count(True) == 1
    [failing] = [node["found"] for node in found["nodes"] if not node["can_spill"]]
    failed = [each for each in failing["verdicts"] if each["outcome"] == "failed"]
    assert [(each["name"], each["advice"]) for each in failed] == [("hook", "Unset FSSPILL_HOOK.")]
    [difference] = found["differences"]
    assert difference["name"] == "file_size"
    assert {value: len(nodes) for value, nodes in difference["nodes"].items()} == {
        "8388608": 1,
        "1048576": 1,
    }
    assert [key for key in keys() if "fsspill-check" in key] == []


@pytest.mark.nightly
def test_a_node_without_fsspill_has_failed(environment: dict[str, str]) -> None:
    """With the command that installs it there."""
    uri = "s3://bucket/x"
    with Program("incomplete_node.py", uri, "absent", environment=environment) as program:
        program.expect("nodes 2")
        code, found = check("--cluster", environment=environment)
        program.tell()
        program.output()
    assert code == 1
    [problem] = [node for node in found["nodes"] if node["found"] is None]
    assert problem["problem"] == "fsspill is missing there, or of another version"
    assert "pip install 'fsspill[s3]==" in problem["advice"]
