"""Filesystems for tests: they count what is asked of another one, slow it down, or let it fail.

Importing this module makes fsspec know three protocols, whose paths are those of the target:

============  ======================  ============================================
protocol      class                   what it does
============  ======================  ============================================
``counting``  `CountingFileSystem`    counts operations and bytes
``slow``      `LatencyFileSystem`     delays operations and bytes
``faulty``    `FaultyFileSystem`      fails, hangs, answers with wrong data
============  ======================  ============================================

The target is any filesystem that fsspec knows, another wrapper included.

Examples
--------
>>> import fsspec
>>> from fsspill import ExternalStorage
>>> import fsspill.testing.filesystems
>>> options = {"target_protocol": "memory"}
>>> ExternalStorage("counting://directory", storage_options=options).check()
>>> fs = fsspec.filesystem("counting", **options)
>>> fs.counts["pipe_file"], fs.bytes_written
(1, 1)

Notes
-----
*Instances.* fsspec keeps filesystems by their options: one that a test makes with the same options,
in the same order, is the one that the storage uses. Counts and faults belong to the options: where
a second filesystem is made with them, because credentials were refused, it has the same.
``clear_instance_cache()`` of the class ends them: call it after each test.

*Operations.* Only `OPERATIONS` are forwarded; any other raises NotImplementedError that names it,
so a test that passes has used nothing else.

*Threads.* Operations run on the event loop thread that fsspec shares within the process; files that
are open for writing run in the thread that writes. Methods may be called in any thread. A target
without an asynchronous interface gets one operation at a time, open files excepted.

*Ray.* A process knows the protocols only after it has imported this module.
"""

from __future__ import annotations

from asyncio import Semaphore, sleep
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from math import inf
from random import Random
from typing import Any, TypeVar

import fsspec
from fsspec.asyn import AsyncFileSystem, sync, sync_wrapper
from fsspec.spec import AbstractBufferedFile
from fsspec.utils import tokenize

from fsspill.errors import ConfigError
from fsspill.storage.connection import connect

