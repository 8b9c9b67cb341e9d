"""Every fault of the network and of the server, in every operation, passing and lasting.

After each case the bucket and the object store are checked: nothing lost, nothing wrong, nothing
left behind. With ``-s`` totals are shown at the end.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import pytest

from fsspill import (
    CorruptObjectError,
    ExternalStorage,
    FsspillError,
    InMemoryObjectStore,
    StorageNotFoundError,
    StoragePermissionError,
    StorageRefusedError,
    StorageUnavailableError,
)
from fsspill.format.frame import HEADER_LENGTH
from fsspill.placement import background, refusals
from fsspill.testing.contract import split_url
from tests.at_rest import keys, open_uploads
from tests.faults.fault_proxy import Fault, FaultProxy
from tests.forking import IGNORE_WARNING, run_in_fork
from tests.other_users import fill, small_disk
from tests.running import poll
from tests.timeouts import FORGIVING, IMPATIENT, PATIENT, SLOW, cleanup_limit, limited_attempts

KIB, MIB = 2**10, 2**20
SMALL = [200 * KIB] * 6


@dataclass(frozen=True)
class Operation:
    """An operation during which the fault strikes, on objects of these sizes."""

    verb: str
    sizes: Sequence[int]


OPERATIONS = {
    "spill": Operation("spill", SMALL),
    "spill_in_parts": Operation("spill", [17 * MIB]),
    "restore": Operation("restore", SMALL),
    "restore_blocks": Operation("restore", [10 * MIB]),
    "restore_a_stream": Operation("restore", [18 * MIB]),
    "delete": Operation("delete", SMALL),
    "destroy": Operation("destroy", SMALL),
}

IN_BODIES = {Fault.STALL_HALF, Fault.CUT, Fault.SHORT, Fault.FLIP, Fault.SWAP}
"""Faults of an answer's body: S3 answers a write of a whole file without one."""

WRONG_BODIES = {Fault.SHORT, Fault.FLIP, Fault.SWAP}
"""Answers that are well-formed HTTP. Data is verified; all else that S3 answers is protected by TLS
alone."""

LOST_ANSWERS = {Fault.RESET_AFTER, *IN_BODIES}
"""The server did what it was asked, and its answer is lost."""

NOTHING_IS_READ, NOTHING_IS_DELETED = {Fault.MISSING}, {Fault.DELETE_DENIED}
CANNOT_HAPPEN = {
    "spill": NOTHING_IS_READ | NOTHING_IS_DELETED | IN_BODIES,
    "spill_in_parts": NOTHING_IS_READ | NOTHING_IS_DELETED,
    "restore": NOTHING_IS_DELETED | {Fault.FLIP_UP},
    "restore_blocks": NOTHING_IS_DELETED | {Fault.FLIP_UP},
    "restore_a_stream": NOTHING_IS_DELETED | {Fault.FLIP_UP},
    # S3 refuses a deletion that does not match its checksum; the test's server does not.
    "delete": NOTHING_IS_READ | {Fault.FLIP_UP},
    "destroy": NOTHING_IS_READ | {Fault.FLIP_UP},
}

ERRORS: dict[Fault, type[FsspillError]] = {
    Fault.FORBIDDEN: StoragePermissionError,
    Fault.TOO_LARGE: StorageRefusedError,
    Fault.MISSING: StorageNotFoundError,
    Fault.SWAP: CorruptObjectError,
}
"""Errors of a restore while a fault lasts; StorageUnavailableError for all other faults."""

ONLY_DELAYS = {Fault.SLOW_LINK}
"""Faults that nothing fails of, however long they last."""

SILENT = {Fault.STALL, Fault.STALL_HALF}
"""Faults that only a time limit ends: all others are answers."""

LASTING_CLEANUP = 2.0
"""Seconds for deletions while a fault lasts: they fail, whatever the limit."""

