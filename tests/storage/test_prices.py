"""Prices of requests."""

from __future__ import annotations

import pytest

from fsspill.storage.prices import price_of


@pytest.fixture(autouse=True)
def _no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("uri", ["s3://b", "s3a://b", "gs://b", "abfs://c@a"])
def test_a_write_costs_more_than_a_read(uri: str) -> None:
    """The price has its source."""
    price = price_of(uri)
    assert price is not None
    assert 0 < price.read < price.write < 1e-4
    assert ".com/" in price.source


@pytest.mark.parametrize("uri", ["file:///x", "sftp://h/x", "webdav://x"])
def test_other_storage_has_no_price(uri: str) -> None:
    """Its requests cost nothing, or nobody knows what."""
    assert price_of(uri) is None


def test_a_store_of_another_provider_has_other_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not known."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio:9000")
    assert price_of("s3://b") is None
    assert price_of("gs://b") is not None
