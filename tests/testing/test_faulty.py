"""`FaultyFileSystem` injects the requested faults, and fsspill tolerates them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.asyn import sync

from fsspill import (
    ConfigError,
    CorruptObjectError,
    InMemoryObjectStore,
    StoragePermissionError,
    StorageUnavailableError,
)
from fsspill.errors import StorageFullError
from fsspill.storage.connection import connect
from fsspill.testing.filesystems import FILE_OPERATIONS, FaultyFileSystem
from tests.running import poll
from tests.testing.wrappers import (
    KIB,
    MEMORY,
    WrapperContract,
    fill,
    make_storage,
    sizes_at_rest,
    write_or_discard,
)
from tests.timeouts import FORGIVING, limited_attempts


class TestContractThroughFaulty(WrapperContract):
    @pytest.fixture
    def uri(self) -> str:
        return f"faulty://{uuid.uuid4().hex}"


@pytest.fixture
def faulty() -> Any:
    """Return a faulty filesystem with a file of 200 bytes."""
    fs = fsspec.filesystem("faulty", **MEMORY)
    fsspec.filesystem("memory").pipe_file("/file", bytes(range(200)))
    return fs


def test_a_failure_before_the_operation_has_no_effect(faulty: Any) -> None:
    """The error is raised the given number of times, and the target is not called."""
    faulty.fail("pipe_file", PermissionError("no"), times=2)
    for _ in range(2):
        with pytest.raises(PermissionError, match="no"):
            faulty.pipe_file("new", b"x")
    assert "/new" not in fsspec.filesystem("memory").store
    faulty.pipe_file("new", b"x")
    assert fsspec.filesystem("memory").cat_file("/new") == b"x"
    assert faulty.injected == {"pipe_file": 2}


def test_a_failure_after_the_operation_keeps_its_effect(faulty: Any) -> None:
    """The answer is lost, but the file exists."""
    faulty.fail("pipe_file", ConnectionError, after=True)
    with pytest.raises(ConnectionError):
        faulty.pipe_file("new", b"x")
    assert fsspec.filesystem("memory").cat_file("/new") == b"x"


def test_each_call_raises_a_copy_of_the_error(faulty: Any) -> None:
    """No error carries the traceback of an earlier one."""
    error = OSError(28, "full")
    faulty.fail("info", error)
    with pytest.raises(OSError, match="full") as caught:
        faulty.info("file")
    assert caught.value is not error
    assert caught.value.args == (28, "full")
    assert error.__traceback__ is None


@pytest.mark.parametrize("operation", ["cat_file", "cat_ranges"])
def test_truncate_returns_a_prefix(faulty: Any, operation: str) -> None:
    """The answer has fewer bytes, and those are correct."""
    faulty.truncate(operation)
    data = bytes(range(200))
    answers = {read(faulty, operation) for _ in range(20)}
    assert all(data.startswith(answer) and answer != data for answer in answers)
    assert len(answers) > 10
    assert faulty.injected == {operation: 20}


@pytest.mark.parametrize("operation", ["cat_file", "cat_ranges"])
def test_flip_changes_one_bit(faulty: Any, operation: str) -> None:
    """The length is unchanged and exactly one bit differs; the file itself is unchanged."""
    faulty.flip(operation, times=20)
    data = int.from_bytes(bytes(range(200)), "big")
    answers = [read(faulty, operation) for _ in range(20)]
    assert {len(answer) for answer in answers} == {200}
    flips = [int.from_bytes(answer, "big") ^ data for answer in answers]
    assert {bin(flip).count("1") for flip in flips} == {1}
    assert len(set(flips)) > 10
    assert read(faulty, operation) == bytes(range(200))


@pytest.mark.parametrize("operation", ["cat_file", "cat_ranges"])
def test_swap_exchanges_the_halves(faulty: Any, operation: str) -> None:
    """All bytes are returned, the second half first."""
    faulty.swap(operation)
    assert read(faulty, operation) == bytes([*range(100, 200), *range(100)])


def read(fs: Any, operation: str) -> bytes:
    """Return the data of the file, read by `operation`."""
    if operation == "cat_file":
        data: bytes = fs.cat_file("file")
    else:
        [data] = fs.cat_ranges(["file"], [0], [200])
    return data


@pytest.mark.parametrize("fault", ["truncate", "flip", "swap"])
def test_an_empty_answer_is_not_altered(faulty: Any, fault: str) -> None:
    """An empty file and an error pass through every altering fault unchanged."""
    faulty.pipe_file("empty", b"")
    getattr(faulty, fault)("*")
    assert faulty.cat_file("empty") == b""
    [error] = faulty.cat_ranges(["missing"], [0], [1], on_error="return")
    assert isinstance(error, FileNotFoundError)


@pytest.mark.parametrize("after", [False, True])
def test_a_hang_lasts_until_it_is_cleared(faulty: Any, after: bool) -> None:
    """A hang has no timeout of its own; clearing it raises TimeoutError."""
    faulty.hang("pipe_file", after=after)
    hung = asyncio.run_coroutine_threadsafe(faulty._pipe_file("new", b"x"), faulty.loop)
    poll(lambda: faulty.injected["pipe_file"], "the operation to hang")
    assert not hung.done()
    assert ("/new" in fsspec.filesystem("memory").store) is after
    faulty.clear()
    with pytest.raises(TimeoutError, match="hung"):
        hung.result(60)


def test_a_hang_can_be_cancelled(faulty: Any) -> None:
    """A caller's timeout ends the hung operation."""
    faulty.hang("info")

    async def time_out() -> None:
        await asyncio.wait_for(faulty._info("file"), 0.01)

    with pytest.raises(asyncio.TimeoutError):
        sync(faulty.loop, time_out)
    assert faulty.injected == {"info": 1}


