"""A filesystem that injects faults into the operations of another one."""

from __future__ import annotations

from asyncio import sleep
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from math import inf
from random import Random
from typing import Any

from fsspill.errors import ConfigError
from fsspill.testing.filesystems.forwarding import (
    ALL_OPERATIONS,
    READ_OPERATIONS,
    ForwardingFileSystem,
    Request,
)

__all__ = ["FaultyFileSystem"]

_POLL_INTERVAL = 0.05
"""Seconds between two checks of a hung operation for the end of its fault."""

_INJECTED_ERROR = OSError("a fault that FaultyFileSystem was told to inject")


class FaultyFileSystem(ForwardingFileSystem):
    """A filesystem that injects faults into the operations of another one.

    Parameters
    ----------
    target_protocol, target_options
        As for `CountingFileSystem`.
    faults : mapping, optional
        The faults of each operation: an exception or one of ``"fail"``, ``"fail_after"``,
        ``"hang"``, ``"hang_after"``, ``"truncate"``, ``"flip"`` and ``"swap"``, for every call; or
        a list of these for successive calls, None for a call without fault. Calls after the end of
        the list are subject to `rate`.
    rate : float
        Probability that a call that `faults` does not mention fails with OSError.
    seed : int
        Seed of all random choices. The call that meets a fault also depends on the order of calls,
        which differs from run to run if they are concurrent.

    Raises
    ------
    ConfigError
        As for `CountingFileSystem`; an unknown operation or fault.

    Notes
    -----
    Faults can be added and cleared at any time. The methods that add one have in common:

    ``operation``
        One of `OPERATIONS` or `FILE_OPERATIONS`, for faults that alter data ``cat_file`` or
        ``cat_ranges``; ``"*"`` for any of them.
    ``times``
        The number of calls that meet the fault; unlimited by default.
    ``rate``
        Probability that a call meets the fault.

    A call meets at most one fault: of those that apply, the one added first.

    Examples
    --------
    >>> import fsspec
    >>> from fsspill.testing.filesystems import register
    >>> register()
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
        self._plan = self._shared_state(_FaultPlan, *options)
        if not self._plan.initialized:
            self._plan.initialized = True
            self._plan.random.seed(seed)
            for operation, script in (faults or {}).items():
                self._add_script(operation, script)
            self.fail("*", rate=rate)

    @property
    def injected(self) -> Counter[str]:
        """Calls of each operation that met a fault; `clear` does not reset them."""
        return self._plan.injected

    def fail(
        self,
        operation: str,
        error: Exception | type[Exception] = _INJECTED_ERROR,
        *,
        after: bool = False,
        times: float = inf,
        rate: float = 1.0,
    ) -> None:
        """Raise `error` instead of the operation or, if `after`, once it has taken effect."""

        async def act(request: Request) -> None:
            raise copy(error)  # so that none keeps the traceback, and its objects, of another

        self._add(operation, ALL_OPERATIONS, act, after, times, rate)

    def hang(
        self, operation: str, *, after: bool = False, times: float = inf, rate: float = 1.0
    ) -> None:
        """Block the operation until it is cancelled; if `after`, once it has taken effect.

        `clear` makes operations that still hang fail with TimeoutError. Threads that hang, in
        ``open``, ``write`` and ``close``, cannot be cancelled and keep Python from exiting until
        then.
        """

        async def act(request: Request) -> None:
            while request.fault in self._plan.faults:
                await sleep(_POLL_INTERVAL)
            raise TimeoutError("hung, until the fault was cleared")

        self._add(operation, ALL_OPERATIONS, act, after, times, rate)

    def truncate(self, operation: str, *, times: float = inf, rate: float = 1.0) -> None:
        """Return fewer bytes, from none to all but one."""
        self._alter(operation, _truncated, times, rate)

    def flip(self, operation: str, *, times: float = inf, rate: float = 1.0) -> None:
        """Flip one bit of each returned range."""
        self._alter(operation, _flipped, times, rate)

    def swap(self, operation: str, *, times: float = inf, rate: float = 1.0) -> None:
        """Swap the halves of each returned range: all bytes are there, in wrong places."""
        self._alter(operation, _swapped, times, rate)

    def clear(self) -> None:
        """Remove all faults, those of the options included; operations that hang fail."""
        self._plan.faults.clear()

    def _alter(
        self, operation: str, alter: Callable[[bytes, Random], bytes], times: float, rate: float
    ) -> None:
        def altered(answer: Any) -> Any:
            if isinstance(answer, list):
                return [altered(data) for data in answer]
            if isinstance(answer, Exception) or not answer:
                return answer
            return alter(answer, self._plan.random)

        async def act(request: Request) -> None:
            request.answer = altered(request.answer)

        self._add(operation, READ_OPERATIONS, act, True, times, rate)

    def _add(
        self,
        operation: str,
        among: tuple[str, ...],
        act: Callable[[Request], Awaitable[None]] | None,
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
        self._plan.faults.append(_PlannedFault(operations, act, after, times, rate))

    def _add_script(self, operation: str, script: Any) -> None:
        if isinstance(script, Sequence) and not isinstance(script, str):
            for fault in script:
                self._add_scripted(operation, fault, times=1)
        else:
            self._add_scripted(operation, script, times=inf)

    def _add_scripted(self, operation: str, fault: Any, times: float) -> None:
        if fault is None:
            self._add(operation, ALL_OPERATIONS, None, False, times, 1.0)
        elif not isinstance(fault, str):
            self.fail(operation, fault, times=times)
        elif fault in _NAMED_FAULTS:
            _NAMED_FAULTS[fault](self, operation, times=times)
        else:
            raise ConfigError(
                f"cannot inject {fault!r}: expected an exception or one of "
                f"{', '.join(_NAMED_FAULTS)}."
            )

    async def _before(self, request: Request) -> None:
        request.fault = self._plan.draw(request.operation)
        await self._inject(request, after=False)

    async def _after(self, request: Request) -> None:
        await self._inject(request, after=True)

    async def _inject(self, request: Request, *, after: bool) -> None:
        fault = request.fault
        if fault is not None and fault.act is not None and fault.after is after:
            self._plan.injected[request.operation] += 1
            await fault.act(request)


_NAMED_FAULTS: Mapping[str, Callable[..., None]] = {
    "fail": FaultyFileSystem.fail,
    "fail_after": partial(FaultyFileSystem.fail, after=True),
    "hang": FaultyFileSystem.hang,
    "hang_after": partial(FaultyFileSystem.hang, after=True),
    "truncate": FaultyFileSystem.truncate,
    "flip": FaultyFileSystem.flip,
    "swap": FaultyFileSystem.swap,
}


@dataclass(eq=False)
class _PlannedFault:
    """A `Fault` with the operations that it applies to and the number of calls still to meet it."""

    operations: tuple[str, ...]
    act: Callable[[Request], Awaitable[None]] | None
    after: bool
    times: float
    rate: float


@dataclass
class _FaultPlan:
    """The faults of all filesystems created with the same options, and the count of calls met."""

    faults: list[_PlannedFault] = field(default_factory=list)
    injected: Counter[str] = field(default_factory=Counter)
    random: Random = field(default_factory=Random)
    initialized: bool = False

    def draw(self, operation: str) -> _PlannedFault | None:
        """Return the fault of the next call of `operation`. Event loop only."""
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
