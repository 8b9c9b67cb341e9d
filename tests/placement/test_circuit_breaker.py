"""URIs that become unhealthy, and healthy again."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from fsspill import ExternalStorage, InMemoryObjectStore, StorageNotFoundError
from fsspill.errors import StoragePermissionError, StorageUnavailableError
from fsspill.placement import background
from fsspill.placement.circuit_breaker import CircuitBreaker
from fsspill.placement.shared_state import SharedState
from fsspill.testing.s3_server import S3Server
from tests.running import PATIENCE, BegunThreads, poll

URI = "s3://bucket/x"


class Backend:
    """Storage that may be down and counts its probes."""

    def __init__(self) -> None:
        self.down = True
        self.probes = 0

    def __call__(self) -> None:
        assert threading.current_thread() is not threading.main_thread()
        self.probes += 1
        if self.down:
            raise OSError("down")


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsspill.placement.shared_state.gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(background, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(background, "_LONGEST_PAUSE", 0.05)


@pytest.fixture
def probes() -> BegunThreads:
    return BegunThreads("fsspill-probe")


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def opened(backend: Backend, probes: BegunThreads) -> Iterator[CircuitBreaker]:
    found = CircuitBreaker(SharedState("session", "node"), URI, backend)
    found.open(StoragePermissionError("refused, and why"))
    yield found
    found.shut_down()


def test_a_closed_circuit_has_no_failure(backend: Backend, probes: BegunThreads) -> None:
    """As long as nothing fails, nothing is probed and no thread is started."""
    assert CircuitBreaker(SharedState("session", "node"), URI, backend).failure() is None
    assert backend.probes == 0
    assert not probes()


def test_an_open_circuit_has_the_error_that_opened_it(opened: CircuitBreaker) -> None:
    """Class and message of the error are kept."""
    failure = opened.failure()
    assert type(failure) is StoragePermissionError
    assert str(failure) == "refused, and why"


def test_a_circuit_stays_open_while_probes_fail(
    opened: CircuitBreaker, backend: Backend, probes: BegunThreads
) -> None:
    """Failed probes in the background change nothing."""
    poll(lambda: backend.probes > 5, "some probes")
    assert opened.is_open()


def test_a_successful_probe_closes_the_circuit(
    opened: CircuitBreaker, backend: Backend, caplog: pytest.LogCaptureFixture, probes: BegunThreads
) -> None:
    """No call is needed for that, and the log says that spilling resumed."""
    backend.down = False
    poll(lambda: not opened.is_open(), "the circuit to close")
    poll(lambda: f"{URI} is healthy again; spilling resumed." in caplog.text, "the log line")
    assert backend.probes > 0


def test_every_recovery_is_reported(
    opened: CircuitBreaker, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a circuit that opens and closes all the time the last line is true; no probe waits."""
    backend.down = False
    for recovered in range(1, 4):
        poll(partial(has_recovered, caplog, recovered), f"recovery {recovered} in the log")
        opened.open(StoragePermissionError("refused again"))


def has_recovered(caplog: pytest.LogCaptureFixture, times: int) -> bool:
    return caplog.text.count("healthy again") == times


def test_processes_of_a_node_share_the_circuit(
    opened: CircuitBreaker, backend: Backend, probes: BegunThreads
) -> None:
    """Another process sees it open immediately, and probes when the first one has ended."""
    other = SharedState("session", "node")
    assert CircuitBreaker(other, URI, backend).is_open()
    assert not CircuitBreaker(other, "s3://bucket/y", backend).is_open()
    opened.shut_down()
    code = (
        "import time\n"
        "from fsspill.placement.circuit_breaker import CircuitBreaker\n"
        "from fsspill.placement.shared_state import SharedState\n"
        f"found = CircuitBreaker(SharedState('session', 'node'), {URI!r}, lambda: None)\n"
        "print(found.is_open())\n"
        "while found.is_open(): time.sleep(0.01)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE
    )
    assert ran.stdout == "True\n", ran.stderr
    assert not opened.is_open()


