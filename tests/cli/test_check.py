"""``fsspill check``."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from fsspill.cli.main import main
from tests.at_rest import keys
from tests.faults.fault_proxy import Fault, FaultProxy
from tests.running import INTERRUPTIBLE, Program, poll


def test_a_machine_that_can_spill(s3_bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Parameters, verdicts, what to do, and the sum; the bucket is as it was."""
    assert main(["check", f"s3://{s3_bucket}/x", "--no-speed"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[:2] == ["Parameters", f"uri command line s3://{s3_bucket}/x"]
    assert "digest default xxh3_128" in lines
    assert "prefix default none" in lines
    assert "ok write 2 bytes" in lines
    assert lines[-5:-3] == ["", "To do"]
    assert lines[-3] == "https Use an endpoint with https://."
    assert lines[-1].startswith("This machine can spill there: ")
    assert "1 warning" in lines[-1]
    assert captured.err == ""
    assert keys() == []


def test_a_machine_that_cannot(proxy: FaultProxy, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is 1, and it is said what to do."""
    with proxy.inject(Fault.FORBIDDEN, method="PUT"):
        assert main(["check", "s3://bucket/x", "--no-speed"]) == 1
    lines = capsys.readouterr().out.splitlines()
    [advice] = [line for line in lines if line.startswith("write Expected permission")]
    assert "On S3 this takes s3:PutObject." in advice
    assert lines[-1].startswith("This machine cannot spill there: ")


@pytest.mark.parametrize("uri", ["s3:/bucket", "nothing://x", "s3://"])
def test_a_uri_that_cannot_be_is_a_verdict(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback, and exit code 1."""
    assert main(["check", uri]) == 1
    captured = capsys.readouterr()
    assert "failed configuration cannot " in captured.out
    assert captured.err == ""


def test_json_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For programs."""
    assert main(["check", f"file://{tmp_path}", "--shared", "--no-speed", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["can_spill"]
    assert {"name": "shared", "value": True, "source": "command line"} in found["parameters"]
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_nothing(proxy: FaultProxy) -> None:
    """In the middle of a request."""
    environment = {**os.environ, **proxy.environment}
    with proxy.inject(Fault.STALL, method="GET"):
        arguments = [*INTERRUPTIBLE[1:], "check", "s3://bucket/x"]
        with Program(*arguments, environment=environment) as program:
            poll(lambda: proxy.injected[Fault.STALL, "GET"], "the request")
            program.send_signal(signal.SIGINT)
            program.expect("fsspill: interrupted")
            assert program.status() == 130
    assert keys() == []
