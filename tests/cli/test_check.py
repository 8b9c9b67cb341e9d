"""``fsspill check``."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from fsspill.cli.main import main
from fsspill.diagnosis.verdict import Verdict
from fsspill.ray.cluster_diagnosis import ClusterDiagnosis, NodeDiagnosis
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


def test_what_was_skipped_for_one_reason_is_one_line(
    s3_bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what several checks ask for is said once."""
    assert main(["check", "s3://no-such-bucket/x"]) == 1
    printed = capsys.readouterr().out
    assert printed.count("create it, or correct the URI") == 1
    assert "skipped read, list, delete, delete many, multipart, clock" in printed


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected a URI, or --cluster"),
        (["--cluster", "ray://host:1"], "expected host:port of the head"),
    ],
)
def test_arguments_that_cannot_be_understood(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 2."""
    assert main(["check", *arguments]) == 2
    assert message in capsys.readouterr().err


def node(name: str, outcome: str, found: str = "", s3fs: str = "1") -> NodeDiagnosis:
    """Return a node with one check besides another one that is ok."""
    verdicts = [
        Verdict("", "packages", "ok", "all"),
        Verdict("s3://b", "write", outcome, found, "Mend it."),  # type: ignore[arg-type]
    ]
    found_there = {
        "can_spill": outcome != "failed",
        "verdicts": [each._asdict() for each in verdicts],
        "versions": {"fsspill": "0.1.0", "ray": "2.60.0", "python": "3.11.7", "s3fs": s3fs},
        "parameters": [],
    }
    return NodeDiagnosis(name, found_there)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Return what the checks of a cluster of four nodes are asked for, in the place of Ray."""
    calls: list[tuple[Any, ...]] = []
    nodes = [
        node("10.0.0.1 (a)", "warning", "takes 1 s"),
        node("10.0.0.2 (b)", "warning", "takes 20 s", s3fs="2"),
        node("10.0.0.3 (c)", "failed", "is refused."),
        NodeDiagnosis("10.0.0.4 (d)", None, "no answer", "Look there."),
    ]

    def diagnose_cluster(*arguments: Any, **options: Any) -> ClusterDiagnosis:
        calls.append((*arguments, options["shared"], options["speed"]))
        return ClusterDiagnosis(["s3://b"], nodes)

    name = "fsspill.ray.cluster_diagnosis.diagnose_cluster"
    monkeypatch.setattr(name, diagnose_cluster)
    return calls


def test_a_cluster_has_a_row_for_each_node(
    asked: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Differences, and what to do, once for all nodes that have to do the same."""
    assert main(["check", "--cluster"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "Spilling to s3://b",
        "node verdict fsspill ray python fsspec s3fs checks",
        "10.0.0.1 (a) warning 0.1.0 2.60.0 3.11.7 - 1 write",
        "10.0.0.2 (b) warning 0.1.0 2.60.0 3.11.7 - 2 write",
        "10.0.0.3 (c) failed 0.1.0 2.60.0 3.11.7 - 1 write",
        "10.0.0.4 (d) failed - - - - - node",
        "s3fs differs",
        "1 10.0.0.1 (a), 10.0.0.3 (c)",
        "2 10.0.0.2 (b)",
        "",
        "To do",
        "write 10.0.0.1 (a), 10.0.0.2 (b): takes 1 s. Mend it.",
        "write 10.0.0.3 (c): is refused. Mend it.",
        "node 10.0.0.4 (d): no answer. Look there.",
        "",
        "2 of 4 nodes can spill there.",
    ]
    assert asked == [("auto", (), False, None)]


@pytest.mark.parametrize(
    ("arguments", "call"),
    [
        (["s3://b", "--cluster", "h:1"], ("h:1", ("s3://b",), False, None)),
        (["--cluster", "s3://b", "--no-speed"], ("auto", ("s3://b",), False, False)),
        (["s3://b", "--cluster", "--shared", "--speed"], ("auto", ("s3://b",), True, True)),
    ],
)
def test_the_address_is_told_from_a_uri(
    asked: list[tuple[Any, ...]],
    arguments: list[str],
    call: tuple[Any, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In every order; and JSON is for programs."""
    assert main(["check", "--json", *arguments]) == 1
    assert asked == [call]
    found = json.loads(capsys.readouterr().out)
    assert [each["node"] for each in found["nodes"]][-1] == "10.0.0.4 (d)"
    assert found["differences"][0]["name"] == "s3fs"