# Some faults of each operation, and some operations of each fault; nightly runs have all.
EVERY_RUN = {
    "spill": "UNAVAILABLE FORBIDDEN RESET FLIP_UP RESET_AFTER",
    "spill_in_parts": "RESET FLIP_UP",
    "restore": "THROTTLED MISSING FLIP SHORT SWAP CUT",
    "restore_blocks": "FLIP SLOW_LINK",
    "restore_a_stream": "STALL_HALF",
    "delete": "UNAVAILABLE DELETE_DENIED",
    "destroy": "RESET THROTTLED",
}
EVERY_RUN_LASTING = {
    "spill": "RESET_AFTER STALL",
    "spill_in_parts": "FORBIDDEN",
    "restore": "FORBIDDEN MISSING FLIP",
    "restore_a_stream": "SWAP",
    "delete": "DELETE_DENIED RESET_AFTER",
    "destroy": "STALL UNAVAILABLE",
}

totals: Counter[str] = Counter()
"""Counts over all tests of this file."""


@pytest.fixture(scope="module", autouse=True)
def _show_totals() -> Iterator[None]:
    yield
    counted = ", ".join(f"{count} {what}" for what, count in sorted(totals.items()))
    sys.stdout.write(f"\nFaults: {counted}\n")


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_FIRST_PAUSE", 0.1)
    monkeypatch.setattr(background, "_LONGEST_PAUSE", 0.4)


class World:
    """A node that spills, and the expected content of its storage and its object store.

    Attributes
    ----------
    data : dict
        Every object by its ref.
    urls : dict
        The URLs of the objects that were spilled and not deleted.
    """

    def __init__(self, *uris: str, policy: str = "round_robin") -> None:
        self.uris = list(uris or ["s3://bucket/prefix"])
        self.policy = policy
        self.max_bytes: int | None = None
        self.store = InMemoryObjectStore()
        self.storage = self.make_storage()
        self.data: dict[bytes, bytes] = {}
        self.urls: dict[bytes, bytes] = {}
        self._random = random.Random(0)

    def make_storage(self, stall_timeout: float = PATIENT) -> ExternalStorage:
        """Return the storage of one more IO worker of the node."""
        return ExternalStorage(
            self.uris,
            policy=self.policy,
            file_size=512 * KIB,
            max_bytes_in_flight=16 * MIB,
            stall_timeout=stall_timeout,
            max_bytes=self.max_bytes,
            node_id="node",
            session_name="faults",
            object_store=self.store,
        )

    def fill(self, sizes: Sequence[int]) -> None:
        """Put objects of random bytes into the object store."""
        for size in sizes:
            ref = b"%d" % len(self.data)
            self.data[ref] = self._random.randbytes(size)
            self.store.put(ref, self.data[ref])

    def spill(self) -> None:
        """Spill the objects of the object store, and delete those that were spilled there."""
        refs = list(self.store)
        urls = self.storage.spill_objects(refs)
        for ref, url in zip(refs, urls, strict=False):
            self.urls[ref] = url
            self.store.delete(ref)

    def restore(self) -> None:
        """Restore one object after the other, as Ray does."""
        for ref, url in self.urls.items():
            self.storage.restore_spilled_objects([ref], [url])

    def delete(self) -> None:
        """Delete every file."""
        self.storage.delete_spilled_objects(list(self.urls.values()))
        self.urls.clear()

    def destroy(self) -> None:
        """Delete everything of the node."""
        self.storage.destroy_external_storage()
        self.urls.clear()

    def attempt(self, verb: str) -> FsspillError | None:
        """Call a method, and return the error that it raised."""
        totals["operations"] += 1
        try:
            getattr(self, verb)()
        except FsspillError as error:
            return error
        return None

    def spills_again(self) -> bool:
        """Return True if all objects of the object store are spilled."""
        return self.attempt("spill") is None and not len(self.store)

    def is_clean(self) -> bool:
        """Return True if the storage has the files that URLs name, and no other."""
        return files_at_rest() == self.files()

    def count_bytes(self) -> None:
        """Count the bytes of files from now on, for a limit that is never reached."""
        self.max_bytes = 2**40
        self.storage = self.make_storage()

    def usage(self) -> int:
        """Return the bytes that count for max_bytes."""
        files = self.storage.files
        return sum(map(files.placement.usage.get, files.locations))

    def check_object_store(self) -> None:
        """Check that every object of the object store has the right bytes."""
        for ref in self.store:
            assert self.store.get(ref) == self.data[ref]

    def count_altered(self) -> int:
        """Restore every URL, to exactly the bytes spilled, and count those refused as altered."""
        self.storage = self.make_storage()
        altered = 0
        for ref, url in self.urls.items():
            self.store.delete(ref)
            try:
                self.storage.restore_spilled_objects([ref], [url])
            except CorruptObjectError:
                assert ref not in self.store
                altered += 1
            else:
                assert self.store.get(ref) == self.data[ref]
                self.store.delete(ref)
        totals["objects restored afterwards"] += len(self.urls) - altered
        totals["objects found to be altered"] += altered
        return altered

    def files(self) -> set[str]:
        """Return the keys that URLs name."""
        return {split_url(url)[0].removeprefix("s3://") for url in self.urls.values()}


