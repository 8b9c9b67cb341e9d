"""The batches of each kind of measurement, in a full and a quick suite."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from fsspill.bench.contenders import Contender
from fsspill.bench.reused_store import ReusedStore, random_bytes
from fsspill.settings import MIB
from tests.benchmarks.contenders import (
    copy_contenders,
    local_contenders,
    s3_contenders,
)
from tests.benchmarks.link_server import LinkServer
from tests.benchmarks.measure import Case, Row, run_case, verify
from tests.benchmarks.request_counts import RequestsRow, count_deletion, count_setup

__all__ = [
    "FULL",
    "QUICK",
    "Suite",
    "count_requests",
    "environment",
    "run_copies",
    "run_local",
    "run_s3",
]

_100_KIB = 100 * 2**10


@dataclass(frozen=True)
class Suite:
    """Batches for each kind of measurement.

    Attributes
    ----------
    local, s3, copy, cpu : sequence of Case
        Batches for a directory, for a bucket behind the link without and with local copies, and for
        one without a link.
    files : int
        Number of files deleted with one call.
    memory : sequence of Case
        Batches of the process whose memory is measured.
    ray : sequence of Case
        Batches of the Ray program.
    ray_small : sequence of Case
        Batches of small objects, for the program with local copies.
    object_store_memory : int
        Size of that program's object store in bytes.
    """

    local: Sequence[Case]
    s3: Sequence[Case]
    copy: Sequence[Case]
    cpu: Sequence[Case]
    files: int
    memory: Sequence[Case]
    ray: Sequence[Case]
    ray_small: Sequence[Case]
    object_store_memory: int


def _case(count: int, size: int, restored: int | None = None) -> Case:
    return Case(count, size, count if restored is None else restored)


FULL = Suite(
    local=[_case(10, 20 * MIB), _case(2_000, _100_KIB), _case(1, 500 * MIB)],
    # A tenth of the small objects is restored: each takes a round trip, with Ray's own several.
    s3=[_case(10, 20 * MIB), _case(2_000, _100_KIB, 200), _case(1, 200 * MIB)],
    copy=[_case(10, 20 * MIB), _case(200, _100_KIB), _case(1, 200 * MIB)],
    cpu=[_case(10, 20 * MIB)],
    files=2_000,
    memory=[_case(1, 4 * 2**30), _case(2_000, 2 * MIB)],
    # Four times the object store.
    ray=[_case(102, 20 * MIB), _case(410, 5 * MIB)],
    ray_small=[_case(2_000, _100_KIB)],
    object_store_memory=512 * MIB,
)
QUICK = Suite(
    local=[_case(4, 5 * MIB), _case(200, _100_KIB), _case(1, 40 * MIB)],
    s3=[_case(4, 5 * MIB), _case(200, _100_KIB, 20), _case(1, 40 * MIB)],
    copy=[_case(4, 5 * MIB), _case(20, _100_KIB), _case(1, 40 * MIB)],
    cpu=[_case(4, 5 * MIB)],
    files=20,
    memory=[_case(1, 500 * MIB), _case(300, 2 * MIB)],
    ray=[_case(16, 20 * MIB)],
    ray_small=[_case(1_600, _100_KIB)],
    object_store_memory=80 * MIB,
)


def run_local(cases: Sequence[Case], rounds: int, directory: str | None = None) -> Iterator[Row]:
    """Compare fsspill with Ray's FileSystemStorage.

    Parameters
    ----------
    cases : sequence of Case
        Batches.
    rounds : int
        Number of rounds.
    directory : str, optional
        Parent of the temporary directory; that of the system by default.
    """
    store = _store_for(cases)
    with tempfile.TemporaryDirectory(dir=directory) as inside:
        contenders = local_contenders(inside, store)
        for case in cases:
            _warm_up(case, contenders, store)
            yield from run_case(case, contenders, store, rounds)


def run_s3(
    cases: Sequence[Case], rounds: int, latency: float, bandwidth: float, *, tls: bool = False
) -> Iterator[Row]:
    """Compare fsspill with Ray's smart_open storage and with bare libraries.

    Parameters
    ----------
    cases : sequence of Case
        Batches.
    rounds : int
        Number of rounds.
    latency, bandwidth : float
        Latency of the link in seconds, bandwidth in bytes per second; 0 for none and unlimited.
    tls : bool
        With https.
    """
    store = _store_for(cases)
    with LinkServer(latency, bandwidth, tls=tls) as server, environment(server.environment):
        contenders = s3_contenders(server, store)
        for case in cases:
            # Without the link, over which small objects would take minutes one by one.
            server.set_link(0, None)
            _warm_up(case, contenders, store, server)
            server.set_link(latency, bandwidth)
            yield from run_case(case, contenders, store, rounds, server)


def run_copies(
    cases: Sequence[Case], rounds: int, latency: float, bandwidth: float, directory: str | None
) -> Iterator[Row]:
    """Compare fsspill on S3, with a local copy and without, with Ray's FileSystemStorage.

    Parameters
    ----------
    cases : sequence of Case
        Batches.
    rounds : int
        Number of rounds.
    latency, bandwidth : float
        As of `run_s3`.
    directory : str, optional
        As of `run_local`: the copies, and the files of Ray, are on its disk.
    """
    store = _store_for(cases)
    with (
        LinkServer(latency, bandwidth) as server,
        environment(server.environment),
        tempfile.TemporaryDirectory(dir=directory) as inside,
    ):
        contenders = copy_contenders(server, store, inside)
        for case in cases:
            _warm_up(case, contenders, store, server)
            yield from run_case(case, contenders, store, rounds, server)


def count_requests(files: int) -> Iterator[RequestsRow]:
    """Count the requests of setup, and of deleting `files` files, without a link."""
    store = ReusedStore(random_bytes(files))
    with LinkServer(latency=0, bandwidth=None) as server, environment(server.environment):
        contenders = s3_contenders(server, store)
        yield from count_setup(server)
        yield from count_deletion(files, contenders, store, server)


def _store_for(cases: Sequence[Case]) -> ReusedStore:
    return ReusedStore(random_bytes(max(case.nbytes for case in cases)))


def _warm_up(
    case: Case,
    contenders: Sequence[Contender],
    store: ReusedStore,
    server: LinkServer | None = None,
) -> None:
    """Verify every byte; this also imports, connects and maps memory before the measurement."""
    for contender in contenders:
        verify(case, contender, store)
        if server:
            server.reset()


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables within the context."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
