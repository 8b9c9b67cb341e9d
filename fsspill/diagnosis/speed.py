"""The speed of a URI from this machine: latency, and bandwidth with few and many connections."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median

from fsspill.diagnosis.trial import Trial
from fsspill.diagnosis.verdict import (
    NOT_OF_THIS_STORAGE,
    Checklist,
    Finding,
    ok,
    skipped,
    warning,
)
from fsspill.object_store import InMemoryObjectStore
from fsspill.settings import MIB

__all__ = ["check_speed"]

_READS = 7
"""Reads of which the median is the latency."""

_SLOW = 0.1
"""Seconds of latency that are usual between regions, and not within one."""

_FIRST_SIZE = MIB
"""Bytes whose time tells how many there is time for."""

_LARGEST = 16 * MIB
"""Bytes of each measurement, one request of S3: so four measurements move 64 MiB."""

_SECONDS = 3.0
"""Seconds that a measurement over one connection may take."""

_LARGEST_RANGE = 8 * MIB
_CONNECTIONS = 64


def check_speed(trial: Trial, checks: Checklist) -> None:
    """Measure the latency, and the bandwidth over 1 and over 64 connections.

    Parameters
    ----------
    trial : Trial
        The URI, whose permissions were checked.
    checks : Checklist
        Gets the verdicts.

    Notes
    -----
    Moves up to 66 MiB, less over a slow link, with about 150 requests.
    """
    needs = ("read", "list", "delete")  # all that removes what it writes
    bandwidth = _Bandwidth(trial)
    checks.run("latency", partial(_latency, trial), needs=needs, otherwise="warning")
    checks.run("1 connection", bandwidth.of_one, needs=needs, otherwise="warning")
    name = f"{_CONNECTIONS} connections"
    checks.run(name, bandwidth.of_many, needs=("1 connection",), otherwise="warning")


def _latency(trial: Trial) -> Finding:
    file = trial.put("latency", b"x")
    read = partial(trial.small_files.read, file, 1, "cannot read", trial.uri)
    milliseconds = median(_seconds(read) for _ in range(_READS)) * 1000
    found = f"{milliseconds:.3g} ms to read a byte"
    if milliseconds < _SLOW * 1000:
        return ok(found)
    return warning(
        found,
        "Use a bucket in the region of this machine, and no proxy on the way: each object that is "
        "restored waits at least that long.",
    )


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@dataclass(frozen=True)
class _Rates:
    """Bytes a second of a write and of a read, and the number of files that were stored."""

    write: float
    read: float
    stored: int

    def __str__(self) -> str:
        return f"writes {self.write / MIB:,.3g} MiB/s, reads {self.read / MIB:,.3g} MiB/s"


class _Bandwidth:
    """The bandwidth of one URI, by spills and restores in the session of its trial."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._size = _FIRST_SIZE

    def of_one(self) -> Finding:
        """Write and read one file over one connection."""
        self._size = _FIRST_SIZE
        rate = self._measure(1).write
        self._size = int(min(max(rate * _SECONDS, _FIRST_SIZE), _LARGEST))
        return self._judge(1)

    def of_many(self) -> Finding:
        """Write many files, and read one file in many ranges, over many connections."""
        if self._trial.location.local:
            return NOT_OF_THIS_STORAGE
        if not self._trial.client.concurrent:
            return skipped("this filesystem makes one request at a time")
        return self._judge(_CONNECTIONS)

    def _judge(self, connections: int) -> Finding:
        rates = self._measure(connections)
        if rates.stored == connections:
            return ok(str(rates))
        return warning(
            f"only {rates.stored} of {connections} files were stored",
            "Check the limits of the storage: it takes single files, and not all of many.",
        )

    def _measure(self, connections: int) -> _Rates:
        size = self._size // connections
        data = os.urandom(size * connections)
        store = InMemoryObjectStore()
        storage = self._trial.open_storage(
            store,
            max_requests_in_flight=connections,
            file_size=size,
            range_size=min(size, _LARGEST_RANGE),
            compression=None,
        )
        refs = [str(number).encode() for number in range(connections)]
        for number, ref in enumerate(refs):
            store.put(ref, memoryview(data)[number * size : (number + 1) * size])
        self._trial.is_written = True
        stored: list[bytes] = []
        written = _seconds(lambda: stored.extend(storage.spill_objects(refs)))
        store.put(b"whole", data)
        # Not measured: of one connection it is the file that was measured.
        urls = storage.spill_objects([b"whole"])
        store.delete(b"whole")
        read = _seconds(lambda: storage.restore_spilled_objects([b"whole"], urls))
        return _Rates(len(data) / written, len(data) / read, len(stored))