def files_at_rest() -> set[str]:
    """Return the keys of the bucket except those of probes, which come and go."""
    return {key for key in keys() if "/fsspill-check-" not in key}


def bytes_at_rest() -> int:
    """Return the length of all spilled files, which is the last part of their names."""
    return sum(int(key.rpartition("-")[2]) for key in files_at_rest())


@pytest.fixture
def world(proxy: FaultProxy) -> Iterator[World]:
    world = World()
    yield world
    world.destroy()
    totals["faults injected"] += sum(proxy.injected.values())
    totals["files left"] += len(files_at_rest())
    assert files_at_rest() == set()


def cases() -> Iterator[Any]:
    """Yield an operation, a fault, and True if it lasts."""
    for lasting, every_run in ((False, EVERY_RUN), (True, EVERY_RUN_LASTING)):
        for name in OPERATIONS:
            for fault in Fault:
                if fault not in CANNOT_HAPPEN[name] | (ONLY_DELAYS if lasting else set()):
                    often = fault.name in every_run.get(name, "").split()
                    case = f"{name}-{fault.name}-{'lasting' if lasting else 'passing'}"
                    marks = () if often else pytest.mark.nightly
                    yield pytest.param(name, fault, lasting, id=case, marks=marks)


@pytest.mark.parametrize(("name", "fault", "lasting"), list(cases()))
def test_fault_loses_and_leaves_nothing(
    name: str, fault: Fault, lasting: bool, proxy: FaultProxy, world: World
) -> None:
    """An operation is done in full or not at all, and all is well once the fault has ended."""
    strike(name, fault, lasting, proxy, world)


def strike(name: str, fault: Fault, lasting: bool, proxy: FaultProxy, world: World) -> None:
    """Inject a fault during an operation, and check what the operation left."""
    operation = OPERATIONS[name]
    world.fill(operation.sizes)
    if operation.verb != "spill":
        assert world.spills_again()
    stall_timeout = (IMPATIENT if lasting else FORGIVING) if fault in SILENT else PATIENT
    if fault is Fault.SLOW_LINK:
        stall_timeout = SLOW
    world.storage = world.make_storage(stall_timeout)
    method = "PUT" if fault is Fault.FLIP_UP else None
    count = inf if lasting else moment(fault)
    with time_limits(fault, lasting), proxy.inject(fault, count=count, method=method):
        error = world.attempt(operation.verb)
    assert proxy.injected
    world.check_object_store()
    CHECKS[operation.verb](world, fault, lasting, error)


@contextmanager
def time_limits(fault: Fault, lasting: bool) -> Iterator[None]:
    """Limit attempts, or time where nothing else ends them: no outcome depends on the machine."""
    with ExitStack() as limits:
        if lasting or fault in SILENT:
            limits.enter_context(cleanup_limit(LASTING_CLEANUP if lasting else FORGIVING))
        if lasting and fault not in SILENT:
            limits.enter_context(limited_attempts(3))
        yield


def moment(fault: Fault) -> int:
    """Return how often a passing fault strikes."""
    # Credentials are renewed once, a stall timeout allows for one stalled attempt, and a file that
    # one engine does not find is asked for by the other. An IO worker asks again after that.
    once = (Fault.FORBIDDEN, Fault.MISSING, Fault.STALL, Fault.STALL_HALF)
    return 1 if fault in once else 2


