"""The body of an upload, read from the objects' own memory while it is sent."""

from __future__ import annotations

import hashlib
import io
from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

from fsspill.storage.retry import Progress

__all__ = ["UploadBody"]

_JOINED = 64 * 2**10
"""Bytes under which neighbouring buffers are copied into one: a call to send costs more than a
copy of that length."""

_ASKED = 64 * 2**10
_CHUNK = 256 * 2**10
"""Bytes that aiohttp before 3.14 asks for, and what it gets: as many as later ones ask for. It
takes more than it asked for, and with four times as many calls to send, uploads have three quarters
of the speed (measured on the loopback interface)."""


def _ignore(*, further: bool) -> None:
    pass


class UploadBody(io.BytesIO):
    """A read-only file over consecutive buffers of memory, without a copy of them.

    As a context manager it releases them.

    Parameters
    ----------
    buffers : iterable of bytes-like
        The content of the file. Held until `release`.
    progress : callable, optional
        Called when it is read, with ``further=True`` where that is further than ever before.

    Notes
    -----
    For s3fs, whose HTTP client sends a file object piece by piece: a `BytesIO` of the same bytes
    costs three copies of each (measured: 1.1 CPU seconds per GiB instead of 0.5 to 0.75). It is a
    `BytesIO` only by type, so that aiohttp reads it on the event loop and not in a thread.

    Asking for the length rewinds. Every attempt to send a request begins with it, and s3fs repeats
    a request with the body just as the failed attempt left it. So does asking for the name, with
    which aiohttp begins each of its own attempts: before 3.14 it repeats a request whose connection
    was reset with what the failed attempt has left, and the server waits for the rest.
    """

    def __init__(self, buffers: Iterable[bytes | memoryview], progress: Progress = _ignore) -> None:
        super().__init__()
        self._progress = progress
        self._farthest = 0
        self._buffers = [memoryview(buffer) for buffer in buffers if len(buffer)]
        self._ends = list(accumulate(map(len, self._buffers)))
        self._length = self._ends[-1] if self._ends else 0
        self._position = 0
        self._reads = 0

    @property
    def was_read_again(self) -> bool:
        """True once it was read from its beginning more than once, as for a second request."""
        return self._reads > 1

    def __len__(self) -> int:
        self._position = 0
        return self._length

    @property
    def name(self) -> None:
        """None, as a file has that is only in memory."""
        self._position = 0

    def __bool__(self) -> bool:
        return True

    def tell(self) -> int:
        """Return the position of the next read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move the position of the next read, and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        self._position = min(max(0, base + offset), self._length)
        return self._position

    def getbuffer(self) -> Any:
        """Return an object of the length of the file: all that aiohttp uses."""
        return _Sized(self._length)

    def read(self, size: int | None = -1, /) -> Any:
        """Return up to `size` bytes, as a view where that spares a copy, and b"" at the end.

        64 KiB are what older releases of aiohttp ask for: these get up to 256 KiB.
        """
        left = self._length - self._position
        size = left if size is None or size < 0 else min(size, left)
        if not size:
            return b""
        if size == _ASKED:
            size = min(left, _CHUNK)
        self._reads += not self._position
        found = self._at(self._position, size)
        if len(found) < min(size, _JOINED):
            found = self._joined(size)
        self._position += len(found)
        self._progress(further=self._position > self._farthest)
        self._farthest = max(self._farthest, self._position)
        return found

    def _joined(self, size: int) -> memoryview:
        buffers: list[memoryview] = []
        found = 0
        while found < min(size, _JOINED):
            buffers.append(self._at(self._position + found, size - found))
            found += len(buffers[-1])
        return memoryview(b"".join(buffers))

    def _at(self, position: int, size: int) -> memoryview:
        """Return up to `size` bytes at `position`, as far as one buffer has them."""
        index = bisect_right(self._ends, position)
        start = position - (self._ends[index] - len(self._buffers[index]))
        return self._buffers[index][start : start + size]

    def md5(self) -> bytes:
        """Return the MD5 digest of the whole file; reads every byte of it."""
        digest = hashlib.md5(usedforsecurity=False)
        for buffer in self._buffers:
            digest.update(buffer)
        return digest.digest()

    def release(self) -> None:
        """Drop the buffers; nothing can be read any more."""
        self._buffers, self._ends, self._length = [], [], 0

    def __exit__(self, *reason: object) -> None:
        self.release()


class _Sized:
    """A buffer that has a length and nothing else."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __enter__(self) -> _Sized:
        return self

    def __exit__(self, *reason: object) -> None:
        pass
