"""Prices of requests: what a measurement will cost, and what a cluster spends."""

from __future__ import annotations

from typing import NamedTuple

from fsspill.storage.protocols import has_other_provider, traits_of

__all__ = ["PRICES", "Price", "price_of"]


class Price(NamedTuple):
    """The price of requests to one kind of storage.

    Attributes
    ----------
    write, read : float
        Dollars for a write (a part of an upload and a listing are one too) and for a read.
    source : str
        Where it is published.
    """

    write: float
    read: float
    source: str


PRICES = {
    "s3": Price(0.005e-3, 0.0004e-3, "S3 Standard, us-east-1: aws.amazon.com/s3/pricing"),
    "gcs": Price(0.005e-3, 0.0004e-3, "Standard: cloud.google.com/storage/pricing-examples"),
    "azure": Price(
        0.0055e-3,
        0.00044e-3,
        "hot tier, sample prices: "
        "learn.microsoft.com/azure/storage/blobs/blob-storage-estimate-costs",
    ),
}
"""By the extra that installs the package of a protocol."""


def price_of(uri: str) -> Price | None:
    """Return the price of requests to a URI; None if they cost nothing, or nobody knows what."""
    return None if has_other_provider(uri) else PRICES.get(traits_of(uri).extra or "")