def check_spill(world: World, fault: Fault, lasting: bool, error: FsspillError | None) -> None:
    """Check that there are all URLs or none, and no other file."""
    if fault in WRONG_BODIES:
        assert isinstance(error, (StorageUnavailableError, StorageNotFoundError, type(None)))
    elif lasting and fault is not Fault.FLIP_UP:
        assert type(error) is ERRORS.get(fault, StorageUnavailableError)
        assert "s3://bucket/prefix/" in str(error)
    else:
        assert error is None
    assert world.urls.keys() | set(world.store) == world.data.keys()
    assert not (world.urls and len(world.store))
    if lasting and fault in LOST_ANSWERS:
        # The server may still be doing what it was asked when the answer no longer counted.
        poll(world.is_clean, "the files to be removed")
    assert files_at_rest() == world.files()
    uploads = len(open_uploads())
    # The id of an upload whose creation was not answered is unknown: `fsspill clean` finds it.
    assert fault in LOST_ANSWERS or not uploads
    totals["uploads left for clean"] += uploads
    altered = world.count_altered()
    assert (altered > 0) is (fault is Fault.FLIP_UP)
    if error:
        poll(world.spills_again, "the storage to be used again")
        assert world.count_altered() == 0


def check_restore(world: World, fault: Fault, lasting: bool, error: FsspillError | None) -> None:
    """Check that all objects are restored, or none in part, and that all files are unchanged."""
    if lasting:
        assert type(error) is ERRORS.get(fault, StorageUnavailableError)
        assert "s3://bucket/prefix/" in str(error)
        assert not len(world.store)
    else:
        assert error is None
        assert set(world.store) == world.data.keys()
    assert files_at_rest() == world.files()
    assert world.count_altered() == 0


def check_delete(world: World, fault: Fault, lasting: bool, error: FsspillError | None) -> None:
    """Check that it never raises, and that files that are left are deleted without a call."""
    assert error is None
    # A refusal is final, and one stall may take all of the time.
    if not lasting and fault not in (Fault.DELETE_DENIED, Fault.STALL):
        assert files_at_rest() == set()
    poll(world.is_clean, "the files to be deleted")


def check_destroy(world: World, fault: Fault, lasting: bool, error: FsspillError | None) -> None:
    """Check that it never raises, and empties the prefix if the storage answers."""
    assert error is None
    if not lasting and fault not in WRONG_BODIES | {Fault.FORBIDDEN}:
        assert files_at_rest() == set()


CHECKS = {
    "spill": check_spill,
    "restore": check_restore,
    "delete": check_delete,
    "destroy": check_destroy,
}


ENGINES = {"s3fs": "Botocore", "obstore": "object_store"}
"""The User-Agent of each of the libraries that read from S3."""


