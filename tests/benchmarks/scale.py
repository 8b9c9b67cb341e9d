"""The load of many nodes on one bucket, computed from measured requests: ``docs/scale.md``.

``python -m tests.benchmarks.scale`` prints the tables of that page.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from unittest.mock import patch

from fsspill.bench.reused_store import OWNER_ADDRESS, ReusedStore
from fsspill.external_storage import ExternalStorage
from fsspill.settings import MIB
from fsspill.storage import hedging
from tests.benchmarks.link_server import LinkServer

__all__ = ["Footprint", "measure", "tables"]

_GIB, _TIB = 2**30, 2**40

WRITES_PER_SECOND, READS_PER_SECOND = 3_500, 5_500
"""Requests per second that S3 accepts for each partitioned prefix, from "Best practices design
patterns: optimizing Amazon S3 performance" of its user guide."""

WRITE_PRICE, READ_PRICE = 0.005e-3, 0.0004e-3
"""Dollars per request: S3 Standard, us-east-1, list price. Deletions are free."""

NODE_BYTES_PER_SECOND = _GIB
"""Bytes that a node spills, and restores, at full speed: about 10 Gbit/s per direction."""

RESTORES_PER_SECOND = 4 / 0.037
"""Small objects that the 4 IO workers of a node restore, each sequentially: 100 KiB over a link of
30 ms take 37 ms (measured through Ray)."""

_OBJECTS = {"100 KiB": (800, 100 * 2**10), "1 MiB": (80, MIB), "20 MiB": (4, 20 * MIB)}
_OBJECTS["200 MiB"] = (1, 200 * MIB)

_NODES = (100, 1_000)
_LOAD_HEADINGS = ("writes/s", "prefixes", "reads/s", "prefixes")

_VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "defaults": {},
    "file_size 16 MiB, range_size 8 MiB": {"file_size": 16 * MIB, "range_size": 8 * MIB},
}


class Footprint(NamedTuple):
    """The requests of objects of one size.

    Attributes
    ----------
    name : str
        The size.
    objects, nbytes : int
        Number and bytes of the objects, all of them spilled, restored one by one, and deleted.
    writes, reads, deletions : int
        Requests in the classes of S3; one deletion takes up to 1,000 files.
    """

    name: str
    objects: int
    nbytes: int
    writes: int
    reads: int
    deletions: int

    def per(self, requests: int, nbytes: float) -> float:
        """Return the part of `requests` that `nbytes` bytes take."""
        return requests * nbytes / self.nbytes

    @property
    def dollars_per_tib(self) -> float:
        """Cost of spilling and restoring one TiB once."""
        dollars = self.writes * WRITE_PRICE + self.reads * READ_PRICE
        return dollars * _TIB / self.nbytes


def measure(**parameters: Any) -> Iterator[Footprint]:
    """Spill, restore and delete objects of every size, and count the requests.

    Parameters
    ----------
    **parameters
        Parameters of the storage that differ from the defaults.
    """
    store = ReusedStore(memoryview(os.urandom(MIB) * 200))
    # Hedges depend on the moment: up to one more for twenty requests.
    unhedged = patch.object(hedging, "SHARE", 0)
    with LinkServer(latency=0, bandwidth=None) as server, unhedged:
        server.create_bucket("scale")
        options = {"endpoint_url": server.endpoint_url, "key": "any", "secret": "any"}
        storage = ExternalStorage(
            "s3://scale", storage_options=options, object_store=store, **parameters
        )
        for name, (count, size) in _OBJECTS.items():
            server.reset()
            refs = store.fill(count, size)
            urls = storage.spill_objects(refs, [OWNER_ADDRESS] * count)
            for ref, url in zip(refs, urls, strict=True):
                storage.restore_spilled_objects([ref], [url])
            storage.delete_spilled_objects(urls)
            yield _footprint(name, count, count * size, server.stats().requests)


def _footprint(name: str, count: int, nbytes: int, requests: Counter[str]) -> Footprint:
    deletions = requests.pop("DeleteObjects", 0) + requests.pop("DeleteObject", 0)
    reads = requests.pop("GetObject")
    return Footprint(name, count, nbytes, requests.total(), reads, deletions)


def tables() -> Iterator[str]:
    """Yield the tables of the page, as Markdown."""
    for name, parameters in _VARIANTS.items():
        footprints = list(measure(**parameters))
        yield _table(
            [name, "writes per GiB", "reads per GiB", "dollars per TiB", *_LOAD_HEADINGS],
            [_cells(footprint) for footprint in footprints],
        )


def _cells(footprint: Footprint) -> list[str]:
    writes = footprint.per(footprint.writes, _GIB)
    reads = footprint.per(footprint.reads, _GIB)
    cells = [f"{writes:,.0f}", f"{reads:,.0f}", f"{footprint.dollars_per_tib:,.2f}"]
    spilled = NODE_BYTES_PER_SECOND
    restored = min(spilled, RESTORES_PER_SECOND * footprint.nbytes / footprint.objects)
    cells += _load(footprint.per(footprint.writes, spilled), WRITES_PER_SECOND)
    cells += _load(footprint.per(footprint.reads, restored), READS_PER_SECOND)
    return [footprint.name, *cells]


def _load(requests: float, limit: float) -> list[str]:
    """Return the requests per second of all nodes, given those of one, and the prefixes needed."""
    loads = [nodes * requests for nodes in _NODES]
    rates = " / ".join(f"{load:,.0f}" for load in loads)
    prefixes = " / ".join(f"{-(-load // limit):,.0f}" for load in loads)
    return [rates, prefixes]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(headings) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows))


if __name__ == "__main__":
    print(*tables(), sep="\n\n")  # noqa: T201
