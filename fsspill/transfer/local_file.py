"""Files in local directories, written and read on threads that may be abandoned."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial

from fsspill.storage.gathered_write import write_buffers
from fsspill.storage.layout import FileRef
from fsspill.storage.local_files import create_file, open_file, remove_file
from fsspill.storage.mount import BLOCK_SIZE, Mount, moved
from fsspill.transfer.base import FrameRef
from fsspill.transfer.verified_stream import truncated_error

__all__ = ["LocalFileReader", "write_file"]

_ONLY_CACHED = getattr(os, "RWF_NOWAIT", None)
"""Flag of a read that fails instead of waiting for the disk, on Linux."""


def write_file(mount: Mount, ref: FileRef, parts: Iterable[Iterable[bytes | memoryview]]) -> None:
    """Write a file that did not exist; leave nothing if that fails.

    Parameters
    ----------
    mount : Mount
        Its directory.
    ref : FileRef
        The file.
    parts : iterable of buffers
        Its consecutive bytes, made on the thread that writes them.

    Raises
    ------
    OSError
        Whatever the file system raises, and TimeoutError if it does not answer: then the file is
        removed by the thread as soon as it does.

    Notes
    -----
    Nothing is copied. A thread that is abandoned keeps the buffers of one system call, which pin
    their objects until it returns: up to 1 MiB of small ones, or a larger one.
    """
    remove = partial(remove_file, ref.location.root, ref.path)
    mount.call(_write, ref, parts, undo=remove)


def _write(ref: FileRef, parts: Iterable[Iterable[bytes | memoryview]]) -> None:
    fd = create_file(ref.location.root, ref.path)
    try:
        try:
            for buffers in parts:
                write_buffers(fd, buffers)
            # What the system has taken so fast, NFS sends when the file is closed.
            moved(held=os.lseek(fd, 0, os.SEEK_CUR))
        finally:
            os.close(fd)
    except BaseException:
        remove_file(ref.location.root, ref.path)
        raise


class LocalFileReader:
    """The file of a frame. All methods but `read_cached` belong to a thread of its mount.

    Parameters
    ----------
    frame : FrameRef
        The frame.
    open_file : callable, optional
        Opens the file, for reading; the spilled file itself if not given.
    """

    def __init__(self, frame: FrameRef, open_file: Callable[[], int] | None = None) -> None:
        self._frame = frame
        self._open_file = open_file or partial(_open_spilled, frame.file)
        self._fd: int | None = None
        self._only_cached = _ONLY_CACHED

    @property
    def is_open(self) -> bool:
        """True from the first read until the file is closed."""
        return self._fd is not None

    def read(self, start: int, stop: int) -> list[bytes]:
        """Return the bytes from `start` to `stop` in pieces: fewer only at the end of the file.

        The first call opens the file, and the one that reads to the end of the frame closes it.

        Raises
        ------
        OSError
            Whatever the file system raises.
        CorruptObjectError
            The file that was opened ends before the frame does.
        """
        if self._fd is None:
            self._fd = self._open()
        pieces = []
        position = start
        while piece := os.pread(self._fd, min(stop - position, BLOCK_SIZE), position):
            pieces.append(piece)
            position += len(piece)
            moved()
        if stop == self._frame.stop:
            self.close()
        return pieces

    def _open(self) -> int:
        frame = self._frame
        fd = self._open_file()
        try:
            length = os.fstat(fd).st_size
            if length < frame.stop:
                raise truncated_error(frame.url, frame.stop, length)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def read_cached(self, buffer: memoryview, start: int) -> int:
        """Read into `buffer` what the system has in memory, and return its length; never waits.

        On any thread, while no call is in flight. 0 where `read` must wait for the bytes, or tells
        what is wrong.
        """
        if self._fd is None or self._only_cached is None:
            return 0
        try:
            return os.preadv(self._fd, [buffer], start, self._only_cached)
        except BlockingIOError:
            return 0
        except OSError:
            self._only_cached = None  # NFS and tmpfs do not have it
            return 0

    def close(self) -> None:
        """Close the file, unless it is closed."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def _open_spilled(file: FileRef) -> int:
    return open_file(file.location.root, file.path)
