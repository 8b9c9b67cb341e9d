"""Metrics at the Prometheus endpoint of a real Ray, compared with the S3 server."""

from __future__ import annotations

import json
import re
import urllib.request
from collections import Counter
from collections.abc import Mapping

import fsspec
import pytest

from fsspill.metrics import METRICS
from tests.at_rest import keys, spilled
from tests.recording import RequestRecorder
from tests.running import PATIENCE, Program, poll

pytestmark = [pytest.mark.ray]
pytest.importorskip("ray")

URI = "s3://bucket/prefix"
ARGUMENTS = {
    "num_cpus": 1,
    "object_store_memory": 100_000_000,
    "include_dashboard": False,
    "object_spilling_directory": URI,
}
LINE = re.compile(r"(\w+)\{(.*)\} (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')


class Endpoint:
    """The metrics of a node, as Prometheus would read them."""

    def __init__(self, url: str) -> None:
        self._url = url

    def samples(self) -> list[tuple[str, Mapping[str, str], float]]:
        with urllib.request.urlopen(f"{self._url}/metrics", timeout=PATIENCE) as answer:
            text = answer.read().decode()
        return [
            (name, dict(LABEL.findall(labels)), float(value))
            for name, labels, value in LINE.findall(text)
            if name.startswith("ray_fsspill_")
        ]

    def total(self, name: str, **labels: str) -> float:
        """Return the sum over all IO workers."""
        wanted = labels.items()
        return sum(
            value
            for found, given, value in self.samples()
            if found == f"ray_{name}" and wanted <= given.items()
        )


def answered(recorder: RequestRecorder, counted: Counter[str]) -> Counter[str]:
    """Add the new requests for spilled files by method, and bulk deletions, to those before."""
    for request in recorder.requests():
        if "/ray_spilled_objects_" in request.path:
            counted[request.method] += 1
        elif request.method == "POST":
            counted["delete_many"] += 1
    return counted


def stored_bytes() -> int:
    fs = fsspec.filesystem("s3")
    fs.invalidate_cache()
    return sum(fs.size(key) for key in spilled())


def test_metrics_are_those_that_the_server_counted(
    environment: dict[str, str], metrics_agent: dict[str, str], recorder: RequestRecorder
) -> None:
    """Files, bytes and requests of a spill, of restores and of deletions, over all IO workers."""
    counted: Counter[str] = Counter()
    environment |= metrics_agent
    with Program("metered.py", json.dumps(ARGUMENTS), environment=environment) as program:
        endpoint = Endpoint(program.expect("endpoint").split()[1])
        program.expect("verified")
        nbytes, files = stored_bytes(), len(spilled())
        answered(recorder, counted)
        get = {"operation": "get", "outcome": "success"}
        poll(lambda: endpoint.total("fsspill_spilled_files_total") == files, "all files")
        assert endpoint.total("fsspill_stored_bytes_total", uri=URI, tier="bucket") == nbytes
        assert endpoint.total("fsspill_spilled_bytes_total") == nbytes
        assert counted["PUT"] == files
        poll(lambda: endpoint.total("fsspill_requests_total", **get) >= counted["GET"], "all reads")
        # This test has asked for sizes with HEAD only.
        assert endpoint.total("fsspill_requests_total", **get) == counted["GET"] > 0
        restored = endpoint.total("fsspill_restored_objects_total", uri=URI, tier="bucket")
        assert restored == endpoint.total("fsspill_restore_seconds_count") > 0
        assert endpoint.total("fsspill_circuit_open", uri=URI) == 0
        program.tell()
        program.expect("dropped")
        poll(lambda: not spilled(), "the deletion of all files")
        answered(recorder, counted)
        poll(lambda: endpoint.total("fsspill_deleted_files_total") == files, "all deletions")
        bulk = {"operation": "delete_many", "outcome": "success"}
        assert endpoint.total("fsspill_requests_total", **bulk) == counted["delete_many"] > 0
        for name, labels, _ in endpoint.samples():
            row = METRICS[re.sub("_(total|bucket|sum|count)$", "", name.removeprefix("ray_"))]
            assert {*row.labels, "node"} <= labels.keys()
        program.tell()
        program.output()
    poll(lambda: not keys(), "the bucket to be empty")
