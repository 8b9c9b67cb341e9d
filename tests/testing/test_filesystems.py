"""The filesystems that count, delay and fail what is asked of another one."""

from __future__ import annotations

import asyncio
import gc
import inspect
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.asyn import AsyncFileSystem, sync
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile

import fsspill
from fsspill import (
    ConfigError,
    CorruptObjectError,
    ExternalStorage,
    InMemoryObjectStore,
    StoragePermissionError,
    StorageUnavailableError,
)
from fsspill.errors import StorageFullError
from fsspill.storage.connection import connect
from fsspill.testing.contract import (
    FILE_OPERATIONS,
    OPERATIONS,
    CountingFileSystem,
    ExternalStorageContract,
    FaultyFileSystem,
    LatencyFileSystem,
)
from tests.running import poll
from tests.timeouts import FORGIVING, limited_attempts

KIB = 2**10
WRAPPERS = [CountingFileSystem, LatencyFileSystem, FaultyFileSystem]
PROTOCOLS = ["counting", "slow", "faulty"]
MEMORY = {"target_protocol": "memory"}

ASKS_NOTHING = {
    "clear_instance_cache",
    "current",
    "from_dict",
    "from_json",
    "invalidate_cache",
    "to_dict",
    "to_json",
    "unstrip_protocol",
}


@pytest.fixture(autouse=True)
def no_instances() -> Iterator[None]:
    """Give each test filesystems of its own, without the counts and faults of others."""
    yield
    for cls in WRAPPERS:
        cls.clear_instance_cache()
    fsspec.filesystem("memory").store.clear()
    fsspec.filesystem("memory").pseudo_dirs[:] = [""]


@pytest.fixture
def store() -> InMemoryObjectStore:
    return InMemoryObjectStore()


class WrapperContract(ExternalStorageContract):
    """The contract through a wrapper; what lies at rest is looked at without it."""

    target = "memory"
    options: Mapping[str, Any] = {}

    def storage_arguments(self) -> dict[str, Any]:
        return {"storage_options": {"target_protocol": self.target, **self.options}}

    @pytest.fixture
    def uri(self) -> str:
        return f"counting://{uuid.uuid4().hex}"

    def files_at_rest(self, uri: str) -> dict[str, bytes]:
        _, _, path = uri.partition("://")
        found = super().files_at_rest(f"{self.target}://{path}")
        start = len(f"{self.target}://{path}")
        return {uri + base_url[start:]: data for base_url, data in found.items()}

    def write_at_rest(self, base_url: str, data: bytes) -> None:
        super().write_at_rest(f"{self.target}://{base_url.partition('://')[2]}", data)


class TestContractThroughCounting(WrapperContract):
    pass


class TestContractThroughSlow(WrapperContract):
    options: Mapping[str, Any] = {"latency": 0.001, "bandwidth": 1e9}

    @pytest.fixture
    def uri(self) -> str:
        return f"slow://{uuid.uuid4().hex}"


class TestContractThroughFaulty(WrapperContract):
    @pytest.fixture
    def uri(self) -> str:
        return f"faulty://{uuid.uuid4().hex}"


class TestContractThroughAllThree(WrapperContract):
    options: Mapping[str, Any] = {
        "target_protocol": "slow",
        "target_options": {"target_protocol": "faulty", "target_options": MEMORY},
    }


class TestContractThroughCountingOnS3(WrapperContract):
    target = "s3"

    @pytest.fixture
    def uri(self, s3_bucket: str) -> str:
        return f"counting://{s3_bucket}/prefix"


class Recorder(MemoryFileSystem):  # type: ignore[misc]
    """A target that notes which of its methods are called, and with what, and does nothing."""

    protocol = "recorder"
    calls: list[tuple[str, Any]] = []  # noqa: RUF012  # of all instances, as with `store`


def note(name: str) -> Any:
    def method(self: Recorder, path: Any, *arguments: Any, **options: Any) -> Any:
        self.calls.append((name, path))
        answers = {"info": {"name": path}, "cat_file": b"", "open": Written()}
        return answers.get(name, [])

    return method


class Written:
    """A file like that of a disk."""

    def write(self, data: bytes) -> None:
        Recorder.calls.append(("write", data))

    def close(self) -> None:
        Recorder.calls.append(("close", None))


