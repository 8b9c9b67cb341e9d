"""Clients of the configured URIs."""

from __future__ import annotations

import pytest

from fsspill import FsspillError, StoragePermissionError, StorageUnavailableError
from fsspill.storage import client_pool
from fsspill.storage.client import StorageClient
from fsspill.storage.client_pool import ClientPool
from fsspill.storage.layout import SpillLocation
from fsspill.storage.s3 import S3Client


def locate(uri: str, *, shared: bool = False) -> SpillLocation:
    return SpillLocation(uri, prefix="", session_name="session", node_id="node", shared=shared)


def test_a_client_is_opened_once() -> None:
    """Every use of a URI gets the same client and the same reader."""
    pool, location = ClientPool({}), locate("memory://x")
    assert pool.client(location) is pool.client(location)
    assert pool.reader(location) is pool.reader(location)


def test_the_table_of_protocols_selects_the_client(s3_bucket: str) -> None:
    """S3 has its own, every other protocol the one for any filesystem."""
    assert type(ClientPool({}).client(locate(f"s3://{s3_bucket}"))) is S3Client
    assert type(ClientPool({}).client(locate("memory://x"))) is StorageClient


def test_renewal_replaces_client_and_reader_once_a_minute() -> None:
    """Refused credentials are looked for again, but not with every request that is refused."""
    pool, location = ClientPool({}), locate("memory://x")
    client, reader = pool.client(location), pool.reader(location)
    assert pool.renew(location)
    assert pool.client(location) is not client
    assert pool.reader(location) is not reader
    assert not pool.renew(location)


def test_a_renewal_that_fails_keeps_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal of the old credentials is the error to report, not that there are no new ones."""
    pool, location = ClientPool({}), locate("memory://x")
    client = pool.client(location)

    def find_none(*arguments: object, **options: object) -> None:
        raise StorageUnavailableError("no credentials")

    monkeypatch.setattr(client_pool, "connect", find_none)
    assert not pool.renew(location)
    assert pool.client(location) is client


def test_local_directories_have_no_credentials() -> None:
    """Nothing is renewed for them."""
    assert not ClientPool({}).renew(locate("file:///tmp/x", shared=True))


def test_a_refused_call_is_repeated_once_after_a_renewal() -> None:
    """A second refusal is raised, and any other error immediately."""
    pool, location = ClientPool({}), locate("memory://x")
    calls: list[StorageClient] = []

    def refuse(client: StorageClient) -> None:
        calls.append(client)
        raise PermissionError("no")

    with pytest.raises(StoragePermissionError, match="cannot try there"):
        pool.retry_if_refused(location, refuse, "cannot try", "there")
    assert len(calls) == 2
    assert calls[0] is not calls[1]
    with pytest.raises(StoragePermissionError, match="cannot try there: PermissionError: no"):
        pool.retry_if_refused(location, refuse, "cannot try", "there")
    assert len(calls) == 3

    def fail(client: StorageClient) -> None:
        raise OSError("down")

    with pytest.raises(FsspillError, match="cannot try there: OSError: down"):
        pool.retry_if_refused(location, fail, "cannot try", "there")
