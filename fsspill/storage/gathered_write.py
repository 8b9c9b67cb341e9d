"""Writes of many buffers with few system calls, each of which is progress."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable

from fsspill.storage.mount import BLOCK_SIZE, moved

__all__ = ["write_buffers"]

_BUFFERS_PER_CALL = os.sysconf("SC_IOV_MAX") if hasattr(os, "sysconf") else 16


def write_buffers(fd: int, buffers: Iterable[bytes | memoryview]) -> int:
    """Write consecutive buffers where a file is positioned, and return their length.

    Parameters
    ----------
    fd : int
        The file.
    buffers : iterable of buffers
        The bytes. A deque is emptied meanwhile, so that whoever else has it can end the write.

    Notes
    -----
    Nothing is copied. A call that hangs holds no more buffers than it has itself, of which there
    are up to 1 MiB, besides those of an iterable that is no deque.
    """
    views = buffers if isinstance(buffers, deque) else deque(buffers)
    written = 0
    while batch := _next_batch(views):
        written += sum(map(len, batch))
        _write_batch(fd, batch)
    return written


def _next_batch(views: deque[bytes | memoryview]) -> list[memoryview]:
    """Remove and return the buffers of one system call; none at the end."""
    batch: list[memoryview] = []
    room = BLOCK_SIZE
    while room and len(batch) < _BUFFERS_PER_CALL:
        try:
            view = memoryview(views.popleft())
        except IndexError:
            break
        if len(view) > room:
            views.appendleft(view[room:])
        if view:
            batch.append(view[:room])
            room -= len(batch[-1])
    return batch


def _write_batch(fd: int, batch: list[memoryview]) -> None:
    while batch:
        written = os.writev(fd, batch)
        while batch and written >= len(batch[0]):
            written -= len(batch.pop(0))
        if batch:
            batch[0] = batch[0][written:]
        moved()
