"""How much memory it takes to spill and restore far more than may be in flight."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fsspill.settings import MIB, Settings
from tests.benchmarks.link_server import LinkServer
from tests.benchmarks.measure import Case
from tests.benchmarks.sides import BUCKET
from tests.benchmarks.table import shown_size
from tests.running import Program

__all__ = ["MemoryRow", "measure_memory"]


@dataclass(frozen=True)
class MemoryRow:
    """The private memory that a process took.

    Attributes
    ----------
    limit : int
        The ``max_bytes_in_flight`` that it had.
    spilling, in_all : int
        Bytes at its peak above that after setup: after spilling, and after restoring too.
    """

    headings: ClassVar[Sequence[str]] = (
        "objects",
        "MiB in flight at most",
        "MiB to spill",
        "and to restore",
    )

    case: Case
    limit: int
    spilling: int
    in_all: int

    @property
    def cells(self) -> tuple[str, ...]:
        """What the table shows."""
        sizes = (f"{nbytes / MIB:,.0f}" for nbytes in (self.limit, self.spilling, self.in_all))
        return f"{self.case.count:,} x {shown_size(self.case.size)}", *sizes


def measure_memory(case: Case, limit: int = Settings.max_bytes_in_flight) -> MemoryRow:
    """Spill and restore a batch with fsspill, in a process of its own and without a link."""
    with LinkServer(latency=0, bandwidth=None) as server:
        server.create_bucket(BUCKET)
        arguments = [f"s3://{BUCKET}", str(limit), str(case.count), str(case.size)]
        environment = {**os.environ, **server.environment}
        with Program("memory.py", *arguments, environment=environment) as program:
            _, spilling, in_all = program.expect("peak").split()
            program.output()
    return MemoryRow(case, limit, int(spilling), int(in_all))
