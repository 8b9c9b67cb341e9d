"""The base of the test filesystems: each operation is forwarded between two hooks."""

from __future__ import annotations

from asyncio import Semaphore
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from fsspec.asyn import AsyncFileSystem, sync, sync_wrapper
from fsspec.spec import AbstractBufferedFile
from fsspec.utils import tokenize

from fsspill.errors import ConfigError
from fsspill.storage.connection import connect

__all__ = [
    "ALL_OPERATIONS",
    "FILE_OPERATIONS",
    "OPERATIONS",
    "READ_OPERATIONS",
    "Fault",
    "ForwardingFileSystem",
    "Request",
    "WrittenFile",
]

OPERATIONS = (
    "cat_file",
    "cat_ranges",
    "find",
    "info",
    "ls",
    "makedirs",
    "open",
    "pipe_file",
    "rm",
    "rm_file",
    "rmdir",
)
"""The operations that fsspill uses, in fsspec's names; ``open`` for writing only."""

FILE_OPERATIONS = ("write", "close")
"""The operations of a file that ``open`` returned: ``write`` once per block, and ``close``, which
makes the file visible on most filesystems. They are counted, delayed and failed like the others."""

READ_OPERATIONS = ("cat_file", "cat_ranges")
ALL_OPERATIONS = OPERATIONS + FILE_OPERATIONS

_LOCAL_METHODS = frozenset(
    {
        "clear_instance_cache",
        "current",
        "from_dict",
        "from_json",
        "invalidate_cache",
        "to_dict",
        "to_json",
        "unstrip_protocol",
    }
)
"""Methods of fsspec's filesystems that make no request to the storage."""

S = TypeVar("S")


@dataclass
class Request:
    """One operation on its way to the target and back.

    Attributes
    ----------
    operation : str
        One of `OPERATIONS` or `FILE_OPERATIONS`.
    sent : int
        Bytes of data that it writes.
    answer : Any
        The target's answer, which `_after` may replace.
    fault : Fault or None
        The fault that `FaultyFileSystem` has drawn for it.
    """

    operation: str
    sent: int = 0
    answer: Any = None
    fault: Fault | None = None

    @property
    def received(self) -> int:
        """Bytes of data in the answer."""
        if self.operation not in READ_OPERATIONS:
            return 0
        answers = self.answer if isinstance(self.answer, list) else [self.answer]
        return sum(len(data) for data in answers if not isinstance(data, Exception))


class Fault(Protocol):
    """A fault of one request.

    Attributes
    ----------
    act : callable or None
        Injects the fault into a request; None exempts the request from faults.
    after : bool
        True if it acts after the target has answered, not before the target is called.
    """

    act: Callable[[Request], Awaitable[None]] | None
    after: bool


