"""Rounds of spilling and restoring, on all sides by turns, and what they come to."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import ClassVar

from fsspill.format.url import parse_url_with_offset
from fsspill.transfer.base import MIB
from tests.benchmarks.link_server import LinkServer, Stats
from tests.benchmarks.reused_store import ReusedStore
from tests.benchmarks.sides import RAY, Side
from tests.benchmarks.table import shown_requests, shown_size, shown_speed

__all__ = ["Case", "Row", "Sample", "measure", "run_case", "sample", "verify"]

_GIB = 2**30


@dataclass(frozen=True)
class Case:
    """A batch of objects.

    Attributes
    ----------
    count, size : int
        How many objects, and the bytes of each.
    restored : int
        How many of them are restored in a round, spread evenly over the batch.
    """

    count: int
    size: int
    restored: int

    @property
    def nbytes(self) -> int:
        """Bytes of all objects."""
        return self.count * self.size


@dataclass(frozen=True)
class Sample:
    """One operation of one side, once.

    Attributes
    ----------
    nbytes : int
        Of the objects that were moved.
    needed : int
        Bytes of their frames: what a restore cannot do without.
    cpu_seconds : float
        Of this process, all threads.
    stats : Stats
        What the server has seen of it.
    """

    nbytes: int
    needed: int
    seconds: float
    cpu_seconds: float
    stats: Stats

    @property
    def mib_per_second(self) -> float:
        """Speed, by the bytes of the objects."""
        return self.nbytes / MIB / self.seconds


@dataclass(frozen=True)
class Row:
    """One operation of one side in one case: medians of the rounds.

    Attributes
    ----------
    count : int
        How many objects.
    ratio : float
        Speed over that of Ray's own storage: the median of the rounds' ratios, in which whatever
        else slowed this machine for a while cancels out.
    overread : float
        Bytes that the server sent over bytes needed; 0 without a server.
    requests : Counter
        Of the round with the median number of them.
    """

    headings: ClassVar[Sequence[str]] = (
        "objects", "", "", "MiB/s", "x Ray's", "CPU s/GiB", "read/needed", "requests"
    )  # fmt: skip

    case: Case
    operation: str
    side: str
    mib_per_second: float
    ratio: float
    cpu_seconds_per_gib: float
    overread: float
    requests: Counter[str]

    @classmethod
    def of(
        cls,
        case: Case,
        operation: str,
        side: str,
        samples: Sequence[Sample],
        rays: Sequence[Sample],
    ) -> Row:
        """Summarise the rounds of one side, beside those of Ray's."""
        pairs = zip(samples, rays, strict=True)
        by_requests = sorted(samples, key=lambda sample: sample.stats.requests.total())
        return cls(
            case,
            operation,
            side,
            median(sample.mib_per_second for sample in samples),
            median(sample.mib_per_second / ray.mib_per_second for sample, ray in pairs),
            median(sample.cpu_seconds * _GIB / sample.nbytes for sample in samples),
            median(sample.stats.bytes_sent / sample.needed for sample in samples),
            by_requests[len(samples) // 2].stats.requests,
        )

    @property
    def count(self) -> int:
        return self.case.restored if self.operation == "restore" else self.case.count

    @property
    def cells(self) -> tuple[str, ...]:
        """What the table shows."""
        return (
            f"{self.count:,} x {shown_size(self.case.size)}",
            self.operation,
            self.side,
            shown_speed(self.mib_per_second),
            f"{self.ratio:.2f}",
            f"{self.cpu_seconds_per_gib:.2f}",
            f"{self.overread:,.2f}" if self.operation == "restore" and self.overread else "-",
            shown_requests(self.requests),
        )


def run_case(
    case: Case,
    sides: Sequence[Side],
    store: ReusedStore,
    rounds: int,
    server: LinkServer | None = None,
) -> Iterator[Row]:
    """Measure one batch on all sides by turns.

    Parameters
    ----------
    case : Case
        The batch.
    sides : sequence of Side
        What is compared; Ray's own must be one of them.
    store : ReusedStore
        The object store of all.
    rounds : int
        How often each of them spills and restores.
    server : LinkServer, optional
        Where requests and bytes are counted.

    Yields
    ------
    Row
        One per operation and side.
    """
    refs = store.fill(case.count, case.size)
    measured = [[measure(side, refs, case, server) for side in sides] for _ in range(rounds)]
    names = [side.name for side in sides]
    for index, operation in enumerate(("spill", "restore")):
        columns = zip(*([pair[index] for pair in one_round] for one_round in measured), strict=True)
        samples = dict(zip(names, columns, strict=True))
        for name in names:
            yield Row.of(case, operation, name, samples[name], samples[RAY])


def measure(
    side: Side, refs: Sequence[bytes], case: Case, server: LinkServer | None = None
) -> tuple[Sample, Sample]:
    """Spill a batch, restore it one by one, and clear up; return the first two."""
    urls: list[bytes] = []
    spilled = sample(lambda: urls.extend(side.spill(refs)), case.nbytes, urls, server)
    chosen = range(0, len(refs), max(1, len(refs) // case.restored))
    pairs = [(refs[index], urls[index]) for index in chosen]

    def restore() -> None:
        for ref, url in pairs:
            side.restore(ref, url)

    nbytes = len(pairs) * case.size
    restored = sample(restore, nbytes, [url for _, url in pairs], server)
    side.delete(urls)
    if server:
        server.reset()
    return spilled, restored


def verify(case: Case, side: Side, store: ReusedStore) -> int:
    """Spill and restore every object once, compare it with its source, and clear up.

    Returns
    -------
    int
        Bytes that came back as they were.

    Raises
    ------
    ValueError
        An object came back with other bytes.
    """
    refs = store.fill(case.count, case.size)
    urls = side.spill(refs)
    for ref, url in zip(refs, urls, strict=True):
        side.restore(ref, url)
        store.verify(ref)
    side.delete(urls)
    return case.nbytes


def sample(
    work: Callable[[], None], nbytes: int, urls: Sequence[bytes], server: LinkServer | None
) -> Sample:
    """Do something once; `urls` are those of the objects it moves, when it is done."""
    before = server.stats() if server else Stats()
    cpu_start, start = time.process_time(), time.perf_counter()
    work()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    stats = server.stats().since(before) if server else Stats()
    needed = sum(parse_url_with_offset(url.decode()).size for url in urls)
    return Sample(nbytes, needed, seconds, cpu_seconds, stats)