def test_open_write_and_close_can_fail(faulty: Any, tmp_path: Path) -> None:
    """Each step of writing a file fails by its name; no file stays open."""
    fs = fsspec.filesystem("faulty", target_protocol="file")
    for number, (operation, after) in enumerate(
        [(name, after) for name in ("open", *FILE_OPERATIONS) for after in (False, True)]
    ):
        fs.fail(operation, OSError(5, operation), after=after, times=1)
        with pytest.raises(OSError, match=operation):
            write_or_discard(fs, f"{tmp_path}/{number}")
        assert (tmp_path / f"{number}").exists() is (operation != "open" or after)
    write_or_discard(fs, f"{tmp_path}/last")
    assert (tmp_path / "last").read_bytes() == bytes(20)
    assert fs.injected == {"open": 2, "write": 2, "close": 2}


def test_a_star_applies_to_every_operation(faulty: Any) -> None:
    """The operation ``"*"`` stands for all operations."""
    faulty.fail("*", times=2)
    for call in (faulty.info, faulty.cat_file):
        with pytest.raises(OSError, match="told to inject"):
            call("file")
    assert faulty.injected == {"info": 1, "cat_file": 1}


def test_a_call_meets_the_first_fault_that_applies(faulty: Any) -> None:
    """No call meets two faults."""
    faulty.fail("info", KeyError("first"), times=1)
    faulty.fail("info", ValueError("second"), times=1)
    for expected in (KeyError, ValueError):
        with pytest.raises(expected):
            faulty.info("file")
    faulty.info("file")
    assert faulty.injected == {"info": 2}


def test_clear_removes_all_faults_and_keeps_the_count() -> None:
    """Faults of the options are removed as well."""
    fs = fsspec.filesystem("faulty", **MEMORY, rate=1.0, faults={"find": KeyError})
    fs.fail("ls")
    with pytest.raises(KeyError):
        fs.find("")
    fs.clear()
    fs.find("")
    fs.ls("")
    fs.pipe_file("a", b"x")
    assert fs.injected == {"find": 1}


def test_a_rate_is_reproducible() -> None:
    """The same seed fails the same calls, some but not all; another seed fails others."""

    def failures(seed: int) -> list[bool]:
        FaultyFileSystem.clear_instance_cache()
        fs = fsspec.filesystem("faulty", **MEMORY, rate=0.3, seed=seed)
        return [fails(fs) for _ in range(100)]

    assert failures(1) == failures(1) != failures(2)
    assert 0 < sum(failures(1)) < 100


def fails(fs: Any) -> bool:
    """Return True if a write fails."""
    try:
        fs.pipe_file("a", b"x")
    except OSError:
        return True
    return False


def test_a_list_of_faults_applies_to_successive_calls() -> None:
    """Names, exceptions and None apply in order; calls after the list meet no fault."""
    script = ["fail", None, "fail_after", ValueError("third"), KeyError]
    fs = fsspec.filesystem("faulty", **MEMORY, faults={"pipe_file": script})
    met: list[type[Exception] | None] = []
    for number in range(7):
        try:
            fs.pipe_file(f"{number}", b"x")
        except Exception as error:
            met.append(type(error))
        else:
            met.append(None)
    assert met == [OSError, None, OSError, ValueError, KeyError, None, None]
    there = [number for number in range(7) if fsspec.filesystem("memory").exists(f"/{number}")]
    assert there == [1, 2, 5, 6]
    assert fs.injected == {"pipe_file": 4}


@pytest.mark.parametrize("fault", ["truncate", "flip", "swap"])
def test_a_single_fault_applies_to_every_call(fault: str) -> None:
    """A fault outside a list alters every answer."""
    fs = fsspec.filesystem("faulty", **MEMORY, faults={"cat_file": fault})
    fs.pipe_file("a", b"data")
    assert all(fs.cat_file("a") != b"data" for _ in range(10))


