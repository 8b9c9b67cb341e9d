"""``ray.wait`` for more objects than the object store holds: a table of ``docs/scale.md``.

``python -m tests.benchmarks.wait`` prints that table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.benchmarks.contenders import BUCKET
from tests.benchmarks.link_server import LinkServer
from tests.running import RAYS_IO_WORKERS, Program, ray_environment

__all__ = ["COUNT", "INTERVAL", "Wait", "Waited"]

COUNT, SIZE, STORE = 60, 5_000_000, 80 * 2**20
BANDWIDTH = 80e6

INTERVAL = "RAY_get_check_signal_interval_milliseconds"
"""Environment variable: how long a ``ray.wait`` runs before Ray starts it again."""

_TIMEOUT = 60
_LATENCIES = (0.03, 0.2)


@dataclass(frozen=True)
class Waited:
    """The result of one ``ray.wait``.

    Attributes
    ----------
    ready : int
        Objects that it returned as ready.
    seconds : float
        Time that it took.
    restored : float
        Objects that Ray restored, repetitions included.
    """

    ready: int
    seconds: float
    restored: float


@dataclass(frozen=True)
class Wait:
    """A ``ray.wait`` for `COUNT` objects of `SIZE` bytes with a store of `STORE` bytes.

    Attributes
    ----------
    name : str
        The setting that differs from Ray's defaults.
    fetch_local : bool
        Its argument.
    system_config, environment : mapping
        Ray's settings.
    """

    name: str
    fetch_local: bool = True
    system_config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, latency: float, timeout: float = _TIMEOUT) -> Waited:
        """Run it over a link of so many seconds of latency, for at most `timeout` seconds."""
        config = {"type": "fsspec", "params": {"uri": f"s3://{BUCKET}/spill"}}
        spilling = {"object_spilling_config": json.dumps(config)}
        options = {
            "num_cpus": 2,
            "object_store_memory": STORE,
            "include_dashboard": False,
            "log_to_driver": False,
            "_system_config": {**self.system_config, **spilling},
        }
        numbers = (COUNT, SIZE, int(timeout), int(self.fetch_local))
        with LinkServer(latency, BANDWIDTH) as server:
            server.create_bucket(BUCKET)
            with (
                ray_environment(
                    {**server.environment, **self.environment}, io_workers=RAYS_IO_WORKERS
                ) as environment,
                Program(
                    "wait.py", json.dumps(options), *map(str, numbers), environment=environment
                ) as program,
            ):
                took = json.loads(program.expect("took ").removeprefix("took "))
                program.output()
        return Waited(took["ready"], took["seconds"], took["restored"] / SIZE)


WAITS = (
    Wait("Ray's defaults"),
    Wait("`max_io_workers` 16", system_config={"max_io_workers": 16}),
    Wait(f"`{INTERVAL}=60000`", environment={INTERVAL: "60000"}),
    Wait("`fetch_local=False`", fetch_local=False),
)


def main() -> None:
    """Print the table."""
    print("| | latency | ready | seconds | objects restored |\n| --- | ---: | ---: | ---: | ---: |")  # noqa: T201
    for wait in WAITS:
        for latency in _LATENCIES:
            took = wait.run(latency)
            cells = (
                wait.name,
                f"{1000 * latency:.0f} ms",
                f"{took.ready} of {COUNT}",
                f"{took.seconds:.1f}",
                f"{took.restored:,.0f}",
            )
            print(f"| {' | '.join(cells)} |", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
