"""CPU work of transfers, off the event loop where it would delay requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from fsspill.process_local import ProcessLocal

__all__ = ["COMPRESS", "DECOMPRESS", "HASH", "INLINE_HASH_BYTES", "CPUPool"]

T = TypeVar("T")


class CPUPool:
    """Threads for one kind of CPU work.

    Parameters
    ----------
    name : str
        Name of the threads.
    threads : int
        Number of threads at most; they start with the first work.

    Notes
    -----
    Few threads: hashing and compression release the GIL, Ray runs up to 4 IO workers of each kind
    on a node, and the C library keeps freed memory for every thread that there ever was. A forked
    child gets threads of its own: those of its parent do not exist there.
    """

    def __init__(self, name: str, threads: int) -> None:
        make = partial(ThreadPoolExecutor, threads, thread_name_prefix=name)
        self._executor = ProcessLocal(make)

    async def run(self, function: Callable[[], T], *, inline: bool = False) -> T:
        """Call a function in a thread, and wait for its end also when cancelled.

        Parameters
        ----------
        function : callable
            Works on memory that must not be used any more once the caller has returned.
        inline : bool
            Call it on the event loop instead: it takes less time than a change of threads, which
            would compete with the event loop for the GIL.
        """
        if inline:
            return function()
        call = asyncio.get_running_loop().run_in_executor(self._executor.get(), function)
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            await asyncio.wait([call])
            raise
        finally:
            del call  # a traceback holds this frame, and this its result


HASH = CPUPool("fsspill-hash", 4)
"""Hashing on the way up and on the way down."""

COMPRESS = CPUPool("fsspill-compress", 2)
"""Compression: two threads compress 0.8 to 1.3 GiB/s."""

DECOMPRESS = CPUPool("fsspill-decompress", 1)
"""Decompression: one thread does at most what a process restores, about 1 GiB/s, and only one block
is held twice meanwhile."""

INLINE_HASH_BYTES = {"xxh3_128": 10 * 2**20, "sha256": 2**20}
"""Bytes that are hashed on the event loop, in about 0.7 ms. A thread does not pay below (measured
for 2,000 objects of 100 KiB: 0.36 CPU seconds per GiB in threads, 0.05 without)."""