class Buffered(AbstractBufferedFile):  # type: ignore[misc]
    """A file like that of a bucket, which closing commits."""

    def discard(self) -> None:
        Recorder.calls.append(("discard", None))

    def _upload_chunk(self, final: bool = False) -> None:
        Recorder.calls.append(("commit" if final else "write", None))


for operation in OPERATIONS:
    setattr(Recorder, operation, note(operation))


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Register the protocol ``recorder``, and return the calls that its filesystem gets."""
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "recorder", Recorder)
    monkeypatch.setattr(Recorder, "calls", [])
    return Recorder.calls


# What fsspill passes after the path; the others take the path alone.
ARGUMENTS: Mapping[str, tuple[Any, ...]] = {
    "cat_ranges": ([0], [1]),
    "open": ("wb",),
    "pipe_file": (b"x",),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_is_forwarded(
    protocol: str, operation: str, recorded: list[tuple[str, Any]]
) -> None:
    """Each operation asks the target for the same, once, by the target's path."""
    fs = fsspec.filesystem(protocol, target_protocol="recorder")
    path, there = ("a/b", "/a/b") if operation != "cat_ranges" else (["a/b"], ["/a/b"])
    getattr(fs, operation)(path, *ARGUMENTS.get(operation, ()))
    assert recorded[:1] == [(operation, there)]
    assert {name for name, _ in recorded[1:]} <= set(FILE_OPERATIONS)  # when it is collected


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_blocks_of_a_file_are_forwarded(protocol: str, recorded: list[tuple[str, Any]]) -> None:
    """A file is written in blocks of the size that was asked for, and then closed."""
    fs = fsspec.filesystem(protocol, target_protocol="recorder")
    with fs.open("a/b", "wb", block_size=3) as file:
        for data in (b"abc", b"de"):
            file.write(data)
    assert recorded == [("open", "/a/b"), ("write", b"abc"), ("write", b"de"), ("close", None)]


