"""Limits on the time of coroutines, which end whatever the coroutine does with its cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

__all__ = ["cancel", "within"]

T = TypeVar("T")

_AGAIN = 1.0
"""Seconds after which a task that has not ended is cancelled another time."""


async def within(seconds: float, awaitable: Awaitable[T]) -> T:
    """Wait for an awaitable, for so many seconds at most.

    Parameters
    ----------
    seconds : float
        Time after which it is cancelled.
    awaitable : awaitable
        Has ended when this returns or raises, also when this is cancelled itself.

    Raises
    ------
    TimeoutError
        It took longer.

    Notes
    -----
    In the place of `asyncio.wait_for`, which before Python 3.12 drops a cancellation that arrives
    at the moment at which its awaitable ends. A loop of such calls then goes on without end, and so
    does everyone who waits for it.
    """
    task = asyncio.ensure_future(awaitable)
    try:
        if not (await asyncio.wait({task}, timeout=seconds))[0]:
            raise TimeoutError
        return task.result()
    finally:
        if not task.done():
            cancel(task)
            await asyncio.wait({task})


def cancel(task: asyncio.Future[Any]) -> None:
    """Cancel a task, another time if it goes on: libraries may drop a cancellation.

    Its exception is retrieved: nobody waits for it, and asyncio would log it.
    """
    task.add_done_callback(_retrieve_exception)
    _cancel(task)


def _cancel(task: asyncio.Future[Any]) -> None:
    if not task.done():
        task.cancel()
        task.get_loop().call_later(_AGAIN, _cancel, task)


def _retrieve_exception(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()