@pytest.mark.parametrize("fault", ["hang", "hang_after"])
def test_a_list_of_faults_can_contain_a_hang(fault: str) -> None:
    """The name has the effect of the method."""
    fs = fsspec.filesystem("faulty", **MEMORY, faults={"pipe_file": [fault]})
    hung = asyncio.run_coroutine_threadsafe(fs._pipe_file("a", b"x"), fs.loop)
    poll(lambda: fs.injected["pipe_file"], "the operation to hang")
    assert ("/a" in fsspec.filesystem("memory").store) is (fault == "hang_after")
    fs.clear()
    with pytest.raises(TimeoutError):
        hung.result(60)


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ({"nonsense": "fail"}, "'nonsense'.*expected one of.*pipe_file"),
        ({"pipe_file": "flip"}, "'pipe_file'.*expected one of cat_file, cat_ranges"),
        ({"pipe_file": "nonsense"}, "'nonsense'.*expected an exception or one of fail"),
    ],
)
def test_unknown_faults_raise_config_error(faults: dict[str, str], message: str) -> None:
    """A misspelt fault would let a test pass that injects nothing."""
    with pytest.raises(ConfigError, match=message):
        fsspec.filesystem("faulty", **MEMORY, faults=faults)


def test_a_renewed_filesystem_has_the_same_faults() -> None:
    """Refused credentials lead to a second instance, which shares the faults of the first."""
    faults = {"pipe_file": [None, PermissionError("no")]}
    options = {**MEMORY, "faults": faults}
    first = fsspec.filesystem("faulty", **options)
    first.pipe_file("a", b"x")
    renewed = connect("faulty://bucket", options, renew=True).fs
    with pytest.raises(PermissionError):
        renewed.pipe_file("a", b"x")
    assert first.injected == {"pipe_file": 1}


@pytest.fixture
def fs() -> Iterator[Any]:
    """Return the faulty filesystem of the storages below."""
    fs = fsspec.filesystem("faulty", **MEMORY)
    yield fs
    fs.clear()  # so that background probes end


def test_transient_failures_are_retried(fs: Any, store: InMemoryObjectStore) -> None:
    """Writes, reads and deletions succeed after a failure before and one after the effect."""
    storage = make_storage("faulty", MEMORY, store)
    for operation in ("pipe_file", "cat_ranges", "rm_file"):
        fs.fail(operation, ConnectionError, times=1)
        fs.fail(operation, ConnectionError, after=True, times=1)
    refs = fill(store, KIB)
    urls = storage.spill_objects(refs)
    expected = bytes(store.get(refs[0]))
    store.delete(refs[0])
    storage.restore_spilled_objects(refs, urls)
    assert store.get(refs[0]) == expected
    storage.delete_spilled_objects(urls)
    assert fs.injected == {"pipe_file": 2, "cat_ranges": 2, "rm_file": 2}
    assert sizes_at_rest(storage) == []


@pytest.mark.parametrize("fault", ["truncate", "flip", "swap"])
def test_transiently_wrong_data_is_read_again(
    fs: Any, store: InMemoryObjectStore, fault: str
) -> None:
    """An altered answer is detected, and the next one is restored."""
    storage = make_storage("faulty", MEMORY, store)
    refs = fill(store, KIB)
    urls = storage.spill_objects(refs)
    expected = bytes(store.get(refs[0]))
    store.delete(refs[0])
    getattr(fs, fault)("cat_ranges", times=1)
    storage.restore_spilled_objects(refs, urls)
    assert store.get(refs[0]) == expected
    assert fs.injected == {"cat_ranges": 1}


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("truncate", StorageUnavailableError),
        ("flip", StorageUnavailableError),  # other bytes each time: not proved to be altered
        ("swap", CorruptObjectError),
    ],
)
def test_permanently_wrong_data_restores_nothing(
    fs: Any, store: InMemoryObjectStore, fault: str, expected: type[Exception]
) -> None:
    """The object store stays empty; without the fault the next restore succeeds."""
    storage = make_storage("faulty", MEMORY, store)
    refs = fill(store, KIB)
    urls = storage.spill_objects(refs)
    store.delete(refs[0])
    getattr(fs, fault)("cat_ranges")
    with limited_attempts(2), pytest.raises(expected):
        storage.restore_spilled_objects(refs, urls)
    assert len(store) == 0
    fs.clear()
    assert storage.restore_spilled_objects(refs, urls) > 0


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(28, "No space left on device"), StorageFullError),
        (PermissionError("no"), StoragePermissionError),
    ],
)
def test_a_permanent_failure_leaves_no_file(
    fs: Any, store: InMemoryObjectStore, error: Exception, expected: type[Exception]
) -> None:
    """A file that was written before its request failed is deleted as well."""
    storage = make_storage("faulty", MEMORY, store)
    fs.fail("pipe_file", error, after=True)
    with pytest.raises(expected):
        storage.spill_objects(fill(store, KIB))
    assert sizes_at_rest(storage) == []


def test_a_hung_request_is_repeated(fs: Any, store: InMemoryObjectStore) -> None:
    """The request is repeated while the first one still hangs."""
    storage = make_storage("faulty", MEMORY, store, stall_timeout=FORGIVING)
    fs.hang("pipe_file", times=1)
    storage.spill_objects(fill(store, KIB))
    assert fs.injected == {"pipe_file": 1}
    assert len(sizes_at_rest(storage)) == 1
