"""A Ray program larger than its object store, with fsspill and with Ray's smart_open storage."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, ClassVar

from fsspill.transfer.base import MIB
from tests.benchmarks.link_server import LinkServer
from tests.benchmarks.measure import Case
from tests.benchmarks.sides import BUCKET, RAY
from tests.benchmarks.table import shown_requests, shown_size
from tests.running import Program, ray_environment

__all__ = ["Cluster", "ClusterRow"]

_URI = f"s3://{BUCKET}/spill"


@dataclass(frozen=True)
class ClusterRow:
    """A program's run.

    Attributes
    ----------
    put_seconds, get_seconds : float
        To make all objects, and to get all of them back one after another.
    spilled, restored : int
        Bytes, as Ray counted them.
    requests : Counter
        What the server saw from the start of Ray to the last object.
    ratio : float
        How many times faster than with Ray's own storage.
    """

    headings: ClassVar[Sequence[str]] = (
        "objects", "", "seconds", "x Ray's", "to put", "to get", "MiB spilled", "restored",
        "requests",
    )  # fmt: skip

    case: Case
    side: str
    put_seconds: float
    get_seconds: float
    spilled: int
    restored: int
    requests: Counter[str]
    ratio: float = 1.0

    @property
    def seconds(self) -> float:
        """From the first byte that was put to the last that came back."""
        return self.put_seconds + self.get_seconds

    @property
    def cells(self) -> tuple[str, ...]:
        """What the table shows."""
        return (
            f"{self.case.count:,} x {shown_size(self.case.size)}",
            self.side,
            *(f"{s:.1f}" for s in (self.seconds, self.ratio, self.put_seconds, self.get_seconds)),
            *(f"{nbytes / MIB:,.0f}" for nbytes in (self.spilled, self.restored)),
            shown_requests(self.requests),
        )


@dataclass(frozen=True)
class Cluster:
    """What the program runs on.

    Attributes
    ----------
    latency, bandwidth : float
        Of the link to S3, in seconds, and in bytes per second and connection.
    object_store_memory : int
        Bytes of Ray's object store.
    system_config : mapping
        Ray's own settings for spilling, such as ``min_spilling_size``, for both sides.
    params : mapping
        Further parameters of fsspill.
    at_once : int
        How many objects one ``ray.get`` asks for.
    """

    latency: float
    bandwidth: float
    object_store_memory: int
    system_config: Mapping[str, Any]
    params: Mapping[str, Any]
    at_once: int = 1

    def compare(self, case: Case, rounds: int) -> Iterator[ClusterRow]:
        """Run the program on both sides by turns; yield of each the run of median duration."""
        configs = {
            "fsspill": {"type": "fsspec", "params": {"uri": _URI, **self.params}},
            RAY: {"type": "smart_open", "params": {"uri": _URI}},
        }
        runs = [
            {side: self._run(case, side, config) for side, config in configs.items()}
            for _ in range(rounds)
        ]
        for side in configs:
            ratio = median(run[RAY].seconds / run[side].seconds for run in runs)
            in_order = sorted((run[side] for run in runs), key=lambda row: row.seconds)
            yield replace(in_order[rounds // 2], ratio=ratio)

    def _run(self, case: Case, side: str, config: Mapping[str, Any]) -> ClusterRow:
        spilling = {"object_spilling_config": json.dumps(config)}
        options = {
            "num_cpus": 1,
            "object_store_memory": self.object_store_memory,
            "include_dashboard": False,
            "log_to_driver": False,
            "_system_config": {**self.system_config, **spilling},
        }
        numbers = (case.count, case.size, self.at_once)
        arguments = [json.dumps(options), *map(str, numbers)]
        with LinkServer(self.latency, self.bandwidth) as server:
            server.create_bucket(BUCKET)
            server.reset()
            with (
                ray_environment(server.environment) as environment,
                Program("larger.py", *arguments, environment=environment) as program,
            ):
                took = json.loads(program.expect("took ").removeprefix("took "))
                requests = server.stats().requests
                program.output()
        return ClusterRow(case, side, **took, requests=requests)
