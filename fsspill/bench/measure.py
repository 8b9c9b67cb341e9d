"""Rounds of spilling and restoring, on all contenders alternately, within a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from fsspill.bench.contenders import Contender
from fsspill.bench.reused_store import ReusedStore
from fsspill.settings import MIB

__all__ = [
    "GIB",
    "MAX_ROUNDS",
    "Batch",
    "Measurements",
    "Sample",
    "measure",
    "shown_size",
    "time_call",
]

GIB = 2**30
MAX_ROUNDS = 5
"""Rounds, however fast they are."""


@dataclass(frozen=True)
class Batch:
    """Objects that are spilled together.

    Attributes
    ----------
    count, size : int
        Number of objects, and bytes of each.
    """

    count: int
    size: int

    @property
    def nbytes(self) -> int:
        """Bytes of all objects."""
        return self.count * self.size

    def __str__(self) -> str:
        return f"{self.count} x {shown_size(self.size)}"


def shown_size(nbytes: int) -> str:
    """Return a size in the largest unit not above it."""
    units = ((GIB, "GiB"), (MIB, "MiB"), (2**10, "KiB"))
    return next(
        (f"{nbytes // unit} {name}" for unit, name in units if nbytes >= unit), f"{nbytes} B"
    )


@dataclass(frozen=True)
class Sample:
    """One measurement of one operation.

    Attributes
    ----------
    seconds, cpu_seconds : float
        Time, and CPU time of all threads of this process.
    writes, reads : int
        Requests, as storage bills them.
    """

    seconds: float
    cpu_seconds: float
    writes: int
    reads: int


@dataclass
class Measurements:
    """The samples of one contender for one batch, one of each operation a round."""

    batch: Batch
    contender: Contender
    spills: list[Sample] = field(default_factory=list)
    restores: list[Sample] = field(default_factory=list)

    @property
    def seconds(self) -> list[float]:
        """Seconds of each round."""
        pairs = zip(self.spills, self.restores, strict=True)
        return [spill.seconds + restore.seconds for spill, restore in pairs]

    def speed(self, samples: Sequence[Sample]) -> float:
        """Return the median of MiB/s."""
        return self.batch.nbytes / MIB / median(each.seconds for each in samples)

    def cpu_seconds_per_gib(self, samples: Sequence[Sample]) -> float:
        """Return the median of CPU seconds."""
        return median(each.cpu_seconds for each in samples) * GIB / self.batch.nbytes


def measure(
    batch: Batch,
    contenders: Sequence[Contender],
    store: ReusedStore,
    seconds: float,
    done: Callable[[], None] = lambda: None,
) -> list[Measurements]:
    """Measure one batch on all contenders alternately.

    Parameters
    ----------
    batch : Batch
        The objects.
    contenders : sequence of Contender
        The compared storages.
    store : ReusedStore
        Their object store.
    seconds : float
        Time after which no other round begins that would not end within it.
    done : callable, optional
        Called after each contender.

    Returns
    -------
    list of Measurements
        One per contender, with the same number of rounds.
    """
    found = [Measurements(batch, contender) for contender in contenders]
    began = time.perf_counter()
    for number in range(1, MAX_ROUNDS + 1):
        for each in found:
            _measure_once(each, store)
            done()
        spent = time.perf_counter() - began
        if spent + spent / number > seconds:
            break
    return found


def _measure_once(measurements: Measurements, store: ReusedStore) -> None:
    batch, contender = measurements.batch, measurements.contender
    refs = store.fill(batch.count, batch.size)
    urls: list[bytes] = []
    measurements.spills.append(_sample(contender, lambda: urls.extend(contender.spill(refs))))

    def restore() -> None:
        for ref, url in zip(refs, urls, strict=True):
            contender.restore(ref, url)

    measurements.restores.append(_sample(contender, restore))
    store.verify(refs[-1])
    contender.delete(urls)


def _sample(contender: Contender, work: Callable[[], None]) -> Sample:
    writes, reads = contender.requests()
    seconds, cpu_seconds = time_call(work)
    writes_after, reads_after = contender.requests()
    return Sample(seconds, cpu_seconds, writes_after - writes, reads_after - reads)


def time_call(work: Callable[[], None]) -> tuple[float, float]:
    """Return the seconds of a call, and the CPU seconds of all threads of this process."""
    cpu_start, start = time.process_time(), time.perf_counter()
    work()
    return time.perf_counter() - start, time.process_time() - cpu_start
