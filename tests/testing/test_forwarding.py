"""The wrappers forward the operations that fsspill uses, and refuse all others."""

from __future__ import annotations

import asyncio
import gc
import inspect
import re
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.asyn import AsyncFileSystem, sync
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile

import fsspill
from fsspill import ConfigError, ExternalStorage, InMemoryObjectStore
from fsspill.testing.filesystems import FILE_OPERATIONS, OPERATIONS
from tests.testing.wrappers import MEMORY, PROTOCOLS, WrapperContract, write_or_discard


class TestContractThroughAllThree(WrapperContract):
    options: Mapping[str, Any] = {
        "target_protocol": "slow",
        "target_options": {"target_protocol": "faulty", "target_options": MEMORY},
    }


class Recorder(MemoryFileSystem):  # type: ignore[misc]
    """A target that records the calls of its methods and does nothing."""

    protocol = "recorder"
    calls: list[tuple[str, Any]] = []  # noqa: RUF012  # shared by all instances, as is `store`


def record(name: str) -> Any:
    def method(self: Recorder, path: Any, *arguments: Any, **options: Any) -> Any:
        self.calls.append((name, path))
        answers = {"info": {"name": path}, "cat_file": b"", "open": Written()}
        return answers.get(name, [])

    return method


class Written:
    """A file like one on a disk."""

    def write(self, data: bytes) -> None:
        Recorder.calls.append(("write", data))

    def close(self) -> None:
        Recorder.calls.append(("close", None))


class Buffered(AbstractBufferedFile):  # type: ignore[misc]
    """A file like one in a bucket, which closing commits."""

    def discard(self) -> None:
        Recorder.calls.append(("discard", None))

    def _upload_chunk(self, final: bool = False) -> None:
        Recorder.calls.append(("commit" if final else "write", None))


for operation in OPERATIONS:
    setattr(Recorder, operation, record(operation))


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Register the protocol ``recorder``, and return the calls of its filesystem."""
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "recorder", Recorder)
    monkeypatch.setattr(Recorder, "calls", [])
    return Recorder.calls


# The arguments that fsspill passes after the path, if any.
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
    """Each operation calls the same one of the target, once, with the target's path."""
    fs = fsspec.filesystem(protocol, target_protocol="recorder")
    path, target_path = ("a/b", "/a/b") if operation != "cat_ranges" else (["a/b"], ["/a/b"])
    getattr(fs, operation)(path, *ARGUMENTS.get(operation, ()))
    assert recorded[:1] == [(operation, target_path)]
    assert {name for name, _ in recorded[1:]} <= set(FILE_OPERATIONS)  # on garbage collection


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_blocks_of_a_file_are_forwarded(protocol: str, recorded: list[tuple[str, Any]]) -> None:
    """A file is written in blocks of the requested size, and then closed."""
    fs = fsspec.filesystem(protocol, target_protocol="recorder")
    with fs.open("a/b", "wb", block_size=3) as file:
        for data in (b"abc", b"de"):
            file.write(data)
    assert recorded == [("open", "/a/b"), ("write", b"abc"), ("write", b"de"), ("close", None)]


