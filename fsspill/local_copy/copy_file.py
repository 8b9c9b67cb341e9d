"""The copy of one file, written from the bytes that are uploaded while they are in memory."""

from __future__ import annotations

import os
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from typing import Protocol

from fsspill.local_copy.directory import PART, CopyDirectory
from fsspill.local_copy.eviction import Bound, BusyError
from fsspill.storage.gathered_write import write_buffers
from fsspill.storage.layout import FileRef

__all__ = ["PATIENCE", "FileCopy", "Piece", "Steps"]


class Steps(Protocol):
    """The steps of a thread. Either method may be called on any thread, and never waits."""

    def next(self, step: Callable[[], None]) -> None:
        """Add a step that comes before all that are later."""

    def later(self, step: Callable[[], None]) -> None:
        """Add a step that takes long."""


Views = Iterable[bytes | memoryview]


PATIENCE = 0.01
"""Seconds for which an upload, and the end of a spill, wait for what is just being written."""


class Piece:
    """Consecutive bytes of a file, on offer until they are withdrawn.

    Attributes
    ----------
    offset : int
        Their place in the file.
    views : deque of buffers
        Those that are not written yet.
    ended : Future
        Done once they are written, or are not to be.
    """

    def __init__(self, offset: int, buffers: Views) -> None:
        self.offset = offset
        self.views = deque(buffers)
        self.ended: Future[None] = Future()


class FileCopy:
    """The copy of one file while that is uploaded.

    Parameters
    ----------
    directory : CopyDirectory
        The node's directory.
    bound : Bound
        Limit of all copies.
    max_nbytes : int
        Upper bound of the file's length.
    steps : Steps
        What the thread that writes does next.
    on_error : callable
        Called on that thread with what the file system raised.

    Notes
    -----
    `offer`, `withdraw`, `keep` and `drop` never wait, and never raise. The upload holds the bytes;
    this holds no others. Nothing names the copy before `keep`, and what was not written then is
    dropped: a copy is complete or not there.
    """

    def __init__(
        self,
        directory: CopyDirectory,
        bound: Bound,
        max_nbytes: int,
        steps: Steps,
        on_error: Callable[[OSError], None],
    ) -> None:
        self.is_dropped = False
        self._directory = directory
        self._bound = bound
        self._reserved = max_nbytes
        self._steps = steps
        self._on_error = on_error
        self._pieces: list[Piece] = []
        self._offered = self._written = 0
        self._name = ""
        self._kept: tuple[str, int] | None = None
        self._fd: int | None = None

    def offer(self, offset: int, buffers: Views) -> Piece | None:
        """Offer the bytes from an offset on; they must not change until they are withdrawn."""
        if offset < self._offered:
            self.drop()  # the upload begins again
        if self.is_dropped:
            return None
        piece = Piece(offset, buffers)
        self._offered = offset + sum(map(len, piece.views))
        self._pieces.append(piece)
        self._steps.later(lambda: self._write(piece))
        return piece

    def withdraw(self, piece: Piece | None) -> None:
        """Take back bytes that the upload holds no longer; without them there is no copy."""
        if piece is None:
            return
        if not piece.ended.done():
            self.drop()
        with suppress(ValueError):
            self._pieces.remove(piece)

    def keep(self, file: FileRef, nbytes: int) -> None:
        """Name the copy as its file, which the bucket has and which is of so many bytes."""
        self._kept = (file.name, nbytes)
        self._steps.next(self._keep)

    def drop(self) -> None:
        """Drop the copy, and the bytes that are on offer."""
        self.is_dropped = True
        for piece in self._pieces:
            piece.views.clear()
        self._pieces.clear()
        self._steps.next(self.discard)

    def _write(self, piece: Piece) -> None:
        try:
            if not self.is_dropped:
                self._write_at(piece.offset, piece.views)
                self._keep()
        except OSError as error:
            self._fail(error)
        except BusyError:
            self._fail(None)
        finally:
            piece.ended.set_result(None)

    def _write_at(self, offset: int, views: deque[bytes | memoryview]) -> None:
        if self._fd is None:
            self._create()
        assert self._fd is not None
        os.lseek(self._fd, offset, os.SEEK_SET)
        self._written += write_buffers(self._fd, views)

    def _create(self) -> None:
        self._name = uuid.uuid4().hex + PART
        directory = self._directory.enter(make=True)
        self._fd = self._bound.create(directory, self._name, self._reserved)

    def _keep(self) -> None:
        """Name the copy once the bucket has the file and all bytes are written."""
        if self._kept is None or self._fd is None or self.is_dropped:
            return
        name, nbytes = self._kept
        try:
            if self._written == nbytes:
                self._rename(name, nbytes)
            elif self._written > nbytes or self._offered != nbytes:
                self._fail(None)
        except OSError as error:
            self._fail(error)

    def _rename(self, name: str, nbytes: int) -> None:
        assert self._fd is not None
        directory = self._directory.enter()
        if nbytes != self._reserved:
            self._bound.truncate(directory, self._fd, nbytes)
        # A file that was evicted while it was written is no longer there.
        os.replace(self._name, name, src_dir_fd=directory.fd, dst_dir_fd=directory.fd)
        self._name = name
        self._close()
        if self.is_dropped:
            self.discard()  # the spill has ended meanwhile: its file may be deleted already
        else:
            self._bound.record_copy(nbytes)
        self._name = ""

    def _fail(self, error: OSError | None) -> None:
        self.is_dropped = True
        if error is not None:
            self._on_error(error)
        self.discard()

    def discard(self) -> None:
        """Remove what was written, unless it was kept. On the thread that writes."""
        with suppress(OSError):
            self._close()
        name, self._name = self._name, ""
        if name:
            with suppress(OSError):
                self._bound.remove(self._directory.enter(), name)

    def _close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
