"""Rounds of spilling and restoring, on all contenders alternately, and their medians."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import ClassVar

from fsspill.bench.contenders import RAY, Contender
from fsspill.bench.measure import GIB, Batch, time_call
from fsspill.bench.reused_store import ReusedStore
from fsspill.format.url import parse_url_with_offset
from fsspill.settings import MIB
from tests.benchmarks.link_server import LinkServer, Stats
from tests.benchmarks.table import shown_requests, shown_size, shown_speed

__all__ = ["Case", "Row", "Sample", "measure", "run_case", "sample", "verify"]


@dataclass(frozen=True)
class Case(Batch):
    """A batch of objects, some of which are restored.

    Attributes
    ----------
    restored : int
        Number of objects restored in a round, spread evenly over the batch.
    """

    restored: int


@dataclass(frozen=True)
class Sample:
    """One measurement of one operation of one contender.

    Attributes
    ----------
    nbytes : int
        Bytes of the objects.
    needed : int
        Bytes of their frames, the least that a restore reads.
    cpu_seconds : float
        CPU time of all threads of this process.
    stats : Stats
        Traffic of the server.
    """

    nbytes: int
    needed: int
    seconds: float
    cpu_seconds: float
    stats: Stats

    @property
    def mib_per_second(self) -> float:
        """Speed in bytes of objects."""
        return self.nbytes / MIB / self.seconds


@dataclass(frozen=True)
class Row:
    """One operation of one contender in one case: medians of the rounds.

    Attributes
    ----------
    count : int
        Number of objects.
    ratio : float
        Speed relative to Ray's own storage: the median of the rounds' ratios, in which temporary
        load on this machine cancels out.
    overread : float
        Ratio of bytes sent by the server to bytes needed; 0 without a server.
    requests : Counter
        Requests of the round with the median number of them.
    """

    headings: ClassVar[Sequence[str]] = (
        "objects", "", "", "MiB/s", "x Ray's", "CPU s/GiB", "read/needed", "requests"
    )  # fmt: skip

    case: Case
    operation: str
    contender: str
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
        contender: str,
        samples: Sequence[Sample],
        rays: Sequence[Sample],
    ) -> Row:
        """Summarise the rounds of one contender, relative to those of Ray's own storage."""
        pairs = zip(samples, rays, strict=True)
        by_requests = sorted(samples, key=lambda sample: sample.stats.requests.total())
        return cls(
            case,
            operation,
            contender,
            median(sample.mib_per_second for sample in samples),
            median(sample.mib_per_second / ray.mib_per_second for sample, ray in pairs),
            median(sample.cpu_seconds * GIB / sample.nbytes for sample in samples),
            median(sample.stats.bytes_sent / sample.needed for sample in samples),
            by_requests[len(samples) // 2].stats.requests,
        )

    @property
    def count(self) -> int:
        """Number of objects that the operation moves."""
        return self.case.restored if self.operation == "restore" else self.case.count

    @property
    def cells(self) -> tuple[str, ...]:
        """Cells of the row."""
        return (
            f"{self.count:,} x {shown_size(self.case.size)}",
            self.operation,
            self.contender,
            shown_speed(self.mib_per_second),
            f"{self.ratio:.2f}",
            f"{self.cpu_seconds_per_gib:.2f}",
            f"{self.overread:,.2f}" if self.operation == "restore" and self.overread else "-",
            shown_requests(self.requests),
        )


def run_case(
    case: Case,
    contenders: Sequence[Contender],
    store: ReusedStore,
    rounds: int,
    server: LinkServer | None = None,
) -> Iterator[Row]:
    """Measure one batch on all contenders alternately.

    Parameters
    ----------
    case : Case
        The batch.
    contenders : sequence of Contender
        The compared storages; Ray's own must be one of them.
    store : ReusedStore
        The object store of all contenders.
    rounds : int
        Number of times that each of them spills and restores.
    server : LinkServer, optional
        The server that counts requests and bytes.

    Yields
    ------
    Row
        One per operation and contender.
    """
    refs = store.fill(case.count, case.size)
    measured = [
        [measure(contender, refs, case, server) for contender in contenders] for _ in range(rounds)
    ]
    names = [contender.name for contender in contenders]
    for index, operation in enumerate(("spill", "restore")):
        columns = zip(*([pair[index] for pair in one_round] for one_round in measured), strict=True)
        samples = dict(zip(names, columns, strict=True))
        for name in names:
            yield Row.of(case, operation, name, samples[name], samples[RAY])


def measure(
    contender: Contender, refs: Sequence[bytes], case: Case, server: LinkServer | None = None
) -> tuple[Sample, Sample]:
    """Spill a batch, restore its objects one by one and delete it; return the first two samples."""
    urls: list[bytes] = []
    spilled = sample(lambda: urls.extend(contender.spill(refs)), case.nbytes, urls, server)
    chosen = range(0, len(refs), max(1, len(refs) // case.restored))
    pairs = [(refs[index], urls[index]) for index in chosen]

    def restore() -> None:
        for ref, url in pairs:
            contender.restore(ref, url)

    nbytes = len(pairs) * case.size
    restored = sample(restore, nbytes, [url for _, url in pairs], server)
    contender.delete(urls)
    if server:
        server.reset()
    return spilled, restored


def verify(case: Case, contender: Contender, store: ReusedStore) -> int:
    """Spill and restore every object once, compare it with its source, and delete the batch.

    Returns
    -------
    int
        Bytes restored unchanged.

    Raises
    ------
    ValueError
        An object was restored with other bytes.
    """
    refs = store.fill(case.count, case.size)
    urls = contender.spill(refs)
    for ref, url in zip(refs, urls, strict=True):
        contender.restore(ref, url)
        store.verify(ref)
    contender.delete(urls)
    return case.nbytes


def sample(
    work: Callable[[], None], nbytes: int, urls: Sequence[bytes], server: LinkServer | None
) -> Sample:
    """Measure one call of `work`, which moves the objects of `urls`.

    `urls` is read after the call, which may fill it.
    """
    before = server.stats() if server else Stats()
    seconds, cpu_seconds = time_call(work)
    stats = server.stats().since(before) if server else Stats()
    needed = sum(parse_url_with_offset(url.decode()).size for url in urls)
    return Sample(nbytes, needed, seconds, cpu_seconds, stats)
