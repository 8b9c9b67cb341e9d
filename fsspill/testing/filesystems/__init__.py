"""Filesystems for tests: wrappers that count, delay or fail the operations of another filesystem.

============  ======================  ============================================
protocol      class                   effect
============  ======================  ============================================
``counting``  `CountingFileSystem`    counts operations and bytes
``slow``      `LatencyFileSystem`     delays operations and limits bandwidth
``faulty``    `FaultyFileSystem`      fails, hangs, returns wrong data
============  ======================  ============================================

The target is any filesystem that fsspec knows, another wrapper included; paths are those of the
target. Importing this package registers nothing: call `register` to use the protocols in URIs.

Examples
--------
>>> import fsspec
>>> from fsspill import ExternalStorage
>>> from fsspill.testing.filesystems import register
>>> register()
>>> options = {"target_protocol": "memory"}
>>> ExternalStorage("counting://directory", storage_options=options).check()
>>> fs = fsspec.filesystem("counting", **options)
>>> fs.counts["pipe_file"], fs.bytes_written
(1, 2)

Notes
-----
*Instances.* fsspec caches filesystems by their options: one that a test creates with the same
options, in the same order, is the instance that the storage uses. Counts and faults belong to the
options: a second filesystem created with them, because credentials were refused, shares them.
``clear_instance_cache()`` of the class discards them: call it after each test.

*Operations.* Only `OPERATIONS` are forwarded. Any other raises NotImplementedError with its name,
so a test that passes has used nothing else.

*Threads.* Operations run on the event loop thread that fsspec shares within the process; files open
for writing run in the thread that writes. Methods may be called from any thread. A target without
an asynchronous interface gets one operation at a time, open files excepted.

*Ray.* Each process that uses the protocols must call `register`.
"""

from __future__ import annotations

import fsspec

from fsspill.testing.filesystems.counting import CountingFileSystem
from fsspill.testing.filesystems.faulty import FaultyFileSystem
from fsspill.testing.filesystems.forwarding import FILE_OPERATIONS, OPERATIONS
from fsspill.testing.filesystems.latency import LatencyFileSystem

__all__ = [
    "FILE_OPERATIONS",
    "OPERATIONS",
    "CountingFileSystem",
    "FaultyFileSystem",
    "LatencyFileSystem",
    "register",
]


def register() -> None:
    """Register the protocols ``counting``, ``slow`` and ``faulty`` with fsspec.

    Further calls have no effect.

    Raises
    ------
    ValueError
        Another class is registered under one of these protocols.
    """
    for cls in (CountingFileSystem, LatencyFileSystem, FaultyFileSystem):
        fsspec.register_implementation(cls.protocol, cls)
