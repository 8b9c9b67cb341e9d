"""The cases: which batches are spilled where, in full and in small."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from fsspill.transfer import MIB
from tests.benchmarks.link_server import LinkServer
from tests.benchmarks.measure import Case, Row, run_case, verify
from tests.benchmarks.reused_store import ReusedStore, random_bytes
from tests.benchmarks.sides import Side, local_sides, s3_sides

__all__ = ["FULL", "QUICK", "Suite"]

_100_KIB = 100 * 2**10


@dataclass(frozen=True)
class Suite:
    """Batches for each kind of storage.

    Attributes
    ----------
    local, s3 : sequence of Case
        What is spilled to a directory, and to a bucket.
    """

    local: Sequence[Case]
    s3: Sequence[Case]

    def run_local(self, rounds: int, directory: str | None = None) -> Iterator[Row]:
        """Compare fsspill with Ray's FileSystemStorage.

        Parameters
        ----------
        rounds : int
            How often.
        directory : str, optional
            Where a temporary directory is made; where the system makes them if not given.
        """
        store = _store_for(self.local)
        with tempfile.TemporaryDirectory(dir=directory) as inside:
            sides = local_sides(inside, store)
            for case in self.local:
                _warm_up(case, sides, store)
                yield from run_case(case, sides, store, rounds)

    def run_s3(self, rounds: int, latency: float, bandwidth: float) -> Iterator[Row]:
        """Compare fsspill with Ray's smart_open storage.

        Parameters
        ----------
        rounds : int
            How often.
        latency, bandwidth : float
            Of the link, in seconds and in bytes per second; 0 for none and for no bound.
        """
        store = _store_for(self.s3)
        with LinkServer(latency, bandwidth) as server, _environment(server.environment):
            sides = s3_sides(server, store)
            for case in self.s3:
                # Without the link: small objects one by one would take minutes.
                server.set_link(0, None)
                _warm_up(case, sides, store, server)
                server.set_link(latency, bandwidth)
                yield from run_case(case, sides, store, rounds, server)


def _cases(name: str, *batches: tuple[int, int, int]) -> list[Case]:
    return [Case(name, count, size, restored) for count, size, restored in batches]


FULL = Suite(
    local=_cases("local", (10, 20 * MIB, 10), (2_000, _100_KIB, 2_000), (1, 500 * MIB, 1)),
    # Of the small ones a tenth is restored: each takes a round trip, and Ray's several.
    s3=_cases("s3", (10, 20 * MIB, 10), (2_000, _100_KIB, 200), (1, 200 * MIB, 1)),
)
QUICK = Suite(
    local=_cases("local", (4, 5 * MIB, 4), (200, _100_KIB, 200), (1, 40 * MIB, 1)),
    s3=_cases("s3", (4, 5 * MIB, 4), (200, _100_KIB, 20), (1, 40 * MIB, 1)),
)


def _store_for(cases: Sequence[Case]) -> ReusedStore:
    return ReusedStore(random_bytes(max(case.nbytes for case in cases)))


def _warm_up(
    case: Case, sides: Sequence[Side], store: ReusedStore, server: LinkServer | None = None
) -> None:
    """Verify every byte, which also imports, connects and maps all that is needed later."""
    for side in sides:
        verify(case, side, store)
        if server:
            server.reset()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
