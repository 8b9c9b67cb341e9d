"""A simulated cluster that spills and restores for an hour, in which one bucket fails for a while.

For pictures, and to see every panel of the dashboard with data. Nothing is spilled.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterator
from functools import cache

__all__ = ["STEP", "Cluster", "history"]

STEP = 15
"""Seconds of a step."""

MIB = 2**20
FIRST, SECOND = "s3://my-bucket/spill", "gs://second-bucket/spill"
OUTAGE = range(1800, 2220)
"""Seconds in which the first bucket does not answer."""

_FEW = 20
BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 120.0)


class Cluster:
    """The metrics of some nodes, which `step` moves on by `STEP` seconds."""

    def __init__(self, nodes: int = 4) -> None:
        self._random = random.Random(1)
        self._nodes = [f"10.0.0.{11 + number}" for number in range(nodes)]
        self._values: dict[str, float] = defaultdict(float)
        self.seconds = 0

    def step(self) -> None:
        """Spill and restore for a step."""
        self.seconds += STEP
        for number, node in enumerate(self._nodes):
            share = 1 + 0.5 * math.sin(self.seconds / 500 + number) + self._random.uniform(0, 0.2)
            begun = min(1.0, self.seconds / 900)
            self._spill(node, int(170 * STEP * share * begun))
            self._restore(node, int(120 * STEP * share * max(0.0, begun - 0.4)))

    def exposition(self, node: str | None = None, *, timestamp: float | None = None) -> str:
        """Return the lines of a node's endpoint, or of all, with their time if it is given."""
        end = "" if timestamp is None else f" {timestamp:.0f}"
        lines = (f"{name} {value}{end}\n" for name, value in sorted(self._values.items()))
        return "".join(line for line in lines if not node or f'NodeAddress="{node}"' in line)

    @property
    def nodes(self) -> list[str]:
        """The addresses of the nodes."""
        return self._nodes

    def _spill(self, node: str, mib: int) -> None:
        fails = self.seconds in OUTAGE
        uri, operation = (SECOND, "put") if fails else (FIRST, "put_part")
        place = {"uri": uri, "tier": "bucket"}
        files = mib // 8
        self._add(node, "spilled_bytes_total", mib * MIB, **place)
        self._add(node, "stored_bytes_total", int(mib * MIB * 0.58), **place)
        self._add(node, "spilled_objects_total", mib // 4, **place)
        self._add(node, "spilled_files_total", files, **place)
        self._add(node, "deleted_files_total", int(files * 0.8), uri=uri)
        self._request(node, uri, operation, "success", files)
        self._add(node, "copied_bytes_total", int(mib * MIB * 0.58))
        self._observe(node, "spill_seconds", "bucket", files // 10 + 1, 3.2 if fails else 1.1)
        failed = files // 9 if fails else self._random.randint(0, 2)
        self._request(node, FIRST, "put_part", "timeout" if fails else "throttled", failed)
        self._add(node, "retries_total", failed, uri=FIRST)
        self._add(node, "hedges_total", files // 40, uri=FIRST, operation="get", winner="second")
        for each in (FIRST, SECOND):
            used = each == uri
            self._set(node, "circuit_open", int(fails and not used), uri=each)
            self._set(node, "requests_in_flight", used * self._random.randint(20, 60), uri=each)
            self._set(node, "bytes_in_flight", used * self._random.randint(60, 128) * MIB, uri=each)
        self._add(node, "failovers_total", int(self.seconds == OUTAGE.start), uri=FIRST)
        self._set(node, "pending_deletions", 40 + self._random.randint(0, 9) if fails else 0)

    def _restore(self, node: str, mib: int) -> None:
        copies = int(mib * 0.7)
        for tier, moved, seconds in (("bucket", mib - copies, 0.09), ("copy", copies, 0.006)):
            self._add(node, "restored_bytes_total", moved * MIB, uri=FIRST, tier=tier)
            self._add(node, "restored_objects_total", moved // 4, uri=FIRST, tier=tier)
            self._observe(node, "restore_seconds", tier, moved // 4, seconds)
        self._request(node, FIRST, "get", "success", (mib - copies) // 2)
        evicted = int(mib * MIB * 0.5) if self.seconds > 1500 else 0
        self._add(node, "copy_evicted_bytes_total", evicted)
        self._set(node, "copy_bytes", min(20.0, self.seconds / 75) * 1e9)
        is_wrong = self.seconds == 1200 and node == self._nodes[1]
        self._add(node, "digest_mismatches_total", int(is_wrong), uri=FIRST, tier="copy")
        lost = int(self.seconds == OUTAGE.stop + STEP and node == self._nodes[2])
        self._add(node, "lost_objects_total", lost, reason="unreachable")
        self._add(node, "refused_objects_total", 0)

    def _request(self, node: str, uri: str, operation: str, outcome: str, count: int) -> None:
        self._add(node, "requests_total", count, uri=uri, operation=operation, outcome=outcome)

    def _observe(self, node: str, name: str, tier: str, count: int, median: float) -> None:
        """Observe so many times, a few of them at random and the others like these."""
        few = min(count, _FEW)
        for _ in range(few):
            seconds = median * math.exp(self._random.gauss(0, 0.5))
            for bound in (*BOUNDS, math.inf):
                shown = "+Inf" if math.isinf(bound) else str(bound)
                weight = (count // few) * (seconds <= bound)
                self._add(node, f"{name}_bucket", weight, tier=tier, le=shown)

    def _add(self, node: str, name: str, value: float, **labels: str) -> None:
        self._values[_series(node, name, **labels)] += value

    def _set(self, node: str, name: str, value: float, **labels: str) -> None:
        self._values[_series(node, name, **labels)] = value


@cache
def _series(node: str, name: str, **labels: str) -> str:
    both = {"NodeAddress": node, "node": random.Random(node).randbytes(28).hex(), **labels}
    shown = ",".join(f'{key}="{value}"' for key, value in both.items())
    return f"ray_fsspill_{name}{{{shown}}}"


def history(seconds: int, end: float) -> Iterator[str]:
    """Yield what a cluster exports at each step, with its time, the last one at `end`."""
    cluster = Cluster()
    for _ in range(0, seconds, STEP):
        cluster.step()
        yield cluster.exposition(timestamp=end - seconds + cluster.seconds)