@pytest.mark.parametrize("operation", ["open", "write", "close"])
@pytest.mark.parametrize("buffered", [False, True])
def test_a_discarded_file_is_not_committed(
    operation: str,
    buffered: bool,
    recorded: list[tuple[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The target's file is discarded if its class supports that, otherwise closed."""

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


LOCAL_METHODS = {
    "clear_instance_cache",
    "current",
    "from_dict",
    "from_json",
    "invalidate_cache",
    "to_dict",
    "to_json",
    "unstrip_protocol",
}


PUBLIC = {
    name
    for name in dir(AsyncFileSystem)
    if not name.startswith("_") and callable(getattr(AsyncFileSystem, name))
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("operation", sorted(PUBLIC - LOCAL_METHODS - set(OPERATIONS)))
def test_other_operations_raise_not_implemented(protocol: str, operation: str) -> None:
    """The error names the operation, with or without underscore."""
    fs = fsspec.filesystem(protocol, **MEMORY)
    for name in (operation, f"_{operation}"):
        with pytest.raises(NotImplementedError, match=rf"'{operation}'"):
            getattr(fs, name)("a", "b")


@pytest.mark.parametrize("operation", ["cp_file", "du", "exists", "glob", "mv", "touch", "walk"])
def test_well_known_operations_are_refused(operation: str) -> None:
    """Introspection finds the operations of fsspec that are refused."""
    assert operation in PUBLIC - LOCAL_METHODS - set(OPERATIONS)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_files_are_opened_for_writing_only(protocol: str) -> None:
    """Modes that fsspill does not use raise NotImplementedError."""
    for mode in ("rb", "ab", "r+b"):
        with pytest.raises(NotImplementedError, match="'open' with mode"):
            fsspec.filesystem(protocol, **MEMORY).open("a", mode)


def test_operations_include_all_that_fsspill_uses() -> None:
    """The package calls no other operation of a filesystem, but for those of S3 and Azure."""
    package = Path(inspect.getfile(fsspill)).parent
    files = [path for path in package.rglob("*.py") if path.parent.name != "filesystems"]
    source = "\n".join(path.read_text() for path in files)
    used = set(re.findall(r"(?:self\._fs|connection\.(?:sync_)?fs)\.(\w+)", source))
    local = {"loop", "invalidate_cache"}
    of_s3 = {"_call_s3", "split_path", "set_session", "get_s3"}
    of_azure = {"_rm_files"}
    assert {"_pipe_file", "open"} <= used
    assert {name.removeprefix("_") for name in used - local - of_s3 - of_azure} <= set(OPERATIONS)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_missing_target_protocol_raises_config_error(protocol: str) -> None:
    """The error names the option, through fsspill as well."""
    with pytest.raises(ConfigError, match="as target_protocol in its storage_options"):
        fsspec.filesystem(protocol)
    with pytest.raises(ConfigError, match="as target_protocol in its storage_options"):
        ExternalStorage(f"{protocol}://bucket").check()


def test_paths_are_those_of_the_target(tmp_path: Path) -> None:
    """An absolute path of a disk is unchanged, and its directories are created."""
    storage = ExternalStorage(
        f"counting://{tmp_path}/new", storage_options={"target_protocol": "file"}
    )
    storage.object_store.put(b"a", b"data")  # type: ignore[attr-defined]
    [url] = storage.spill_objects([b"a"])
    [file] = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert url.decode().startswith(f"counting://{file}?")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("target", ["memory", "file"])
def test_answers_contain_paths_of_the_wrapper(protocol: str, target: str, tmp_path: Path) -> None:
    """A path in an answer can be requested again."""
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


def test_a_missing_bucket_is_not_created(s3_bucket: str, store: InMemoryObjectStore) -> None:
    """On a filesystem without directories a wrapper creates none."""
    storage = ExternalStorage(
        "counting://no-such-bucket/x", storage_options={"target_protocol": "s3"}
    )
    with pytest.raises(FileNotFoundError):
        storage.check()
    fs = fsspec.filesystem("s3")
    fs.invalidate_cache()
    assert fs.ls("") == [s3_bucket]


def test_invalidate_cache_reaches_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """The listings cache belongs to the target."""
    invalidated: list[str | None] = []
    monkeypatch.setattr(
        MemoryFileSystem, "invalidate_cache", lambda self, path=None: invalidated.append(path)
    )
    fs = fsspec.filesystem("counting", **MEMORY)
    fs.invalidate_cache()
    fs.invalidate_cache("a")
    assert invalidated == [None, "/a"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_failed_open_leaves_no_file(protocol: str, tmp_path: Path) -> None:
    """The target's error is raised unchanged."""
    fs = fsspec.filesystem(protocol, target_protocol="file")
    with pytest.raises(FileNotFoundError):
        fs.open(f"{tmp_path}/missing/f", "wb")
    assert list(tmp_path.iterdir()) == []


class NotThreadSafe(MemoryFileSystem):  # type: ignore[misc]
    """A target that does not support concurrent use."""

    protocol = "not-thread-safe"
    _inside = threading.Lock()
    _both = threading.Event()

    def rm_file(self, path: str) -> None:
        if not self._inside.acquire(blocking=False):
            self._both.set()
            raise AssertionError("two concurrent threads")
        self._both.wait(0.02)  # time for another thread to enter, if the wrapper permits that
        self._inside.release()


def test_a_synchronous_target_gets_one_operation_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A filesystem without an asynchronous interface may not be thread-safe."""
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "not-thread-safe", NotThreadSafe)
    fs = fsspec.filesystem("counting", target_protocol="not-thread-safe")

    async def several() -> None:
        await asyncio.gather(*(fs._rm_file(f"a/{number}") for number in range(5)))

    sync(fs.loop, several)
    assert fs.counts == {"rm_file": 5}
