"""``fsspill top`` on a real Ray, whose processes report all metrics."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from fsspill.metrics import METRICS
from tests.running import Program, poll, ray_environment

pytestmark = [pytest.mark.ray]
pytest.importorskip("ray")

TABLE = {name: (metric.kind, metric.labels) for name, metric in METRICS.items()}


def top(environment: Mapping[str, str], *arguments: str) -> dict[str, Any]:
    """Return what it prints for programs; empty if it fails, as before there are metrics."""
    command = [sys.executable, "-m", "fsspill.cli.main", "top", "--json", "--interval", "3"]
    done = subprocess.run([*command, *arguments], capture_output=True, env=environment, check=False)
    found: dict[str, Any] = json.loads(done.stdout or b"{}")
    return found


@pytest.mark.parametrize("dashboard", [True, False])
def test_top_reads_what_the_processes_of_a_node_report(
    dashboard: bool, metrics_agent: dict[str, str]
) -> None:
    """By Ray's list on this machine, or from its head where no dashboard writes that list."""
    arguments = {"num_cpus": 1, "include_dashboard": dashboard, "object_store_memory": 100_000_000}
    variables = {"RAY_metrics_report_interval_ms": "1000", **metrics_agent}
    with ray_environment(variables) as environment:
        words = json.dumps(arguments), json.dumps(TABLE)
        with Program("reporting.py", *words, environment=environment) as program:
            _, address, node_id = program.expect("reported").split()
            named = [] if dashboard else [address]
            found: dict[str, Any] = {}

            def is_complete() -> bool:
                found.update(top(environment, *named))
                [*nodes] = found.get("nodes", [])
                # A counter of two processes, which grows.
                return (
                    bool(nodes) and bool(nodes[0]["errors_per_second"]) and bool(nodes[0]["tiers"])
                )

            poll(is_complete, "metrics of both processes")
            check(found, node_id)
            program.tell()
            program.output()


def check(found: Mapping[str, Any], node_id: str) -> None:
    [node] = found["nodes"]
    assert node["node"] == node_id
    assert node["address"]
    [tier] = node["tiers"]
    assert tier["tier"] == "a-tier"
    assert tier["spilled_bytes_per_second"] > 0
    assert 0.1 < tier["spill_seconds"]["p50"] < 1
    assert node["open_circuits"] == ["a-uri"]
    assert node["pending_deletions"] in (1, 2)
    assert node["copy_bytes"] in (1, 2)
    assert node["lost_objects"]["a-reason"] >= 1000
    assert found["failures"] == {}
