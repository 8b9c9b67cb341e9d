"""The requests that a measurement makes at most, and their price."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fsspill.bench.contenders import Variant
from fsspill.bench.measure import MAX_ROUNDS
from fsspill.format.planning import SMALLEST_RANGE
from fsspill.settings import Settings
from fsspill.storage.prices import Price, price_of
from fsspill.storage.s3 import PART_SIZE

__all__ = ["Estimate", "estimate"]

_PROBED = 2
"""Batches of each contender that are spilled besides its rounds, to choose sizes."""

_OTHERS = 100
"""Requests of the check and of the removal."""


@dataclass(frozen=True)
class Estimate:
    """The requests of a measurement.

    Attributes
    ----------
    writes, reads : int
        Their numbers at most.
    price : Price or None
        Price of one; None if they cost nothing, or the price is not known.
    """

    writes: int
    reads: int
    price: Price | None

    @property
    def dollars(self) -> float:
        """The price of all."""
        return self.writes * self.price.write + self.reads * self.price.read if self.price else 0.0


def estimate(settings: Settings, nbytes: int, variants: Sequence[Variant]) -> Estimate:
    """Return the requests for batches of so many bytes.

    Parameters
    ----------
    settings : Settings
        The URI.
    nbytes : int
        Bytes of a batch.
    variants : sequence of Variant
        Parameters that are compared.
    """
    if settings.local:
        return Estimate(0, 0, None)
    batches = (2 + len(variants)) * (MAX_ROUNDS + _PROBED)
    # An object has no more parts than files of PART_SIZE, and an upload begins and ends.
    writes = batches * (nbytes // PART_SIZE + 3) * 2 + _OTHERS
    reads = batches * (nbytes // SMALLEST_RANGE + 1) + _OTHERS
    return Estimate(writes, reads, price_of(settings.uri[0]))