@pytest.mark.parametrize("operation", ["open", "write", "close"])
@pytest.mark.parametrize("buffered", [False, True])
def test_a_file_that_is_given_up_is_not_committed(
    operation: str,
    buffered: bool,
    recorded: list[tuple[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The target's file is discarded where fsspec's class can do that, and else only closed."""

    def open_(self: Recorder, path: str, mode: str, block_size: int) -> Any:
        return Buffered(self, path, mode, block_size=block_size) if buffered else Written()

    monkeypatch.setattr(Recorder, "open", open_)
    fs = fsspec.filesystem("faulty", target_protocol="recorder")
    fs.fail(operation, times=1, after=operation == "open")
    with pytest.raises(OSError, match="told to inject"):
        write_or_discard(fs, "a")
    gc.collect()
    assert recorded[-1] == ("discard" if buffered else "close", None)
    assert ("commit", None) not in recorded


def write_or_discard(fs: Any, path: str) -> None:
    """Write a file of two blocks as fsspill does."""
    file = fs.open(path, "wb", block_size=10)
    try:
        file.write(bytes(10))
        file.write(bytes(10))
        file.close()
    except BaseException:
        file.discard()
        file.closed = True
        raise


PUBLIC = {
    name
    for name in dir(AsyncFileSystem)
    if not name.startswith("_") and callable(getattr(AsyncFileSystem, name))
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("operation", sorted(PUBLIC - ASKS_NOTHING - set(OPERATIONS)))
def test_any_other_operation_is_refused_by_name(protocol: str, operation: str) -> None:
    """What fsspill does not use is not forwarded but raises, with or without underscore."""
    fs = fsspec.filesystem(protocol, **MEMORY)
    for name in (operation, f"_{operation}"):
        with pytest.raises(NotImplementedError, match=rf"'{operation}'"):
            getattr(fs, name)("a", "b")


@pytest.mark.parametrize("operation", ["cp_file", "du", "exists", "glob", "mv", "touch", "walk"])
def test_well_known_operations_are_among_those(operation: str) -> None:
    """The list of what is refused is not empty for some reason of introspection."""
    assert operation in PUBLIC - ASKS_NOTHING - set(OPERATIONS)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_files_are_opened_for_writing_only(protocol: str) -> None:
    """Fsspill never reads or appends through an open file."""
    for mode in ("rb", "ab", "r+b"):
        with pytest.raises(NotImplementedError, match="'open' with mode"):
            fsspec.filesystem(protocol, **MEMORY).open("a", mode)


def test_operations_are_all_that_fsspill_uses() -> None:
    """The package asks a filesystem for nothing else, but S3 for what only S3 has."""
    package = Path(inspect.getfile(fsspill)).parent
    sources = [p.read_text() for p in package.rglob("*.py") if p.stem != "filesystems"]
    used = set(re.findall(r"endpoint\.(?:sync_)?fs\.(\w+)", "\n".join(sources)))
    no_request = {"loop", "invalidate_cache"}
    of_s3 = {"_call_s3", "split_path"}
    assert {"_pipe_file", "open"} <= used
    assert {name.removeprefix("_") for name in used - no_request - of_s3} <= set(OPERATIONS)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_missing_target_is_named(protocol: str) -> None:
    """Without target_protocol there is an error that says what to write, through fsspill too."""
    with pytest.raises(ConfigError, match="as target_protocol in its storage_options"):
        fsspec.filesystem(protocol)
    with pytest.raises(ConfigError, match="as target_protocol in its storage_options"):
        ExternalStorage(f"{protocol}://bucket").check()


def test_paths_are_those_of_the_target(tmp_path: Path) -> None:
    """An absolute path of a disk stays what it is, and directories are made."""
    storage = ExternalStorage(
        f"counting://{tmp_path}/new", storage_options={"target_protocol": "file"}
    )
    storage.object_store.put(b"a", b"data")  # type: ignore[attr-defined]
    [url] = storage.spill_objects([b"a"])
    [file] = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert url.decode().startswith(f"counting://{file}?")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("target", ["memory", "file"])
def test_answers_name_the_paths_that_were_asked_for(
    protocol: str, target: str, tmp_path: Path
) -> None:
    """A path in an answer can be asked for again."""
    fs = fsspec.filesystem(protocol, target_protocol=target)
    root = str(tmp_path).lstrip("/") if target == "memory" else str(tmp_path)
    fs.makedirs(f"{root}/d", exist_ok=True)
    fs.pipe_file(f"{root}/d/f", b"data")
    file = f"{root}/d/f"
    assert fs.find(root) == fs.find(f"{protocol}://{root}") == [file]
    assert fs.find(root, detail=True)[file]["name"] == file
    assert fs.ls(f"{root}/d", detail=False) == [file]
    assert [info["name"] for info in fs.ls(f"{root}/d")] == [file]
    assert fs.info(file)["name"] == file
    assert fs.cat_file(file) == b"data"


def test_a_missing_bucket_is_not_made(s3_bucket: str, store: InMemoryObjectStore) -> None:
    """Where fsspill makes no directories it makes none through a wrapper."""
    storage = ExternalStorage(
        "counting://no-such-bucket/x", storage_options={"target_protocol": "s3"}
    )
    with pytest.raises(FileNotFoundError):
        storage.check()
    fs = fsspec.filesystem("s3")
    fs.invalidate_cache()
    assert fs.ls("") == [s3_bucket]


def test_listings_of_the_target_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """`invalidate_cache` reaches the filesystem that has the cache."""
    forgotten: list[str | None] = []
    monkeypatch.setattr(
        MemoryFileSystem, "invalidate_cache", lambda self, path=None: forgotten.append(path)
    )
    fs = fsspec.filesystem("counting", **MEMORY)
    fs.invalidate_cache()
    fs.invalidate_cache("a")
    assert forgotten == [None, "/a"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_file_that_cannot_be_opened_leaves_nothing(protocol: str, tmp_path: Path) -> None:
    """The target's error comes through as it is."""
    fs = fsspec.filesystem(protocol, target_protocol="file")
    with pytest.raises(FileNotFoundError):
        fs.open(f"{tmp_path}/missing/f", "wb")
    assert list(tmp_path.iterdir()) == []


class OneAtATime(MemoryFileSystem):  # type: ignore[misc]
    """A target that two threads must not use at once."""

    protocol = "one-at-a-time"
    _inside = threading.Lock()
    _both = threading.Event()

    def rm_file(self, path: str) -> None:
        if not self._inside.acquire(blocking=False):
            self._both.set()
            raise AssertionError("two threads at once")
        self._both.wait(0.02)  # so that another has the time to come in if it may
        self._inside.release()


def test_a_synchronous_target_gets_one_operation_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A filesystem without an asynchronous interface need not be thread-safe."""
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "one-at-a-time", OneAtATime)
    fs = fsspec.filesystem("counting", target_protocol="one-at-a-time")

    async def several() -> None:
        await asyncio.gather(*(fs._rm_file(f"a/{number}") for number in range(5)))

    sync(fs.loop, several)
    assert fs.counts == {"rm_file": 5}


def fill(store: InMemoryObjectStore, *sizes: int) -> list[bytes]:
    refs = [b"%d" % number for number in range(len(sizes))]
    for ref, size in zip(refs, sizes, strict=True):
        store.put(ref, bytes(range(251)) * (size // 251 + 1))
    return refs


def make_storage(
    protocol: str, options: Mapping[str, Any], store: InMemoryObjectStore, **arguments: Any
) -> ExternalStorage:
    uri = f"{protocol}://{uuid.uuid4().hex}"
    return ExternalStorage(uri, storage_options=options, object_store=store, **arguments)


def sizes_at_rest(storage: ExternalStorage) -> list[int]:
    """Return the bytes of each spilled file; those of probes in the background come and go."""
    [uri] = storage.uris
    found = fsspec.filesystem("memory").find(uri.partition("://")[2], detail=True)
    return [info["size"] for path, info in found.items() if "ray_spilled_objects" in path]


class TestCounting:
    """`CountingFileSystem`."""

    def test_the_storage_uses_the_instance_of_the_test(self, store: InMemoryObjectStore) -> None:
        """Requests of a spill, a restore and a deletion are one each, and nothing is listed."""
        fs = fsspec.filesystem("counting", **MEMORY)
        storage = make_storage("counting", MEMORY, store)
        [url] = storage.spill_objects(fill(store, KIB))
        assert fs.counts == {"pipe_file": 1}
        nbytes = fs.bytes_written
        assert sizes_at_rest(storage) == [nbytes]
        fs.reset()
        store.delete(b"0")
        storage.restore_spilled_objects([b"0"], [url])
        assert fs.counts == {"cat_ranges": 1}
        assert (fs.bytes_read, fs.bytes_written) == (nbytes, 0)
        fs.reset()
        storage.delete_spilled_objects([url])
        assert fs.counts == {"rm_file": 1}
        assert (fs.bytes_read, fs.bytes_written) == (0, 0)

    def test_blocks_of_a_file_count(
        self, store: InMemoryObjectStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is written through an open file is counted block by block, by its bytes."""
        monkeypatch.setattr("fsspill.transfer.upload.SINGLE_REQUEST_SIZE", 0)
        monkeypatch.setattr("fsspill.transfer.upload.PART_SIZE", 10 * KIB)
        fs = fsspec.filesystem("counting", **MEMORY)
        storage = make_storage("counting", MEMORY, store)
        storage.spill_objects(fill(store, 25 * KIB))
        assert fs.counts == {"open": 1, "write": 3, "close": 1}
        assert sizes_at_rest(storage) == [fs.bytes_written]

    def test_what_fails_counts_as_asked_for_and_not_as_bytes(self) -> None:
        """A failed operation was a request too."""
        fs = fsspec.filesystem("counting", **MEMORY)
        with pytest.raises(FileNotFoundError):
            fs.cat_file("missing")
        assert fs.counts == {"cat_file": 1}
        assert fs.bytes_read == 0

    def test_an_answer_counts_by_its_bytes(self) -> None:
        """Ranges of a list add up; an error in it has none."""
        fs = fsspec.filesystem("counting", **MEMORY)
        fs.pipe_file("a", bytes(10))
        fs.cat_ranges(["a", "missing", "a"], [0, 0, 1], [3, 3, 10], on_error="return")
        assert fs.counts == {"pipe_file": 1, "cat_ranges": 1}
        assert (fs.bytes_written, fs.bytes_read) == (10, 12)

    def test_a_filesystem_that_is_made_anew_goes_on_counting(self) -> None:
        """Credentials that were refused make a second instance; the counts are one."""
        first = fsspec.filesystem("counting", **MEMORY)
        renewed = connect("counting://bucket", MEMORY, renew=True).fs
        assert renewed is not first
        renewed.pipe_file("a", b"x")
        assert first.counts == {"pipe_file": 1}

    def test_other_options_count_by_themselves(self) -> None:
        """Filesystems of other options are others."""
        first = fsspec.filesystem("counting", **MEMORY)
        second = fsspec.filesystem("counting", **MEMORY, target_options={"global_store": True})
        second.pipe_file("a", b"x")
        assert first.counts == {}


class TestSlow:
    """`LatencyFileSystem`."""

    @pytest.fixture
    def slept(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """Return the seconds that operations would have waited."""
        slept: list[float] = []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)

        monkeypatch.setattr("fsspill.testing.filesystems.sleep", sleep)
        return slept

    def test_every_operation_waits(self, slept: list[float]) -> None:
        """The latency passes before it, the bandwidth counts the bytes of either way."""
        fs = fsspec.filesystem("slow", **MEMORY, latency=5, bandwidth=100)
        fs.pipe_file("a", bytes(1000))
        fs.cat_file("a", start=0, end=300)
        fs.cat_ranges(["a", "a"], [0, 0], [100, 200])
        fs.info("a")
        assert slept == [15, 0, 5, 3, 5, 3, 5, 0]

    def test_blocks_of_a_file_wait(self, slept: list[float]) -> None:
        """Opening and closing take the latency, a block its bytes on top."""
        fs = fsspec.filesystem("slow", **MEMORY, latency=5, bandwidth=100)
        with fs.open("a", "wb", block_size=1000) as file:
            file.write(bytes(1000))
        assert slept == [5, 0, 15, 0, 5, 0]

    @pytest.mark.parametrize("options", [{"latency": -1}, {"bandwidth": 0}])
    def test_senseless_numbers_are_refused(self, options: dict[str, float]) -> None:
        """A negative latency, and a bandwidth with which nothing ever arrives."""
        with pytest.raises(ConfigError, match=r"expected a latency .* found"):
            fsspec.filesystem("slow", **MEMORY, **options)


@pytest.fixture
def faulty() -> Any:
    fs = fsspec.filesystem("faulty", **MEMORY)
    fsspec.filesystem("memory").pipe_file("/file", bytes(range(200)))
    return fs


class TestFaulty:
    """`FaultyFileSystem`."""

    def test_a_failure_before_has_no_effect(self, faulty: Any) -> None:
        """The error is raised as often as said, and the target was not asked."""
        faulty.fail("pipe_file", PermissionError("no"), times=2)
        for _ in range(2):
            with pytest.raises(PermissionError, match="no"):
                faulty.pipe_file("new", b"x")
        assert "/new" not in fsspec.filesystem("memory").store
        faulty.pipe_file("new", b"x")
        assert fsspec.filesystem("memory").cat_file("/new") == b"x"
        assert faulty.injected == {"pipe_file": 2}

    def test_a_failure_after_took_effect(self, faulty: Any) -> None:
        """The answer is lost, the file is there."""
        faulty.fail("pipe_file", ConnectionError, after=True)
        with pytest.raises(ConnectionError):
            faulty.pipe_file("new", b"x")
        assert fsspec.filesystem("memory").cat_file("/new") == b"x"

    def test_an_error_is_new_each_time(self, faulty: Any) -> None:
        """An error does not carry the traceback of the one before."""
        error = OSError(28, "full")
        faulty.fail("info", error)
        with pytest.raises(OSError, match="full") as caught:
            faulty.info("file")
        assert caught.value is not error
        assert caught.value.args == (28, "full")
        assert error.__traceback__ is None

    @pytest.mark.parametrize("read", ["cat_file", "cat_ranges"])
    def test_a_truncated_answer_is_a_beginning(self, faulty: Any, read: str) -> None:
        """It has fewer bytes, and those are right."""
        faulty.truncate(read)
        data = bytes(range(200))
        answers = {self.read(faulty, read) for _ in range(20)}
        assert all(data.startswith(answer) and answer != data for answer in answers)
        assert len(answers) > 10
        assert faulty.injected == {read: 20}

    @pytest.mark.parametrize("read", ["cat_file", "cat_ranges"])
    def test_a_flip_changes_one_bit(self, faulty: Any, read: str) -> None:
        """The length is right, and exactly one bit differs; the file itself is as it was."""
        faulty.flip(read, times=20)
        data = int.from_bytes(bytes(range(200)), "big")
        answers = [self.read(faulty, read) for _ in range(20)]
        assert {len(answer) for answer in answers} == {200}
        flips = [int.from_bytes(answer, "big") ^ data for answer in answers]
        assert {bin(flip).count("1") for flip in flips} == {1}
        assert len(set(flips)) > 10
        assert self.read(faulty, read) == bytes(range(200))

    @pytest.mark.parametrize("read", ["cat_file", "cat_ranges"])
    def test_a_swap_moves_bytes(self, faulty: Any, read: str) -> None:
        """All bytes are there, the second half first."""
        faulty.swap(read)
        assert self.read(faulty, read) == bytes([*range(100, 200), *range(100)])

    @staticmethod
    def read(fs: Any, operation: str) -> bytes:
        if operation == "cat_file":
            data: bytes = fs.cat_file("file")
        else:
            [data] = fs.cat_ranges(["file"], [0], [200])
        return data

    @pytest.mark.parametrize("fault", ["truncate", "flip", "swap"])
    def test_an_answer_without_bytes_stays(self, faulty: Any, fault: str) -> None:
        """There is nothing to alter in an empty file, or in an error."""
        faulty.pipe_file("empty", b"")
        getattr(faulty, fault)("*")
        assert faulty.cat_file("empty") == b""
        [error] = faulty.cat_ranges(["missing"], [0], [1], on_error="return")
        assert isinstance(error, FileNotFoundError)

    @pytest.mark.parametrize("after", [False, True])
    def test_a_hang_lasts_until_it_is_cleared(self, faulty: Any, after: bool) -> None:
        """It does not end by itself, fails when cleared, and has had its effect or not."""
        faulty.hang("pipe_file", after=after)
        hung = asyncio.run_coroutine_threadsafe(faulty._pipe_file("new", b"x"), faulty.loop)
        poll(lambda: faulty.injected["pipe_file"], "the operation to hang")
        assert not hung.done()
        assert ("/new" in fsspec.filesystem("memory").store) is after
        faulty.clear()
        with pytest.raises(TimeoutError, match="hung"):
            hung.result(60)

    def test_a_hang_can_be_cancelled(self, faulty: Any) -> None:
        """Whoever waits for it may give up."""
        faulty.hang("info")

        async def give_up() -> None:
            await asyncio.wait_for(faulty._info("file"), 0.01)

        with pytest.raises(asyncio.TimeoutError):
            sync(faulty.loop, give_up)
        assert faulty.injected == {"info": 1}

    def test_a_file_that_is_written_can_fail_at_each_step(
        self, faulty: Any, tmp_path: Path
    ) -> None:
        """Opening, a block and closing fail by name; nothing is left open."""
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

    def test_any_operation_can_fail(self, faulty: Any) -> None:
        """A star stands for all of them."""
        faulty.fail("*", times=2)
        for call in (faulty.info, faulty.cat_file):
            with pytest.raises(OSError, match="told to inject"):
                call("file")
        assert faulty.injected == {"info": 1, "cat_file": 1}

    def test_the_first_fault_that_applies_is_met(self, faulty: Any) -> None:
        """One call never meets two."""
        faulty.fail("info", KeyError("first"), times=1)
        faulty.fail("info", ValueError("second"), times=1)
        for expected in (KeyError, ValueError):
            with pytest.raises(expected):
                faulty.info("file")
        faulty.info("file")
        assert faulty.injected == {"info": 2}

    def test_clear_takes_all_faults_away_and_keeps_the_count(self) -> None:
        """Those of the options too."""
        fs = fsspec.filesystem("faulty", **MEMORY, rate=1.0, faults={"find": KeyError})
        fs.fail("ls")
        with pytest.raises(KeyError):
            fs.find("")
        fs.clear()
        fs.find("")
        fs.ls("")
        fs.pipe_file("a", b"x")
        assert fs.injected == {"find": 1}

    def test_a_rate_is_reproducible(self) -> None:
        """The same seed fails the same calls, some but not all; another seed others."""

        def failures(seed: int) -> list[bool]:
            FaultyFileSystem.clear_instance_cache()
            fs = fsspec.filesystem("faulty", **MEMORY, rate=0.3, seed=seed)
            return [self.fails(fs) for _ in range(100)]

        assert failures(1) == failures(1) != failures(2)
        assert 0 < sum(failures(1)) < 100

    @staticmethod
    def fails(fs: Any) -> bool:
        try:
            fs.pipe_file("a", b"x")
        except OSError:
            return True
        return False

    def test_a_script_is_followed_call_by_call(self) -> None:
        """Names, exceptions and None, in this order; what comes after it is spared."""
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
    def test_a_fault_that_is_no_list_is_met_by_every_call(self, fault: str) -> None:
        """Each of the names alters every answer."""
        fs = fsspec.filesystem("faulty", **MEMORY, faults={"cat_file": fault})
        fs.pipe_file("a", b"data")
        assert all(fs.cat_file("a") != b"data" for _ in range(10))

    @pytest.mark.parametrize("fault", ["hang", "hang_after"])
    def test_a_hang_can_stand_in_a_script(self, fault: str) -> None:
        """It is the same as that of the method."""
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
    def test_faults_that_cannot_be_are_named(self, faults: dict[str, str], message: str) -> None:
        """A misspelt fault would let a test pass that tests nothing."""
        with pytest.raises(ConfigError, match=message):
            fsspec.filesystem("faulty", **MEMORY, faults=faults)

    def test_a_filesystem_that_is_made_anew_has_the_same_faults(self) -> None:
        """Credentials that were refused make a second instance, and stay refused."""
        faults = {"pipe_file": [None, PermissionError("no")]}
        options = {**MEMORY, "faults": faults}
        first = fsspec.filesystem("faulty", **options)
        first.pipe_file("a", b"x")
        renewed = connect("faulty://bucket", options, renew=True).fs
        with pytest.raises(PermissionError):
            renewed.pipe_file("a", b"x")
        assert first.injected == {"pipe_file": 1}


class TestFsspillOverFaults:
    """What fsspill makes of the faults: these tests show that they reach it."""

    @pytest.fixture
    def fs(self) -> Iterator[Any]:
        fs = fsspec.filesystem("faulty", **MEMORY)
        yield fs
        fs.clear()  # so that probes in the background come to an end

    def test_a_failure_that_passes_is_not_noticed(
        self, fs: Any, store: InMemoryObjectStore
    ) -> None:
        """Each kind of request is tried again."""
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
    def test_wrong_data_that_passes_is_not_noticed(
        self, fs: Any, store: InMemoryObjectStore, fault: str
    ) -> None:
        """It is read again."""
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
            ("flip", CorruptObjectError),
            ("swap", CorruptObjectError),
        ],
    )
    def test_wrong_data_that_stays_restores_nothing(
        self, fs: Any, store: InMemoryObjectStore, fault: str, expected: type[Exception]
    ) -> None:
        """The object store is empty, and the next restore succeeds without the fault."""
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
    def test_a_failure_for_good_leaves_nothing(
        self, fs: Any, store: InMemoryObjectStore, error: Exception, expected: type[Exception]
    ) -> None:
        """Also where the file was there when its writing failed."""
        storage = make_storage("faulty", MEMORY, store)
        fs.fail("pipe_file", error, after=True)
        with pytest.raises(expected):
            storage.spill_objects(fill(store, KIB))
        assert sizes_at_rest(storage) == []

    def test_a_hang_is_given_up(self, fs: Any, store: InMemoryObjectStore) -> None:
        """The request is made again while the first one still hangs."""
        storage = make_storage("faulty", MEMORY, store, stall_timeout=FORGIVING)
        fs.hang("pipe_file", times=1)
        storage.spill_objects(fill(store, KIB))
        assert fs.injected == {"pipe_file": 1}
        assert len(sizes_at_rest(storage)) == 1


def test_the_wrappers_do_not_need_pytest() -> None:
    """A program that is no test may count too; `fsspill.testing.contract` needs pytest."""
    program = (
        "import sys; sys.modules['pytest'] = None\n"
        "import fsspec, fsspill.testing.filesystems\n"
        "fs = fsspec.filesystem('counting', target_protocol='memory')\n"
        "fs.pipe_file('a', b'x')\n"
        "assert fs.counts == {'pipe_file': 1}\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)