class ForwardingFileSystem(AsyncFileSystem):  # type: ignore[misc]
    """A filesystem that forwards `OPERATIONS` to its target, between `_before` and `_after`.

    Parameters
    ----------
    target_protocol : str
        Protocol of the wrapped filesystem, such as ``"s3"``.
    target_options : mapping, optional
        Options of that filesystem; defaults are those with which fsspill would use it.

    Raises
    ------
    ConfigError
        No target_protocol, or the target does not take these options.
    """

    async_impl = True
    _states: dict[str, Any]

    def __init_subclass__(cls) -> None:
        cls._states = {}

    def __init__(
        self,
        target_protocol: str | None = None,
        target_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(asynchronous=False)
        if not target_protocol:
            raise ConfigError(
                f"cannot make a filesystem for {self.protocol}://: expected the protocol of the "
                "filesystem that it wraps as target_protocol in its storage_options, such as "
                "'s3', and the options of that filesystem as target_options."
            )
        self._target = connect(f"{target_protocol}://", target_options or {})
        self._lock = nullcontext() if self._target.concurrent else Semaphore(1)

    @classmethod
    def clear_instance_cache(cls) -> None:
        """Discard the cached filesystems of this class, with their counts and faults."""
        super().clear_instance_cache()
        cls._states.clear()

    def _shared_state(self, make: Callable[[], S], *options: object) -> S:
        """Return the one state of all filesystems created with these options."""
        state: S = self._states.setdefault(tokenize(*options), make())
        return state

    async def _before(self, request: Request) -> None:
        """Act before the target is called; an exception prevents the call."""

    async def _after(self, request: Request) -> None:
        """Act after the target has answered; an exception replaces the answer."""

    async def _request(
        self, operation: str, path: str | list[str], *args: Any, sent: int = 0, **kwargs: Any
    ) -> Any:
        request = Request(operation, sent)
        await self._before(request)
        function = getattr(self._target.fs, f"_{operation}")
        async with self._lock:
            request.answer = await function(self._to_target(path), *args, **kwargs)
        await self._after(request)
        return request.answer

    def _request_of_file(
        self, operation: str, function: Callable[[], object], sent: int = 0
    ) -> None:
        """Call `function` between the hooks, in the calling thread.

        On the event loop, one that waited for another would deadlock.
        """
        request = Request(operation, sent)
        sync(self.loop, self._before, request)
        function()
        sync(self.loop, self._after, request)

    def _to_target(self, path: str | list[str]) -> Any:
        """Return a path, or each of a list, in the target's form."""
        if isinstance(path, list):
            return [self._to_target(one) for one in path]
        return self._target.sync_fs._strip_protocol(self._strip_protocol(path))

    def _from_target(self, answer: Any, path: str) -> Any:
        """Return the target's answer about `path` with its paths in the form of this filesystem."""
        if isinstance(answer, str):
            return self._strip_protocol(path) + answer.removeprefix(self._to_target(path))
        if isinstance(answer, list):
            return [self._from_target(one, path) for one in answer]
        if "name" in answer:
            return {**answer, "name": self._from_target(answer["name"], path)}
        return {
            self._from_target(name, path): self._from_target(info, path)
            for name, info in answer.items()
        }

    async def _cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> Any:
        return await self._request("cat_file", path, start=start, end=end, **kwargs)

    async def _cat_ranges(
        self, paths: list[str], starts: list[int], ends: list[int], **kwargs: Any
    ) -> Any:
        return await self._request("cat_ranges", paths, starts, ends, **kwargs)

    async def _find(self, path: str, **kwargs: Any) -> Any:
        return self._from_target(await self._request("find", path, **kwargs), path)

    async def _info(self, path: str, **kwargs: Any) -> Any:
        return self._from_target(await self._request("info", path, **kwargs), path)

    async def _ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        return self._from_target(await self._request("ls", path, detail=detail, **kwargs), path)

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:
        # On a filesystem without directories this would make a bucket, which fsspill never does.
        if self._target.traits.has_directories:
            await self._request("makedirs", path, exist_ok=exist_ok)

    async def _pipe_file(self, path: str, value: Any, **kwargs: Any) -> Any:
        return await self._request("pipe_file", path, value, sent=len(value), **kwargs)

    async def _rm(self, path: str | list[str], recursive: bool = False, **kwargs: Any) -> Any:
        return await self._request("rm", path, recursive=recursive, **kwargs)

    async def _rm_file(self, path: str, **kwargs: Any) -> Any:
        return await self._request("rm_file", path, **kwargs)

    async def _rmdir(self, path: str) -> Any:
        return await self._request("rmdir", path)

    # The only operation whose synchronous form fsspec does not derive by itself.
    rmdir = sync_wrapper(_rmdir)

    def _open(
        self, path: str, mode: str = "rb", block_size: int | None = None, **kwargs: Any
    ) -> WrittenFile:
        if mode != "wb":
            raise NotImplementedError(f"{type(self).__name__} has no 'open' with mode {mode!r}")
        return WrittenFile(self, path, block_size)

    def invalidate_cache(self, path: str | None = None) -> None:
        """Invalidate the target's listings; not an operation, because it makes no request."""
        self._target.sync_fs.invalidate_cache(path and self._to_target(path))


def _refusal(name: str) -> Callable[..., Any]:
    def refuse(self: ForwardingFileSystem, *args: object, **kwargs: object) -> Any:
        raise NotImplementedError(
            f"{type(self).__name__} has no {name!r}: it has the operations that fsspill uses, "
            f"{', '.join(OPERATIONS)}"
        )

    return refuse


def _refuse_other_operations(cls: type) -> None:
    """Make every fsspec operation that is not forwarded raise NotImplementedError."""
    for name in dir(AsyncFileSystem):
        public = not name.startswith("_") and callable(getattr(AsyncFileSystem, name))
        if public and name not in _LOCAL_METHODS.union(OPERATIONS):
            setattr(cls, name, _refusal(name))
            setattr(cls, f"_{name}", _refusal(name))


_refuse_other_operations(ForwardingFileSystem)


class WrittenFile(AbstractBufferedFile):  # type: ignore[misc]
    """A file of a wrapper, open for writing; each block is one operation."""

    def __init__(self, fs: ForwardingFileSystem, path: str, block_size: int | None) -> None:
        super().__init__(fs, path, "wb", block_size=block_size)
        self._file: Any = None
        try:
            fs._request_of_file("open", self._open)
        except BaseException:
            self.discard()
            self.closed = True  # or garbage collection would close, and so write, the file
            raise

    def _open(self) -> None:
        target = self.fs._target.sync_fs
        self._file = target.open(self.fs._to_target(self.path), "wb", block_size=self.blocksize)

    def _upload_chunk(self, final: bool = False) -> None:
        block = self.buffer.getvalue()
        if block:
            self.fs._request_of_file("write", partial(self._file.write, block), len(block))
        if final:
            self.fs._request_of_file("close", self._file.close)

    def discard(self) -> None:
        """Discard the target's file; without committing it, if the target can do that."""
        if isinstance(self._file, AbstractBufferedFile):
            self._file.discard()
            self._file.closed = True
        elif self._file is not None:
            self._file.close()