@pytest.mark.parametrize("fault", [Fault.STALL, Fault.RESET, Fault.MISSING])
@pytest.mark.parametrize("engine", ["s3fs", pytest.param("obstore", marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", ["restore", "restore_blocks"])
def test_the_other_engine_reads_what_one_does_not(
    name: str, engine: str, fault: Fault, proxy: FaultProxy, world: World
) -> None:
    """One library says nothing, as behind a proxy that only it obeys, or fails, all of the time."""
    world.fill(OPERATIONS[name].sizes)
    assert world.spills_again()
    world.storage = world.make_storage(FORGIVING if fault in SILENT else PATIENT)
    with proxy.inject(fault, agent=ENGINES[engine], method="GET"):
        assert world.attempt("restore") is None
    assert (fault, "GET") in proxy.injected or engine == "s3fs"
    check_restore(world, fault, False, None)


FULL_IN_EVERY_RUN = {("spill", True), ("restore", False), ("delete", True)}
"""Operations during which a fault lasts, or passes, with a full temporary directory."""


def full_cases() -> Iterator[Any]:
    """Yield every operation, and True if a fault lasts, with a full temporary directory."""
    for name in OPERATIONS:
        for lasting in (False, True):
            marks = () if (name, lasting) in FULL_IN_EVERY_RUN else pytest.mark.nightly
            case = f"{name}-{'lasting' if lasting else 'passing'}"
            yield pytest.param(name, lasting, id=case, marks=marks)


@pytest.fixture(params=["full", "a file"])
def temporary_directory(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Return a temporary directory in which nothing can be written."""
    directory = tmp_path / "temporary"
    monkeypatch.setattr("fsspill.placement.shared_state.gettempdir", lambda: str(directory))
    if request.param == "a file":
        directory.touch()
        yield directory
        return
    directory.mkdir()
    with small_disk(directory):
        fill(directory)
        yield directory


@pytest.mark.parametrize(("name", "lasting"), list(full_cases()))
def test_fault_with_a_full_temporary_directory_loses_and_leaves_nothing(
    name: str, lasting: bool, proxy: FaultProxy, temporary_directory: Path, world: World
) -> None:
    """Processes that cannot tell each other that a URI is unhealthy find out by themselves."""
    strike(name, Fault.UNAVAILABLE, lasting, proxy, world)
    left = {path for path in temporary_directory.rglob("*") if path.is_file()}
    assert {path.name for path in left if path.suffix != ".lock"} <= {"filler"}


def test_orphans_of_a_failed_spill_are_deleted_later(proxy: FaultProxy, world: World) -> None:
    """No URL names them, and they are deleted in the background."""
    world.count_bytes()
    world.fill(SMALL)
    with (
        limited_attempts(3),
        proxy.inject(Fault.RESET_AFTER, method="PUT"),
        proxy.inject(Fault.DELETE_DENIED),
    ):
        assert isinstance(world.attempt("spill"), StorageUnavailableError)
        assert not world.urls
        assert files_at_rest()
        assert world.usage() == bytes_at_rest()
    poll(world.is_clean, "the files to be deleted")
    poll(lambda: world.usage() == 0, "the files to count no more")
    poll(world.spills_again, "the storage to be used again")


def test_destroy_empties_every_healthy_uri(proxy: FaultProxy, s3_bucket: str) -> None:
    """A URI that is down does not keep the files of another one."""
    store = InMemoryObjectStore()
    uris = [f"s3://{s3_bucket}/{name}" for name in ("down", "up")]
    storage = ExternalStorage(uris, object_store=store, file_size=KIB)
    for number in range(2):
        store.put(number, bytes(KIB))
    storage.spill_objects([0, 1])
    down = proxy.inject(Fault.RESET, where=lambda path: "down%2F" in path or "down/" in path)
    with limited_attempts(3), down:
        storage.destroy_external_storage()
    assert len(files_at_rest()) == 1
    assert files_at_rest().pop().startswith(f"{s3_bucket}/down/")
    storage.destroy_external_storage()
    assert files_at_rest() == set()


@pytest.mark.filterwarnings(IGNORE_WARNING)
@pytest.mark.parametrize("name", OPERATIONS)
def test_forked_child_loses_and_leaves_nothing(name: str, proxy: FaultProxy, world: World) -> None:
    """A child does each operation with the storage of its parent, and both go on afterwards."""
    operation = OPERATIONS[name]
    world.fill(operation.sizes)
    assert world.spills_again()
    assert world.attempt("restore") is None  # by obstore, whose threads the child does not have
    if operation.verb == "spill":
        world.delete()
    else:
        for ref in world.store:
            world.store.delete(ref)

    def child() -> tuple[FsspillError | None, dict[bytes, bytes]]:
        error = world.attempt(operation.verb)
        world.check_object_store()
        assert (operation.verb == "restore") is (set(world.store) == world.data.keys())
        return error, world.urls

    urls = world.urls
    with proxy.inject(Fault.UNAVAILABLE, count=2):
        error, world.urls = run_in_fork(child)
    assert error is None
    if operation.verb == "destroy":
        assert files_at_rest()  # they are the parent's
        world.urls = urls
    assert files_at_rest() == world.files()
    assert world.count_altered() == 0


OBJECTS = 21
"""Objects of a fused file, one of which is refused."""

refusing = pytest.mark.parametrize("fault", [Fault.TOO_LARGE, Fault.FORBIDDEN])


@refusing
@pytest.mark.parametrize("index", [0, 10, pytest.param(OBJECTS - 1, marks=pytest.mark.nightly)])
def test_a_refused_object_keeps_no_other_of_its_file_from_being_stored(
    fault: Fault, index: int, proxy: FaultProxy, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """The leading ones are stored, then those after it, which a caller passes without it."""
    world.count_bytes()
    world.fill([10 * KIB] * OBJECTS)
    refused = b"%d" % index
    with proxy.inject(fault, method="PUT", body=world.data[refused]):
        error = world.attempt("spill")
        assert type(error) is (StorageRefusedError if index == 0 else type(None))
        assert len(world.urls) == index
        seen = len(proxy.requests)
        assert type(world.attempt("spill")) is StorageRefusedError
        assert len(proxy.requests) == seen
        world.store.delete(refused)
        assert world.attempt("spill") is None
    assert world.urls.keys() == world.data.keys() - {refused}
    assert files_at_rest() == world.files()
    assert world.usage() == bytes_at_rest()
    [line] = [text for text in caplog.messages if "stays in memory" in text]
    assert f"Object {refused.hex()} " in line
    assert "unhealthy" not in caplog.text
    assert world.count_altered() == 0


@refusing
@pytest.mark.parametrize("size", [200 * KIB, 17 * MIB])
def test_a_refused_object_keeps_no_later_one_from_being_stored(
    fault: Fault, size: int, proxy: FaultProxy, world: World
) -> None:
    """Whether it is sent in one request or in parts: a URI that takes others stays healthy."""
    world.fill([size])
    name = f"-multi-1-{HEADER_LENGTH + size}"
    with proxy.inject(fault, method="PUT", where=lambda path: name in path):
        for number in range(1, 4):
            assert type(world.attempt("spill")) is StorageRefusedError
            world.store.delete(b"0")
            world.fill([10 * KIB])
            assert world.attempt("spill") is None
            assert world.urls.keys() == {b"%d" % n for n in range(1, number + 1)}
            world.store.put(b"0", world.data[b"0"])
    assert files_at_rest() == world.files()
    assert world.count_altered() == 0
    assert open_uploads() == []


@refusing
def test_a_refused_file_goes_to_the_next_uri(
    fault: Fault, proxy: FaultProxy, s3_bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As it is, and alone: the first URI stays healthy and takes the others."""
    uris = [f"s3://{s3_bucket}/{name}" for name in ("first", "second")]
    world = World(*uris, policy="in_order")
    world.fill(SMALL)
    refused = proxy.inject(
        fault, method="PUT", body=world.data[b"2"], where=lambda path: "/first/" in path
    )
    with refused:
        assert world.attempt("spill") is None
    assert world.urls.keys() == world.data.keys()
    second = {ref for ref, url in world.urls.items() if b"/second/" in url}
    assert second == {b"2", b"3"}
    assert files_at_rest() == world.files()
    assert "unhealthy" not in caplog.text
    assert world.count_altered() == 0
    world.destroy()


def test_a_refused_object_is_tried_again_after_a_pause(
    proxy: FaultProxy, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stored as soon as the storage takes it."""
    monkeypatch.setattr(refusals, "_FIRST_PAUSE", 0.1)
    world.fill(SMALL[:1])
    with proxy.inject(Fault.TOO_LARGE, method="PUT", body=world.data[b"0"]):
        assert type(world.attempt("spill")) is StorageRefusedError
    poll(world.spills_again, "the object to be spilled")
    assert world.count_altered() == 0


def test_a_uri_that_takes_checks_and_no_spilled_files_is_unhealthy(
    proxy: FaultProxy, world: World
) -> None:
    """A probe writes where the spilled files are: no object is at fault, nor is it usable again."""
    world.fill(SMALL[:1])
    [location] = world.storage.files.locations
    with proxy.inject(Fault.FORBIDDEN, where=lambda path: "ray_spilled_objects_" in path):
        assert type(world.attempt("spill")) is StoragePermissionError
        probes = sum(proxy.injected.values())
        poll(lambda: sum(proxy.injected.values()) > probes + 6, "some probes")
        assert world.storage.files.placement.failure(location) is not None
        assert len(world.storage.files.refusals) == 0
        world.storage.check()
    poll(world.spills_again, "the storage to be used again")


def test_a_server_that_fails_for_one_object_stays_healthy(proxy: FaultProxy, world: World) -> None:
    """A failure that never passes is that of the object where others are stored meanwhile."""
    world.fill([600 * KIB] * 4)
    poison = proxy.inject(Fault.UNAVAILABLE, method="PUT", body=world.data[b"3"])
    with limited_attempts(3), poison:
        assert world.attempt("spill") is None
        assert len(world.urls) == 3
        assert type(world.attempt("spill")) is StorageRefusedError
        world.store.delete(b"3")
        world.fill(SMALL)
        assert world.attempt("spill") is None
    assert world.urls.keys() == world.data.keys() - {b"3"}
    assert files_at_rest() == world.files()


DOWN = [
    Fault.RESET,
    Fault.FORBIDDEN,
    *(pytest.param(fault, marks=pytest.mark.nightly) for fault in (Fault.THROTTLED, Fault.STALL)),
]


@pytest.fixture
def two_uris(s3_bucket: str, proxy: FaultProxy) -> Iterator[World]:
    """Give a test a node with two URIs, which are used by turns."""
    world = World(f"s3://{s3_bucket}/down", f"s3://{s3_bucket}/up")
    yield world
    world.destroy()
    assert files_at_rest() == set()


@contextmanager
def down(fault: Fault, proxy: FaultProxy) -> Iterator[None]:
    """Make the first URI fail until the block ends."""
    where = proxy.inject(fault, where=lambda path: "down/" in path or "down%2F" in path)
    with time_limits(fault, lasting=True), where:
        yield


@pytest.mark.parametrize("fault", DOWN)
def test_the_second_uri_takes_what_the_first_does_not(
    fault: Fault, proxy: FaultProxy, two_uris: World
) -> None:
    """All objects are stored and restored while the first is down, and it is used afterwards."""
    world = two_uris
    world.storage = world.make_storage(FORGIVING if fault in SILENT else PATIENT)
    world.fill(SMALL)
    with down(fault, proxy):
        assert world.attempt("spill") is None
        assert all(b"/up/" in url for url in world.urls.values())
        assert world.attempt("restore") is None
        world.check_object_store()
        assert len(world.store) == len(SMALL)
    for ref in list(world.store):
        world.store.delete(ref)
    poll(world.is_clean, "the files to be removed")
    assert world.count_altered() == 0
    poll(lambda: any(b"/down/" in url for url in spill_more(world)), "the first to be used")


def spill_more(world: World) -> Iterable[bytes]:
    world.fill(SMALL[:1])
    world.spill()
    return world.urls.values()


@pytest.mark.parametrize("fault", DOWN)
def test_objects_under_the_second_uri_need_nothing_of_the_first(
    fault: Fault, proxy: FaultProxy, two_uris: World
) -> None:
    """They are restored and deleted while the first is down, and the others are afterwards."""
    world = two_uris
    world.fill(SMALL)
    world.spill()
    lost = {ref for ref, url in world.urls.items() if b"/down/" in url}
    assert 0 < len(lost) < len(SMALL)
    world.storage = world.make_storage(FORGIVING if fault in SILENT else PATIENT)
    with down(fault, proxy):
        for ref, url in world.urls.items():
            expected = ERRORS.get(fault, StorageUnavailableError)
            with pytest.raises(expected) if ref in lost else nullcontext():
                world.storage.restore_spilled_objects([ref], [url])
        assert set(world.store) == world.data.keys() - lost
        world.check_object_store()
        world.delete()
        assert all("/down/" in key for key in files_at_rest())
    poll(lambda: not files_at_rest(), "the files to be deleted")


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", sorted(set(Fault) - {Fault.FLIP_UP} - ONLY_DELAYS, key=str))
def test_storm_of_faults_only_delays(fault: Fault, proxy: FaultProxy, world: World) -> None:
    """With a fault in three of ten requests, repeated calls spill and restore everything."""
    world.storage = world.make_storage(FORGIVING)
    storm = proxy.inject(fault, rate=0.3, method="GET" if fault in WRONG_BODIES else None)
    with cleanup_limit(FORGIVING), storm:
        for _ in range(3):
            world.fill(SMALL)
            poll(world.spills_again, "the objects to be spilled")
            poll(lambda: world.attempt("restore") is None, "the objects to be restored")
            assert len(world.store) == len(SMALL)
            world.check_object_store()
            world.attempt("delete")
            for ref in world.store:
                world.store.delete(ref)
    poll(world.is_clean, "the files to be deleted")
