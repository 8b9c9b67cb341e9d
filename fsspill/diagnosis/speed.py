"""The speed of a URI from this machine: latency, and bandwidth with few and many connections."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
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
from fsspill.external_storage import ExternalStorage
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
"""Bytes of each measurement, one request of S3: four of them, and the first, move 65 MiB."""

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
    Moves up to 65 MiB, less over a slow link, with about 150 requests.
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


class _Bandwidth:
    """The bandwidth of one URI, by spills and restores in the session of its trial."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._size = _FIRST_SIZE
        self._url = b""

    def of_one(self) -> Finding:
        """Write and read one file over one connection."""
        seconds, _ = self._spill(1, _FIRST_SIZE)
        size = _FIRST_SIZE * _SECONDS / seconds
        self._size = int(min(max(size, _FIRST_SIZE), _LARGEST))
        seconds, [self._url] = self._spill(1, self._size)
        return self._describe(seconds, self._restore(1))

    def of_many(self) -> Finding:
        """Write many files, and read one file in many ranges, over many connections."""
        if self._trial.location.local:
            return NOT_OF_THIS_STORAGE
        if not self._trial.client.concurrent:
            return skipped("this filesystem makes one request at a time")
        seconds, urls = self._spill(_CONNECTIONS, self._size // _CONNECTIONS)
        if len(urls) < _CONNECTIONS:
            return warning(
                f"only {len(urls)} of {_CONNECTIONS} files were stored",
                "Check the limits of the storage: it takes single files, and not all of many.",
            )
        return self._describe(seconds, self._restore(_CONNECTIONS))

    def _describe(self, write_seconds: float, read_seconds: float) -> Finding:
        mebibytes = self._size / MIB
        write, read = mebibytes / write_seconds, mebibytes / read_seconds
        return ok(f"writes {write:,.3g} MiB/s, reads {read:,.3g} MiB/s")

    def _spill(self, count: int, size: int) -> tuple[float, list[bytes]]:
        """Write so many files over as many connections; return the seconds and the URLs."""
        store = InMemoryObjectStore()
        storage = self._open(store, count, size)
        refs = [str(number).encode() for number in range(count)]
        for ref in refs:
            store.put(ref, os.urandom(size))
        self._trial.is_written = True
        urls: list[bytes] = []
        seconds = _seconds(lambda: urls.extend(storage.spill_objects(refs)))
        return seconds, urls

    def _restore(self, connections: int) -> float:
        """Read the largest file over so many connections; return the seconds."""
        storage = self._open(InMemoryObjectStore(), connections, self._size // connections)
        return _seconds(lambda: storage.restore_spilled_objects([b"ref"], [self._url]))

    def _open(self, store: InMemoryObjectStore, connections: int, size: int) -> ExternalStorage:
        return self._trial.open_storage(
            store,
            max_requests_in_flight=connections,
            file_size=size,
            range_size=min(size, _LARGEST_RANGE),
            compression=None,
        )