def test_one_process_at_a_time_probes(
    opened: CircuitBreaker, backend: Backend, probes: BegunThreads
) -> None:
    """A process does not probe while another one holds the lock."""
    with SharedState("session", "node").lock("circuit", URI, wait=True):
        seen = backend.probes
        assert opened.is_open()
        [thread] = probes()
        thread.join(timeout=0.5)
        assert backend.probes <= seen + 1  # one may have been under way
    poll(lambda: backend.probes > seen + 1, "probes to go on")


@pytest.mark.parametrize("older", ["older", "the same"])
def test_a_failure_during_a_probe_outlives_its_success(older: str) -> None:
    """A probe that began before the failure says nothing about it; the next probe does."""
    newer = StorageUnavailableError("the same")
    others = [without_thread("n", lambda: None)]
    probed = without_thread("n", lambda: others.pop().open(newer) if others else None)
    probed.open(StorageUnavailableError(older))
    assert not probed.probe_once()
    assert str(probed.failure()) == "the same"
    assert probed.probe_once()
    assert not probed.is_open()


def test_a_failure_of_this_process_during_a_probe_outlives_its_success(tmp_path: Path) -> None:
    """Also where the processes of the node can share nothing."""
    (tmp_path / f"fsspill-{os.getuid()}").write_text("in the way")
    failures = [StoragePermissionError("newer")]
    probed = without_thread("n", lambda: probed.open(failures.pop()) if failures else None)
    probed.open(StoragePermissionError("older"))
    assert not probed.probe_once()
    assert str(probed.failure()) == "newer"
    assert probed.probe_once()
    assert not probed.is_open()


def without_thread(node_id: str, probe: Callable[[], None]) -> CircuitBreaker:
    """Return a circuit breaker that probes only when it is told to."""
    found = CircuitBreaker(SharedState("session", node_id), URI, probe)
    found.shut_down()
    return found


def test_probes_end_with_the_storage(backend: Backend, probes: BegunThreads) -> None:
    """A storage that is dropped while its URI is unhealthy leaves no thread behind."""
    dropped = CircuitBreaker(SharedState("session", "node"), URI, backend)
    dropped.open(StoragePermissionError("refused"))
    [thread] = probes()
    del dropped
    poll(lambda: not thread.is_alive(), "the thread to end")


def test_an_unhealthy_uri_gets_no_request(
    s3_server: S3Server, s3_bucket: str, probes: BegunThreads
) -> None:
    """A hundred spills to it raise immediately, without a request or an access to objects."""
    storage = ExternalStorage("s3://no-such-bucket/x")
    store = storage.object_store
    assert isinstance(store, InMemoryObjectStore)
    store.put(b"x", b"data")
    with pytest.raises(StorageNotFoundError, match="no-such-bucket"):
        storage.spill_objects([b"x"])
    storage.files.placement.shut_down()  # no more probes, to count the requests
    poll(lambda: not probes(), "the probe to end")
    seen = len(s3_server.requests())
    for _ in range(100):
        with pytest.raises(StorageNotFoundError, match="no-such-bucket"):
            storage.spill_objects([b"not even there"])
    storage.delete_spilled_objects(
        ["s3://no-such-bucket/x/s/ray_spilled_objects_n/f?offset=0&size=24"]
    )
    assert len(s3_server.requests()) == seen
    storage.destroy_external_storage()


def test_a_bucket_that_is_created_later_is_used(s3_server: S3Server, s3_bucket: str) -> None:
    """Spilling resumes by itself once the bucket exists."""
    storage = ExternalStorage("s3://late-bucket/x")
    store = storage.object_store
    assert isinstance(store, InMemoryObjectStore)
    store.put(b"x", b"data")
    with pytest.raises(StorageNotFoundError):
        storage.spill_objects([b"x"])
    s3_server.create_bucket("late-bucket")

    def spilled() -> bool:
        try:
            return len(storage.spill_objects([b"x"])) == 1
        except (StorageNotFoundError, StorageUnavailableError):
            return False

    poll(spilled, "the circuit to close")
    storage.destroy_external_storage()
