"""Restores over links with and without a tail of slow answers, with and without hedged requests.

``python -m tests.benchmarks.tail`` prints the table of ``docs/scale.md``.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import NamedTuple
from unittest import mock

from fsspill import ExternalStorage, InMemoryObjectStore
from fsspill.storage import hedging
from tests.benchmarks.link_server import TAIL, LinkServer
from tests.instances import forgotten

__all__ = ["LINKS", "Restores", "measure"]

LATENCY, BANDWIDTH = 0.03, 80e6
LINKS: Mapping[str, Mapping[str, float]] = {"with a tail": TAIL, "without": {}}
SIZE = 20 * 2**20

_UNMEASURED = 8
"""Restores before those that are measured: they find out what is usual."""


class Restores(NamedTuple):
    """The restores of an object over a link, again and again.

    Attributes
    ----------
    link : str
        The name of the link.
    hedged : bool
        True if late requests were made a second time.
    seconds : list of float
        Time of each, in ascending order.
    requests : int
        GETs of all of them.
    """

    link: str
    hedged: bool
    seconds: list[float]
    requests: int

    def quantile(self, share: float) -> float:
        """Return the seconds within which this share of the restores was done."""
        return self.seconds[min(len(self.seconds) - 1, int(share * len(self.seconds)))]


class _Restorer:
    """A storage with one object, and what its restores took."""

    def __init__(self, hedged: bool) -> None:
        self.hedged = hedged
        self.seconds: list[float] = []
        self.requests = 0
        store = InMemoryObjectStore()
        store.put(b"ref", os.urandom(SIZE))
        self.storage = ExternalStorage("s3://bucket/tail", object_store=store)
        self._urls = self.storage.spill_objects([b"ref"])

    def restore(self, server: LinkServer, *, measured: bool) -> None:
        """Restore the object."""
        self.storage.object_store = InMemoryObjectStore()
        before = server.stats().requests["GetObject"]
        with mock.patch.object(hedging, "SHARE", hedging.SHARE if self.hedged else 0):
            began = time.perf_counter()
            self.storage.restore_spilled_objects([b"ref"], self._urls)
            seconds = time.perf_counter() - began
        if measured:
            self.seconds.append(seconds)
            self.requests += server.stats().requests["GetObject"] - before


def measure(server: LinkServer, link: str, count: int) -> Iterator[Restores]:
    """Restore an object `count` times without and `count` times with hedges, by turns."""
    server.set_link(LATENCY, BANDWIDTH)
    with ExitStack() as storages:
        restorers = [_Restorer(hedged) for hedged in (False, True)]
        for each in restorers:
            storages.callback(each.storage.destroy_external_storage)
        storages.callback(server.set_link, LATENCY, BANDWIDTH)
        server.set_link(LATENCY, BANDWIDTH, **LINKS[link])
        for turn in range(-_UNMEASURED, count):
            # Each of them is as often the one that follows a restore of the other.
            for each in restorers[:: 1 if turn % 2 else -1]:
                each.restore(server, measured=turn >= 0)
    for each in restorers:
        yield Restores(link, each.hedged, sorted(each.seconds), each.requests)


def main() -> None:
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="restores of each row")
    count = parser.parse_args().count
    print("| link | hedged | p50 ms | p90 ms | p99 ms | slowest ms | requests per restore |")  # noqa: T201
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")  # noqa: T201
    with LinkServer(LATENCY, BANDWIDTH) as server, forgotten("s3"):
        server.create_bucket("bucket")
        with mock.patch.dict(os.environ, server.environment):
            for link in LINKS:
                for row in measure(server, link, count):
                    times = [f"{row.quantile(q) * 1000:,.0f}" for q in (0.5, 0.9, 0.99, 1.0)]
                    hedged = "yes" if row.hedged else "no"
                    requests = f"{row.requests / count:.2f}"
                    print(f"| {' | '.join([link, hedged, *times, requests])} |", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
