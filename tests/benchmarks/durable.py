"""Seconds until an object survives its node, and the cost: the tables of ``docs/durable.md``.

``python -m tests.benchmarks.durable`` prints them.
"""

from __future__ import annotations

import json
from typing import Any

from fsspill.settings import MIB
from tests.benchmarks.contenders import BUCKET
from tests.benchmarks.link_server import LinkServer, Stats
from tests.running import RAYS_IO_WORKERS, Program, ray_environment

__all__ = ["LOADS", "PUT_LOADS", "measure", "measure_puts"]

LOADS = ((1, MIB), (10, MIB), (100, MIB), (1, 20 * MIB), (10, 20 * MIB))
"""Objects a second, and bytes of each. A hundred of 20 MiB are more than a link of 10 Gbit/s."""

PUT_LOADS = (
    (10, MIB, 30.0),
    (5, 20 * MIB, 2.0),
    (5, 20 * MIB, 60.0),
    (20, MIB, 0.0),
    (20, MIB, 1.0),
)
"""Objects a second, bytes of each, and the seconds after which each is dropped: loads that memory
holds, one that it does not hold (100 objects of 20 MiB), and short-lived objects."""

_SECONDS = 20


def measure(rate: float, size: int, seconds: float = _SECONDS) -> dict[str, Any]:
    """Return how many objects were ``made`` and, sorted, the ``seconds`` of those stored."""
    return _run("durable.py", rate, size, seconds, durable=True)[0]


def measure_puts(
    rate: float, size: int, lifetime: float, *, durable: bool, seconds: float = _SECONDS
) -> dict[str, Any]:
    """Return how many objects were ``made``, and what that took.

    ``longest`` and ``p99`` are seconds of a ``ray.put``, ``cpu_seconds`` those of all processes of
    the cluster, ``stored`` the share of the objects' bytes that was sent to the storage, and
    ``writes`` the number of its requests.
    """
    found, traffic = _run("puts.py", rate, size, seconds, lifetime, durable=durable)
    writes = sum(traffic.requests[name] for name in _WRITES)
    stored = traffic.bytes_received / (found["made"] * size)
    return {**found, "stored": stored, "writes": writes}


_WRITES = ("PutObject", "UploadPart", "CreateMultipartUpload", "CompleteMultipartUpload")


def _run(program_name: str, *arguments: float, durable: bool) -> tuple[dict[str, Any], Stats]:
    """Return what a program measured, and the traffic of the storage meanwhile."""
    config = {"type": "fsspec", "params": {"uri": f"s3://{BUCKET}/spill", "durable": durable}}
    system = {"object_spilling_config": json.dumps(config)}
    with LinkServer() as server:
        server.create_bucket(BUCKET)
        with (
            ray_environment(server.environment, io_workers=RAYS_IO_WORKERS) as environment,
            Program(
                program_name, json.dumps(system), *map(str, arguments), environment=environment
            ) as program,
        ):
            line = program.expect("measured ")
            traffic = server.stats()
            program.output()
    found: dict[str, Any] = json.loads(line.removeprefix("measured "))
    return found, traffic


def main() -> None:
    """Print the tables."""
    _print(
        "| objects a second | size | stored | p50 | p99 |", "| ---: | ---: | ---: | ---: | ---: |"
    )
    for rate, size in LOADS:
        found = measure(rate, size)
        seconds = found["seconds"]
        p50, p99 = (seconds[int(len(seconds) * share)] for share in (0.5, 0.99))
        stored = f"{len(seconds)} of {found['made']}"
        _print(f"| {rate} | {size // MIB} MiB | {stored} | {p50:.1f} s | {p99:.1f} s |")
    _print("", _PUTS_HEAD, "| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for rate, size, lifetime in PUT_LOADS:
        for durable in (False, True):
            _print(_puts_row(rate, size, lifetime, durable))


_PUTS_HEAD = (
    "| objects | `durable` | longest `ray.put` | p99 | CPU seconds | bytes stored | writes |"
)


def _puts_row(rate: float, size: int, lifetime: float, durable: bool) -> str:
    found = measure_puts(rate, size, lifetime, durable=durable)
    cells = (
        f"{found['made']} of {size // MIB} MiB, {rate:g} a second, dropped after {lifetime:g} s",
        "yes" if durable else "no",
        f"{found['longest'] * 1000:.0f} ms",
        f"{found['p99'] * 1000:.0f} ms",
        f"{found['cpu_seconds']:.1f}",
        f"{found['stored']:.0%}",
        str(found["writes"]),
    )
    return f"| {' | '.join(cells)} |"


def _print(*lines: str) -> None:
    print("\n".join(lines), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
