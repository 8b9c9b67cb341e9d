"""Event loops whose clock advances as fast as they wait: timing without a wall clock."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["VirtualTimeLoop", "run"]

T = TypeVar("T")


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop that advances its clock instead of waiting.

    Notes
    -----
    A timeout or pause takes no time, and passes exactly as long as it says on the loop's clock,
    however busy the machine is. For coroutines that wait for nothing but this clock: no threads,
    no sockets.
    """

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        """Return the seconds that were waited for so far."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Advance the clock."""
        self._now += seconds


class _Selector(selectors.SelectSelector):
    """A selector that returns immediately, and advances the clock by its timeout."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing is left to wait for"
        self._loop.advance(timeout)
        return super().select(0)


def run(coroutine: Coroutine[Any, Any, T]) -> tuple[T, float]:
    """Run a coroutine; return its result, and the seconds that it took by the loop's clock."""
    loop = VirtualTimeLoop()
    try:
        return loop.run_until_complete(coroutine), loop.time()
    finally:
        loop.run_until_complete(asyncio.sleep(0))  # tasks that were cancelled end
        loop.close()
