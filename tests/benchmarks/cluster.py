"""A Ray program larger than its object store, on fsspill and on Ray's own storage classes."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, ClassVar

from fsspill.bench.contenders import RAY
from fsspill.settings import MIB
from tests.benchmarks.contenders import BUCKET
from tests.benchmarks.link_server import LinkServer
from tests.benchmarks.measure import Case
from tests.benchmarks.table import shown_requests, shown_size
from tests.running import RAYS_IO_WORKERS, Program, ray_environment

__all__ = ["Cluster", "ClusterRow"]

_URI = f"s3://{BUCKET}/spill"


@dataclass(frozen=True)
class ClusterRow:
    """One run of the program.

    Attributes
    ----------
    put_seconds, get_seconds : float
        Time to put all objects, and to get all of them sequentially.
    spilled, restored : int
        Bytes, as counted by Ray.
    requests : Counter
        Requests to the server from the start of Ray to the last object.
    ratio : float
        Speed relative to Ray's own storage.
    """

    headings: ClassVar[Sequence[str]] = (
        "objects", "", "seconds", "x Ray's", "to put", "to get", "MiB spilled", "restored",
        "requests",
    )  # fmt: skip

    case: Case
    contender: str
    put_seconds: float
    get_seconds: float
    spilled: int
    restored: int
    requests: Counter[str]
    ratio: float = 1.0

    @property
    def seconds(self) -> float:
        """Seconds from the first put to the last get."""
        return self.put_seconds + self.get_seconds

    @property
    def cells(self) -> tuple[str, ...]:
        """Cells of the row."""
        return (
            f"{self.case.count:,} x {shown_size(self.case.size)}",
            self.contender,
            *(f"{s:.1f}" for s in (self.seconds, self.ratio, self.put_seconds, self.get_seconds)),
            *(f"{nbytes / MIB:,.0f}" for nbytes in (self.spilled, self.restored)),
            shown_requests(self.requests),
        )


@dataclass(frozen=True)
class Cluster:
    """The Ray cluster and the link of the program.

    Attributes
    ----------
    latency, bandwidth : float
        Latency of the link to S3 in seconds, and bandwidth in bytes per second and connection.
    object_store_memory : int
        Size of Ray's object store in bytes.
    system_config : mapping
        Ray's own settings for spilling, such as ``min_spilling_size``, for both contenders.
    params : mapping
        Further parameters of fsspill.
    objects_per_get : int
        Number of objects that one ``ray.get`` requests.
    """

    latency: float
    bandwidth: float
    object_store_memory: int
    system_config: Mapping[str, Any]
    params: Mapping[str, Any]
    objects_per_get: int = 1

    def compare(self, case: Case, rounds: int) -> Iterator[ClusterRow]:
        """Compare fsspill with Ray's smart_open storage."""
        configs = {
            "fsspill": {"type": "fsspec", "params": {"uri": _URI, **self.params}},
            RAY: {"type": "smart_open", "params": {"uri": _URI}},
        }
        yield from self._compare(case, rounds, configs)

    def compare_copies(
        self, case: Case, rounds: int, directory: str | None
    ) -> Iterator[ClusterRow]:
        """Compare fsspill, with local copies and without, with Ray's FileSystemStorage."""
        params = {"uri": _URI, **self.params}
        with tempfile.TemporaryDirectory(dir=directory) as inside:
            copies = {"cache_dir": inside, "cache_max_bytes": 2**32}
            configs = {
                "fsspill": {"type": "fsspec", "params": params},
                "fsspill, cache_dir": {"type": "fsspec", "params": {**params, **copies}},
                RAY: {"type": "filesystem", "params": {"directory_path": f"{inside}/ray"}},
            }
            yield from self._compare(case, rounds, configs)

    def _compare(
        self, case: Case, rounds: int, configs: Mapping[str, Mapping[str, Any]]
    ) -> Iterator[ClusterRow]:
        """Run the program on all contenders alternately, and yield the median run of each."""
        runs = [
            {name: self._run(case, name, config) for name, config in configs.items()}
            for _ in range(rounds)
        ]
        for name in configs:
            ratio = median(run[RAY].seconds / run[name].seconds for run in runs)
            in_order = sorted((run[name] for run in runs), key=lambda row: row.seconds)
            yield replace(in_order[rounds // 2], ratio=ratio)

    def _run(self, case: Case, contender: str, config: Mapping[str, Any]) -> ClusterRow:
        spilling = {"object_spilling_config": json.dumps(config)}
        options = {
            "num_cpus": 1,
            "object_store_memory": self.object_store_memory,
            "include_dashboard": False,
            "log_to_driver": False,
            "_system_config": {**self.system_config, **spilling},
        }
        numbers = (case.count, case.size, self.objects_per_get)
        arguments = [json.dumps(options), *map(str, numbers)]
        with LinkServer(self.latency, self.bandwidth) as server:
            server.create_bucket(BUCKET)
            server.reset()
            with (
                ray_environment(server.environment, io_workers=RAYS_IO_WORKERS) as environment,
                Program("larger.py", *arguments, environment=environment) as program,
            ):
                took = json.loads(program.expect("took ").removeprefix("took "))
                requests = server.stats().requests
                program.output()
        return ClusterRow(case, contender, **took, requests=requests)
