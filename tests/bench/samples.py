"""Measurements made up for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fsspill import InMemoryObjectStore
from fsspill.bench.contenders import Contender, Variant
from fsspill.bench.measure import Batch, Measurements, Sample
from fsspill.settings import MIB

BATCH = Batch(2, 20 * MIB)


def measured(
    name: str,
    seconds: Sequence[float],
    *,
    requests: int = 10,
    variant: Variant | None = None,
    batch: Batch = BATCH,
) -> Measurements:
    """Return measurements of which each operation of each round took half of some seconds."""
    unused: Any = InMemoryObjectStore()
    contender = Contender(name, unused, dict, variant)
    samples = [Sample(each / 2, each / 4, requests, requests) for each in seconds]
    return Measurements(batch, contender, list(samples), list(samples))
