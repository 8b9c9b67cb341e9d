"""Seconds until an object survives its node: the table of ``docs/durable.md``.

``python -m tests.benchmarks.durable`` prints that table.
"""

from __future__ import annotations

import json
from typing import Any

from fsspill.settings import MIB
from tests.benchmarks.contenders import BUCKET
from tests.benchmarks.link_server import LinkServer
from tests.running import RAYS_IO_WORKERS, Program, ray_environment

__all__ = ["LOADS", "measure"]

LOADS = ((1, MIB), (10, MIB), (100, MIB), (1, 20 * MIB), (10, 20 * MIB))
"""Objects a second, and bytes of each. A hundred of 20 MiB are more than a link of 10 Gbit/s."""

_SECONDS = 20


def measure(rate: float, size: int, seconds: float = _SECONDS) -> dict[str, Any]:
    """Return how many objects were ``made`` and, sorted, the ``seconds`` of those stored."""
    config = {"type": "fsspec", "params": {"uri": f"s3://{BUCKET}/spill", "durable": True}}
    system = {"object_spilling_config": json.dumps(config)}
    with LinkServer() as server:
        server.create_bucket(BUCKET)
        with (
            ray_environment(server.environment, io_workers=RAYS_IO_WORKERS) as environment,
            Program(
                "durable.py",
                json.dumps(system),
                *map(str, (rate, size, seconds)),
                environment=environment,
            ) as program,
        ):
            found: dict[str, Any] = json.loads(
                program.expect("measured ").removeprefix("measured ")
            )
            program.output()
    return found


def main() -> None:
    """Print the table."""
    print("| objects a second | size | stored | p50 | p99 |\n| ---: | ---: | ---: | ---: | ---: |")  # noqa: T201
    for rate, size in LOADS:
        found = measure(rate, size)
        seconds = found["seconds"]
        p50, p99 = (seconds[int(len(seconds) * share)] for share in (0.5, 0.99))
        stored = f"{len(seconds)} of {found['made']}"
        print(  # noqa: T201
            f"| {rate} | {size // MIB} MiB | {stored} | {p50:.1f} s | {p99:.1f} s |", flush=True
        )


if __name__ == "__main__":
    main()
