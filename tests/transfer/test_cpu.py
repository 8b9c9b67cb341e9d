"""CPU work off the event loop."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from fsspill.transfer.cpu import CPUPool


def test_a_cancelled_call_waits_for_its_thread() -> None:
    """Afterwards its caller may reuse the memory that the thread used."""
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait()
        ended.set()

    async def check() -> None:
        call = asyncio.ensure_future(CPUPool("test", 1).run(work))
        await asyncio.to_thread(begun.wait)
        call.cancel()
        await asyncio.sleep(0.05)
        assert not call.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert ended.is_set()

    asyncio.run(check())


def test_inline_work_runs_on_the_event_loop() -> None:
    """Short work takes no thread."""

    async def check() -> None:
        thread = await CPUPool("test", 1).run(threading.get_ident, inline=True)
        assert thread == threading.get_ident()

    asyncio.run(check())


def test_a_forked_child_starts_its_own_threads() -> None:
    """A pool that was used before a fork works in the child too, without its parent's threads."""
    pool = CPUPool("test", 1)
    asyncio.run(pool.run(int))
    child = os.fork()
    if not child:
        try:
            os._exit(asyncio.run(asyncio.wait_for(pool.run(lambda: 3), 60)))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
