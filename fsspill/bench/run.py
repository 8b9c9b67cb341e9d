"""A measurement of a URI: sizes that fit into a time, rounds, and a report; nothing is left."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

from fsspill.bench.advice import advise
from fsspill.bench.contenders import FSSPILL, RAY, Contender, open_fsspill, open_ray, variants
from fsspill.bench.estimate import Estimate, estimate
from fsspill.bench.measure import MAX_ROUNDS, Batch, Measurements, measure
from fsspill.bench.reused_store import ReusedStore, random_bytes
from fsspill.error_chain import redact_errors
from fsspill.errors import ConfigError, FsspillError
from fsspill.external_storage import ExternalStorage
from fsspill.log import get_logger
from fsspill.progress import Progress, ignore_progress
from fsspill.secrets import redact
from fsspill.settings import MIB, Settings

__all__ = ["SECONDS", "Report", "expect_requests", "run"]

logger = get_logger(__name__)

SECONDS = 45.0
"""Seconds for all rounds, unless the user says."""

LARGEST_DEFAULT = 160 * MIB
"""Bytes of a batch, unless the user says; less where the link is slow."""

_SIZES = (4 * MIB, 8 * MIB, 20 * MIB, 40 * MIB, 80 * MIB, LARGEST_DEFAULT)
_OBJECT_SIZE, _SMALL_SIZE, _SMALL_COUNTS = 20 * MIB, MIB, (4, 40)

_WANTED_ROUNDS = 3
_SMALL_SHARE = 0.3
"""The part of the time for small objects."""


@dataclass
class Report:
    """The outcome of a measurement.

    Attributes
    ----------
    uri : str
        What was measured.
    measured : list of Measurements
        All measurements, by batch and contender.
    notes : list of str
        What was left out, and why.
    files_left : int or None
        Files that could not be removed; None if the storage does not list them.
    """

    uri: str
    measured: list[Measurements] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files_left: int | None = 0

    @property
    def advice(self) -> list[str]:
        """The suggestions, in sentences."""
        return advise(self.measured)

    def baseline(self, batch: Batch) -> Measurements:
        """Return the measurements that others are compared with: Ray's own, or fsspill's."""
        of_batch = [each for each in self.measured if each.batch == batch]
        found = {each.contender.name: each for each in of_batch}
        return found.get(RAY) or found[FSSPILL]


@redact_errors
def expect_requests(uri: str, *, shared: bool = False, nbytes: int | None = None) -> Estimate:
    """Return the requests that `run` makes at most with these arguments; makes none itself."""
    settings = Settings.of(uri, shared=shared)
    return estimate(settings, nbytes or LARGEST_DEFAULT, variants(settings))


@redact_errors
def run(
    uri: str,
    *,
    shared: bool = False,
    nbytes: int | None = None,
    seconds: float = SECONDS,
    progress: Progress = ignore_progress,
) -> Report:
    """Measure fsspill, some of its parameters, and Ray's own class on a URI.

    Parameters
    ----------
    uri : str
        The URI; nothing else there is touched.
    shared : bool, optional
        True for a ``file://`` directory that all nodes have mounted.
    nbytes : int, optional
        Bytes of a batch; chosen by the speed of the link if not given.
    seconds : float, optional
        Time for all rounds.
    progress : callable, optional
        Receives the number of measurements done; see `fsspill.progress`.

    Returns
    -------
    Report
        The outcome.

    Raises
    ------
    FsspillError
        The URI cannot be spilled to, or fails on the way.

    Notes
    -----
    All files are in one directory of a session of its own, which is removed at the end, also after
    an exception such as KeyboardInterrupt. One process is measured; a node has several.
    """
    settings = Settings.of(uri, shared=shared)
    largest = _checked(nbytes) or LARGEST_DEFAULT
    progress("making objects", 0, 1)
    store, report = ReusedStore(random_bytes(largest)), Report(uri)
    progress("making objects", 1, 1)
    with _directory(settings, store, report) as place, ExitStack() as stack:
        contender, missing = stack.enter_context(open_ray(settings, store, place))
        bench = _Bench(settings, store, place, contender, seconds, report, progress)
        report.notes += [missing] if missing else []
        bench.run(nbytes)
    return report


def _checked(nbytes: int | None) -> int | None:
    """Return the bytes of a batch, of which the object store has two."""
    if nbytes is None:
        return None
    if nbytes < _SIZES[0] or nbytes > _available_memory() // 4:
        raise ConfigError(
            f"cannot measure with batches of {nbytes} bytes: expected {_SIZES[0]} or more, and at "
            "most a quarter of the memory that is available."
        )
    return nbytes


def _available_memory() -> int:
    """Return bytes of memory that can be used; a lot where the system does not tell."""
    try:
        with open("/proc/meminfo") as file:
            found = {name: value for name, _, value in (line.partition(":") for line in file)}
        return int(found["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return sys.maxsize


@contextmanager
def _directory(settings: Settings, store: ReusedStore, report: Report) -> Iterator[tuple[str, str]]:
    """Yield the session and the node of all files, which are removed at the end."""
    place = f"fsspill-bench-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    session, node = place
    storage = ExternalStorage(settings, session_name=session, node_id=node, object_store=store)
    storage.check()
    try:
        yield place
    finally:
        storage.destroy_external_storage()
        report.files_left = _count_left(storage)


def _count_left(storage: ExternalStorage) -> int | None:
    """Return the number of files that could not be removed, and log what to do about them."""
    try:
        left = len(storage.list_spilled_files())
    except FsspillError as error:
        logger.warning("files may be left: 'fsspill ls' shows them: %s", error)
        return None
    if left:
        logger.warning(
            "%d files are left: 'fsspill ls' shows them, 'fsspill clean' removes them", left
        )
    return left


class _Bench:
    """The rounds of one measurement."""

    def __init__(
        self,
        settings: Settings,
        store: ReusedStore,
        place: tuple[str, str],
        ray: Contender | None,
        seconds: float,
        report: Report,
        progress: Progress,
    ) -> None:
        self._open = partial(open_fsspill, settings, store, place)
        self._settings = settings
        self._store = store
        self._ray = ray
        self._seconds = seconds
        self._report = report
        self._progress = progress

    def run(self, nbytes: int | None) -> None:
        """Choose the sizes, and measure both kinds of batches."""
        fsspill = self._open()
        compared = variants(self._settings)
        size, round_seconds = self._choose_size(fsspill, 1 + len(compared), nbytes)
        if round_seconds > self._seconds:
            compared = []
            self._report.notes.append("The link is too slow to compare parameters in this time.")
        rays = [self._ray] if self._ray else []  # known only now: it may have failed
        large = [self._open(each) for each in compared if not each.small]
        small = [self._open(each) for each in compared if each.small]
        self._measure(_large(size), [fsspill, *large, *rays], self._seconds * (1 - _SMALL_SHARE))
        few = [fsspill, *small, *rays]
        self._measure(self._small(few, size), few, self._seconds * _SMALL_SHARE)

    def _measure(self, batch: Batch, contenders: Sequence[Contender], seconds: float) -> None:
        step, total, done = str(batch), MAX_ROUNDS * len(contenders), 0

        def count() -> None:
            nonlocal done
            done += 1
            self._progress(step, done, total)

        self._progress(step, 0, total)
        self._report.measured += self._rounds(batch, contenders, seconds, count)
        if done < total:  # the time was over
            self._progress(step, total, total)

    def _small(self, contenders: Sequence[Contender], nbytes: int) -> Batch:
        """Return as many small objects as some rounds have time for: each waits for a trip."""
        least, most = _SMALL_COUNTS
        began = time.perf_counter()
        self._rounds(Batch(least, _SMALL_SIZE), contenders)
        each = (time.perf_counter() - began) / least
        count = int(self._seconds * _SMALL_SHARE / _WANTED_ROUNDS / each)
        return Batch(min(max(count, least), most, nbytes // _SMALL_SIZE), _SMALL_SIZE)

    def _choose_size(self, fsspill: Contender, count: int, nbytes: int | None) -> tuple[int, float]:
        """Return the bytes of a batch, and the seconds of a round with it.

        The largest of which some rounds fit into the time, by measurements with smaller ones.
        """
        allowed = self._seconds * (1 - _SMALL_SHARE) / _WANTED_ROUNDS
        sizes = [nbytes] if nbytes else _SIZES
        chosen, needed = sizes[0], 0.0
        for number, size in enumerate(sizes):
            self._progress("choosing sizes", number, len(sizes))
            needed = self._round_seconds(fsspill, count, size)
            chosen = size
            following = sizes[min(number + 1, len(sizes) - 1)]
            if needed * following / size > allowed:
                break
        self._progress("choosing sizes", len(sizes), len(sizes))
        return chosen, needed

    def _round_seconds(self, fsspill: Contender, count: int, size: int) -> float:
        rays = [self._ray] if self._ray else []
        ours, *others = self._rounds(_large(size), [fsspill, *rays])
        return count * ours.seconds[0] + sum(each.seconds[0] for each in others)

    def _rounds(
        self,
        batch: Batch,
        contenders: Sequence[Contender],
        seconds: float = 0.0,
        done: Callable[[], None] = lambda: None,
    ) -> list[Measurements]:
        """Measure, without Ray's own class once it has failed."""
        chosen = [each for each in contenders if self._ray or each.name != RAY]
        try:
            return measure(batch, chosen, self._store, seconds, done)
        except FsspillError:
            raise
        except Exception as error:  # boto3 and smart_open may raise anything
            if self._ray not in chosen:
                raise
            reason = redact(f"{type(error).__name__}: {error}")
            self._report.notes.append(f"Ray's own class was left out: it failed with {reason}")
            self._ray = None
        return self._rounds(batch, contenders, seconds, done)


def _large(nbytes: int) -> Batch:
    size = min(nbytes, _OBJECT_SIZE)
    return Batch(nbytes // size, size)
