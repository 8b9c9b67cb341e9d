"""Single refusals of a storage that throttles fail no command; an outage is told soon."""

from __future__ import annotations

import pytest

from fsspill import ExternalStorage, StorageUnavailableError
from fsspill.cleanup import clean, scan
from fsspill.cleanup.target import Target
from fsspill.errors import FsspillError
from fsspill.object_store import InMemoryObjectStore
from tests.at_rest import keys, spilled
from tests.faults.fault_proxy import Fault, FaultProxy


@pytest.mark.parametrize("method", ["PUT", "GET", "POST", "DELETE"])
@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.THROTTLED])
def test_a_refusal_that_passes_fails_no_command(
    proxy: FaultProxy, store: InMemoryObjectStore, fault: Fault, method: str
) -> None:
    """The probe, the listings, and the deletions one by one and in bulk are made again."""
    store.put(b"ref", bytes(1000))
    ExternalStorage("s3://bucket/x", object_store=store).spill_objects([b"ref"])
    with proxy.inject(fault, count=2, method=method):
        [session] = scan("s3://bucket/x")
        summary = clean("s3://bucket/x", sessions=[str(session.name)])
    assert proxy.injected[fault, method] > 0
    assert not summary.failures
    assert spilled() == keys("s3://bucket") == []


def test_an_outage_is_told(proxy: FaultProxy) -> None:
    """After five attempts: whoever waits for the command can make it again."""
    with (
        proxy.inject(Fault.UNAVAILABLE, method="PUT"),
        pytest.raises(StorageUnavailableError, match="cannot list"),
    ):
        scan("s3://bucket/x")
    assert proxy.injected[Fault.UNAVAILABLE, "PUT"] == 5


def test_removals_that_fail_for_good_are_made_once() -> None:
    """What a storage refuses by policy it refuses each time."""
    calls = []

    def remove(client: object) -> dict[str, FsspillError]:
        calls.append(client)
        return {"path": FsspillError("no")}

    assert list(Target("memory://x", {}).remove(remove)) == ["path"]
    assert len(calls) == 1