__all__ = [
    "FILE_OPERATIONS",
    "OPERATIONS",
    "CountingFileSystem",
    "FaultyFileSystem",
    "LatencyFileSystem",
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
"""What fsspill may ask of a filesystem, in fsspec's names; ``open`` for writing only."""

FILE_OPERATIONS = ("write", "close")
"""What is asked of a file that ``open`` returned: ``write`` for each block of it, and ``close``,
which makes it visible on most filesystems. They are counted, delayed and failed like the others."""

_READS = ("cat_file", "cat_ranges")
_ALL = OPERATIONS + FILE_OPERATIONS

_KEPT = frozenset(
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
"""Methods of fsspec's that ask nothing of the storage."""

_LOOK = 0.05
"""Seconds between two looks of a hung operation at whether its fault was cleared."""

S = TypeVar("S")


@dataclass
class _Request:
    """One operation on its way to the target and back."""

    operation: str
    sent: int = 0
    answer: Any = None
    fault: _Fault | None = None

    @property
    def received(self) -> int:
        """Bytes of data in the answer."""
        if self.operation not in _READS:
            return 0
        answers = self.answer if isinstance(self.answer, list) else [self.answer]
        return sum(len(data) for data in answers if not isinstance(data, Exception))


class _ForwardingFileSystem(AsyncFileSystem):  # type: ignore[misc]
    """Forwards `OPERATIONS` to its target, between `_before` and `_after`."""

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
                "'s3', and that one's own options as target_options."
            )
        self._target = connect(f"{target_protocol}://", target_options or {})
        self._lock = nullcontext() if self._target.concurrent else Semaphore(1)

    @classmethod
    def clear_instance_cache(cls) -> None:
        """Forget the filesystems of this class that there are, their counts and faults too."""
        super().clear_instance_cache()
        cls._states.clear()

    def _shared(self, make: Callable[[], S], *options: object) -> S:
        """Return the one state of all filesystems that were made with these options."""
        state: S = self._states.setdefault(tokenize(*options), make())
        return state

    async def _before(self, request: _Request) -> None:
        """Act before the target does; what this raises keeps it from acting."""

    async def _after(self, request: _Request) -> None:
        """Act after the target has answered; what this raises hides the answer."""

    async def _request(
        self, operation: str, path: str | list[str], *args: Any, sent: int = 0, **kwargs: Any
    ) -> Any:
        request = _Request(operation, sent)
        await self._before(request)
        function = getattr(self._target.fs, f"_{operation}")
        async with self._lock:
            request.answer = await function(self._to_target(path), *args, **kwargs)
        await self._after(request)
        return request.answer

    def _request_of_file(
        self, operation: str, function: Callable[[], object], sent: int = 0
    ) -> None:
        """Do the same in the calling thread: one that waited for another could wait for ever."""
        request = _Request(operation, sent)
        sync(self.loop, self._before, request)
        function()
        sync(self.loop, self._after, request)

    def _to_target(self, path: str | list[str]) -> Any:
        """Return a path, or each of a list, as the target writes it."""
        if isinstance(path, list):
            return [self._to_target(one) for one in path]
        return self._target.sync_fs._strip_protocol(self._strip_protocol(path))

    def _from_target(self, answer: Any, path: str) -> Any:
        """Return an answer of the target's about `path` with the paths written as they are here."""
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
        # Where there are no directories this would make a bucket, which fsspill never does.
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

    # The only one for which fsspec does not do this by itself.
    rmdir = sync_wrapper(_rmdir)

    def _open(
        self, path: str, mode: str = "rb", block_size: int | None = None, **kwargs: Any
    ) -> _WrittenFile:
        if mode != "wb":
            raise NotImplementedError(f"{type(self).__name__} has no 'open' with mode {mode!r}")
        return _WrittenFile(self, path, block_size)

    def invalidate_cache(self, path: str | None = None) -> None:
        """Let the target forget its listings; not an operation, because it asks nothing."""
        self._target.sync_fs.invalidate_cache(path and self._to_target(path))


def _refusal(name: str) -> Callable[..., Any]:
    def refuse(self: _ForwardingFileSystem, *args: object, **kwargs: object) -> Any:
        raise NotImplementedError(
            f"{type(self).__name__} has no {name!r}: it has what fsspill uses, which is "
            f"{', '.join(OPERATIONS)}"
        )

    return refuse


def _refuse_all_others(cls: type) -> None:
    """Make every operation of fsspec's that is not forwarded raise NotImplementedError."""
    for name in dir(AsyncFileSystem):
        public = not name.startswith("_") and callable(getattr(AsyncFileSystem, name))
        if public and name not in _KEPT.union(OPERATIONS):
            setattr(cls, name, _refusal(name))
            setattr(cls, f"_{name}", _refusal(name))


_refuse_all_others(_ForwardingFileSystem)


class _WrittenFile(AbstractBufferedFile):  # type: ignore[misc]
    """A file of a wrapper's, open for writing: a block of it is an operation."""

    def __init__(self, fs: _ForwardingFileSystem, path: str, block_size: int | None) -> None:
        super().__init__(fs, path, "wb", block_size=block_size)
        self._file: Any = None
        try:
            fs._request_of_file("open", self._open)
        except BaseException:
            self.discard()
            self.closed = True  # or it would be closed, and so written, when it is collected
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
        """Give up the target's file, which is not committed if the target can help it."""
        if isinstance(self._file, AbstractBufferedFile):
            self._file.discard()
            self._file.closed = True
        elif self._file is not None:
            self._file.close()


class CountingFileSystem(_ForwardingFileSystem):
    """Counts what is asked of another filesystem.

    Parameters
    ----------
    target_protocol : str
        Protocol of the filesystem that it wraps, such as ``"s3"``.
    target_options : mapping, optional
        Options of that filesystem; its defaults are those with which fsspill would use it.

    Raises
    ------
    ConfigError
        No target_protocol, or a target that cannot be made of these options.
    """

    protocol = "counting"

    def __init__(
        self,
        target_protocol: str | None = None,
        target_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(target_protocol, target_options)
        self._tally = self._shared(_Counters, target_protocol, target_options)

    @property
    def counts(self) -> Counter[str]:
        """How often each of `OPERATIONS` and `FILE_OPERATIONS` was asked for, failures included."""
        return self._tally.counts

    @property
    def bytes_written(self) -> int:
        """Bytes that the target took, in files and in blocks of files; failures not included."""
        return self._tally.bytes_written

    @property
    def bytes_read(self) -> int:
        """Bytes of the files that the target answered with."""
        return self._tally.bytes_read

    def reset(self) -> None:
        """Set all counts to zero."""
        self._tally.counts.clear()
        self._tally.bytes_written = self._tally.bytes_read = 0

    async def _before(self, request: _Request) -> None:
        self._tally.counts[request.operation] += 1

    async def _after(self, request: _Request) -> None:
        self._tally.bytes_written += request.sent
        self._tally.bytes_read += request.received


@dataclass
class _Counters:
    counts: Counter[str] = field(default_factory=Counter)
    bytes_written: int = 0
    bytes_read: int = 0


class LatencyFileSystem(_ForwardingFileSystem):
    """Makes another filesystem slow.

    Parameters
    ----------
    target_protocol, target_options
        As for `CountingFileSystem`.
    latency : float
        Seconds that pass before each operation; those side by side wait side by side.
    bandwidth : float
        Bytes a second that each operation reads or writes, by itself.

    Raises
    ------
    ConfigError
        As for `CountingFileSystem`, a negative latency, a bandwidth that is not positive.
    """

    protocol = "slow"

    def __init__(
        self,
        target_protocol: str | None = None,
        target_options: Mapping[str, Any] | None = None,
        latency: float = 0.0,
        bandwidth: float = inf,
    ) -> None:
        super().__init__(target_protocol, target_options)
        if latency < 0 or bandwidth <= 0:
            raise ConfigError(
                "cannot slow a filesystem down: expected a latency of 0 s or more and a bandwidth "
                f"above 0 bytes/s, found {latency} s and {bandwidth} bytes/s."
            )
        self.latency = latency
        self.bandwidth = bandwidth

    async def _before(self, request: _Request) -> None:
        await sleep(self.latency + request.sent / self.bandwidth)

    async def _after(self, request: _Request) -> None:
        await sleep(request.received / self.bandwidth)


_Error = Exception | type[Exception]
_ERROR = OSError("a fault that FaultyFileSystem was told to inject")


class FaultyFileSystem(_ForwardingFileSystem):
    """Lets operations of another filesystem go wrong.

    Parameters
    ----------
    target_protocol, target_options
        As for `CountingFileSystem`.
    faults : mapping, optional
        By operation, what its calls meet: an exception or a name, ``"fail"``, ``"fail_after"``,
        ``"hang"``, ``"hang_after"``, ``"truncate"``, ``"flip"`` or ``"swap"``, for every call; or
        a list of these for one call after another, with None for one that is spared. What comes
        after the end of the list is left to `rate`.
    rate : float
        Probability with which any call that `faults` says nothing of fails with OSError.
    seed : int
        Of all that is random here. Which call meets a fault depends on their order too, which
        differs from run to run where they are made side by side.

    Raises
    ------
    ConfigError
        As for `CountingFileSystem`; an operation or a fault that there is not.

    Notes
    -----
    Faults can be added and taken away at any time. The methods that add one have in common:

    ``operation``
        One of `OPERATIONS` or `FILE_OPERATIONS`; of ``cat_file`` and ``cat_ranges`` for those that
        alter data; ``"*"`` for any of them.
    ``times``
        How many calls meet it; without end if not given.
    ``rate``
        Probability with which a call meets it.

    A call meets at most one fault, the first that was added of those that apply.

    Examples
    --------
    >>> import fsspec
    >>> import fsspill.testing.filesystems
    >>> fs = fsspec.filesystem("faulty", target_protocol="memory")
    >>> fs.fail("pipe_file", PermissionError("no"), times=1)
    >>> fs.pipe_file("directory/file", b"data")
    Traceback (most recent call last):
    PermissionError: no
    >>> fs.pipe_file("directory/file", b"data")
    >>> fs.flip("cat_file")
    >>> fs.cat_file("directory/file") == b"data"
    False
    >>> fs.injected["pipe_file"], fs.injected["cat_file"]
    (1, 1)
    >>> fs.clear()
    >>> fs.cat_file("directory/file")
    b'data'
    """

    protocol = "faulty"

    def __init__(
        self,
        target_protocol: str | None = None,
        target_options: Mapping[str, Any] | None = None,
        faults: Mapping[str, Any] | None = None,
        rate: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(target_protocol, target_options)
        options = (target_protocol, target_options, faults, rate, seed)
        self._script = self._shared(_FaultPlan, *options)
        if not self._script.begun:
            self._script.begun = True
            self._script.random.seed(seed)
            for operation, script in (faults or {}).items():
                self._add_script(operation, script)
            self.fail("*", rate=rate)

    @property
    def injected(self) -> Counter[str]:
        """How many calls of each operation met a fault; `clear` leaves it as it is."""
        return self._script.injected

    def fail(
        self,
        operation: str,
        error: _Error = _ERROR,
        *,
        after: bool = False,
        times: float = inf,
        rate: float = 1.0,
    ) -> None:
        """Raise `error` instead of doing it, or, if `after`, when it has been done."""

        async def act(request: _Request) -> None:
            raise copy(error)  # so that none keeps the frames, and what they hold, of another

        self._add(operation, _ALL, act, after, times, rate)

    def hang(
        self, operation: str, *, after: bool = False, times: float = inf, rate: float = 1.0
    ) -> None:
        """Never answer, not even begin unless `after`, until cancelled.

        `clear` lets what still hangs fail with TimeoutError. Threads that hang, in ``open``,
        ``write`` and ``close``, cannot be cancelled and keep Python from exiting until then.
        """

        async def act(request: _Request) -> None:
            while request.fault in self._script.faults:
                await sleep(_LOOK)
            raise TimeoutError("hung, until the fault was cleared")

        self._add(operation, _ALL, act, after, times, rate)

    def truncate(self, operation: str, *, times: float = inf, rate: float = 1.0) -> None:
        """Answer with fewer bytes, from none to all but one."""
        self._alter(operation, _truncated, times, rate)

    def flip(self, operation: str, *, times: float = inf, rate: float = 1.0) -> None:
        """Answer with one bit flipped in each range."""
        self._alter(operation, _flipped, times, rate)

    def swap(self, operation: str, *, times: float = inf, rate: float = 1.0) -> None:
        """Answer with the halves of each range swapped: all bytes are there, in wrong places."""
        self._alter(operation, _swapped, times, rate)

    def clear(self) -> None:
        """Take away all faults, those of the options too; what hangs fails."""
        self._script.faults.clear()

    def _alter(
        self, operation: str, alter: Callable[[bytes, Random], bytes], times: float, rate: float
    ) -> None:
        def altered(answer: Any) -> Any:
            if isinstance(answer, list):
                return [altered(data) for data in answer]
            if isinstance(answer, Exception) or not answer:
                return answer
            return alter(answer, self._script.random)

        async def act(request: _Request) -> None:
            request.answer = altered(request.answer)

        self._add(operation, _READS, act, True, times, rate)

    def _add(
        self,
        operation: str,
        among: tuple[str, ...],
        act: Callable[[_Request], Awaitable[None]] | None,
        after: bool,
        times: float,
        rate: float,
    ) -> None:
        if operation not in (*among, "*"):
            raise ConfigError(
                f"cannot inject this fault into {operation!r}: expected one of "
                f"{', '.join(among)} or '*'."
            )
        operations = among if operation == "*" else (operation,)
        self._script.faults.append(_Fault(operations, act, after, times, rate))

    def _add_script(self, operation: str, script: Any) -> None:
        if isinstance(script, Sequence) and not isinstance(script, str):
            for fault in script:
                self._add_scripted(operation, fault, times=1)
        else:
            self._add_scripted(operation, script, times=inf)

    def _add_scripted(self, operation: str, fault: Any, times: float) -> None:
        if fault is None:
            self._add(operation, _ALL, None, False, times, 1.0)
        elif not isinstance(fault, str):
            self.fail(operation, fault, times=times)
        elif fault in _NAMED:
            _NAMED[fault](self, operation, times=times)
        else:
            raise ConfigError(
                f"cannot inject {fault!r}: expected an exception or one of {', '.join(_NAMED)}."
            )

    async def _before(self, request: _Request) -> None:
        request.fault = self._script.draw(request.operation)
        await self._inject(request, after=False)

    async def _after(self, request: _Request) -> None:
        await self._inject(request, after=True)

    async def _inject(self, request: _Request, *, after: bool) -> None:
        fault = request.fault
        if fault is not None and fault.act is not None and fault.after is after:
            self._script.injected[request.operation] += 1
            await fault.act(request)


_NAMED: Mapping[str, Callable[..., None]] = {
    "fail": FaultyFileSystem.fail,
    "fail_after": partial(FaultyFileSystem.fail, after=True),
    "hang": FaultyFileSystem.hang,
    "hang_after": partial(FaultyFileSystem.hang, after=True),
    "truncate": FaultyFileSystem.truncate,
    "flip": FaultyFileSystem.flip,
    "swap": FaultyFileSystem.swap,
}


@dataclass(eq=False)
class _Fault:
    """What so many calls of some operations meet; without `act` they are spared."""

    operations: tuple[str, ...]
    act: Callable[[_Request], Awaitable[None]] | None
    after: bool
    times: float
    rate: float


@dataclass
class _FaultPlan:
    faults: list[_Fault] = field(default_factory=list)
    injected: Counter[str] = field(default_factory=Counter)
    random: Random = field(default_factory=Random)
    begun: bool = False

    def draw(self, operation: str) -> _Fault | None:
        """Return the fault that the next call of `operation` meets. Event loop only."""
        for fault in list(self.faults):
            applies = operation in fault.operations and fault.times > 0
            if applies and self.random.random() < fault.rate:
                fault.times -= 1
                return fault
        return None


def _truncated(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data))]


def _flipped(data: bytes, random: Random) -> bytes:
    byte, bit = divmod(random.randrange(8 * len(data)), 8)
    return data[:byte] + bytes([data[byte] ^ 1 << bit]) + data[byte + 1 :]


def _swapped(data: bytes, random: Random) -> bytes:
    middle = (len(data) + 1) // 2
    return data[middle:] + data[:middle]


for _wrapper in (CountingFileSystem, LatencyFileSystem, FaultyFileSystem):
    fsspec.register_implementation(_wrapper.protocol, _wrapper, clobber=True)
