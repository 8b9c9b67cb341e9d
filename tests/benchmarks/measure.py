"""Rounds of spilling and restoring, on both sides by turns, and what they come to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from fsspill.transfer import MIB
from fsspill.url import parse_url_with_offset
from tests.benchmarks.link_server import LinkServer, Stats
from tests.benchmarks.reused_store import ReusedStore
from tests.benchmarks.sides import Side

__all__ = ["Case", "Row", "Sample", "Summary", "measure", "run_case", "verify"]

_GIB = 2**30


@dataclass(frozen=True)
class Case:
    """A batch of objects.

    Attributes
    ----------
    name : str
        Where it is spilled to.
    count, size : int
        How many objects, and the bytes of each.
    restored : int
        How many of them are restored in a round, spread evenly over the batch.
    """

    name: str
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
class Summary:
    """All samples of one operation of one side: medians.

    Attributes
    ----------
    requests : int
        In one round.
    overread : float
        Bytes that the server sent over bytes needed.
    """

    side: str
    mib_per_second: float
    cpu_seconds_per_gib: float
    requests: int
    overread: float

    @classmethod
    def of(cls, side: str, samples: Sequence[Sample]) -> Summary:
        """Summarise the rounds."""
        return cls(
            side,
            median(sample.mib_per_second for sample in samples),
            median(sample.cpu_seconds * _GIB / sample.nbytes for sample in samples),
            round(median(sample.stats.requests.total() for sample in samples)),
            median(sample.stats.bytes_sent / sample.needed for sample in samples),
        )


@dataclass(frozen=True)
class Row:
    """One operation in one case, on both sides.

    Attributes
    ----------
    ratio : float
        Speed of the first side over that of the second: the median of the rounds' ratios, in
        which whatever else slowed this machine for a while cancels out.
    """

    case: Case
    operation: str
    sides: tuple[Summary, Summary]
    ratio: float


def run_case(
    case: Case,
    sides: tuple[Side, Side],
    store: ReusedStore,
    rounds: int,
    server: LinkServer | None = None,
) -> Iterator[Row]:
    """Measure one batch on both sides by turns.

    Parameters
    ----------
    case : Case
        The batch.
    sides : tuple of Side
        What is compared, the first with the second.
    store : ReusedStore
        The object store of both.
    rounds : int
        How often each of them spills and restores.
    server : LinkServer, optional
        Where requests and bytes are counted.

    Yields
    ------
    Row
        One per operation.
    """
    refs = store.fill(case.count, case.size)
    measured = [[measure(side, refs, case, server) for side in sides] for _ in range(rounds)]
    for index, operation in enumerate(("spill", "restore")):
        pairs = [(first[index], second[index]) for first, second in measured]
        yield _row(case, operation, sides, pairs)


def _row(
    case: Case, operation: str, sides: tuple[Side, Side], pairs: Sequence[tuple[Sample, Sample]]
) -> Row:
    firsts, seconds = zip(*pairs, strict=True)
    summaries = (Summary.of(sides[0].name, firsts), Summary.of(sides[1].name, seconds))
    ratio = median(first.mib_per_second / second.mib_per_second for first, second in pairs)
    return Row(case, operation, summaries, ratio)


def measure(
    side: Side, refs: Sequence[bytes], case: Case, server: LinkServer | None = None
) -> tuple[Sample, Sample]:
    """Spill a batch, restore it one by one, and clear up; return the first two."""
    urls: list[bytes] = []
    spilled = _sample(lambda: urls.extend(side.spill(refs)), case.nbytes, urls, server)
    chosen = range(0, len(refs), max(1, len(refs) // case.restored))
    pairs = [(refs[index], urls[index]) for index in chosen]

    def restore() -> None:
        for ref, url in pairs:
            side.restore(ref, url)

    nbytes = len(pairs) * case.size
    restored = _sample(restore, nbytes, [url for _, url in pairs], server)
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


def _sample(
    work: Callable[[], None], nbytes: int, urls: Sequence[bytes], server: LinkServer | None
) -> Sample:
    before = server.stats() if server else Stats()
    cpu_start, start = time.process_time(), time.perf_counter()
    work()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    stats = server.stats().since(before) if server else Stats()
    # `urls` of a spill are known only now.
    needed = sum(parse_url_with_offset(url.decode()).size for url in urls)
    return Sample(nbytes, needed, seconds, cpu_seconds, stats)
