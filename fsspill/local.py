"""Moving bytes to and from directories of this machine, straight between file and buffer."""

from __future__ import annotations

import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Sequence
from itertools import islice

from fsspill.errors import CorruptObjectError, translate
from fsspill.location import SpillLocation
from fsspill.transfer import FrameStream, SpillFile, Transfer
from fsspill.url import ParsedURL, create_url_with_offset

__all__ = ["LocalTransfer"]

logger = logging.getLogger(__name__)

_CHUNKS_PER_CALL = os.sysconf("SC_IOV_MAX") if hasattr(os, "sysconf") else 16
_HEAD = 512
"""Bytes of the first read: header, owner address and metadata of nearly every object."""

_DESTROY_ATTEMPTS = 20


class LocalTransfer(Transfer):
    """Files in local directories, private to the user (0700 and 0600).

    Parameters
    ----------
    locations : sequence of SpillLocation
        Local ones, shared between nodes or not.

    Notes
    -----
    Nothing is copied: writing gathers the objects' own memory, reading fills the object
    store's. One file is written at a time, since a disk gains nothing from more.
    """

    def __init__(self, locations: Sequence[SpillLocation]) -> None:
        self._locations = locations

    def check(self) -> None:
        """Make the directories and write, read and delete a file of 1 byte in each."""
        for location in self._locations:
            path = f"{location.root}/fsspill-check-{uuid.uuid4().hex}"
            try:
                os.makedirs(location.root, exist_ok=True)
                with open(path, "xb") as file:
                    file.write(b"x")
                os.remove(path)
            except OSError as error:
                raise translate(error, "cannot spill to", location.uri) from error

    def write_files(self, files: Sequence[SpillFile]) -> tuple[int, Exception | None]:
        """Write the files one after another."""
        for index, file in enumerate(files):
            try:
                _write_file(file)
            except OSError as error:
                return index, translate(error, "cannot write", file.url)
            finally:
                file.release()
        return len(files), None

    def open_frame(self, location: ParsedURL) -> FrameStream:
        """Open the file and check that it holds the whole frame."""
        return LocalFrameStream(location)

    def remove(self, urls: Sequence[str]) -> dict[str, Exception]:
        """Delete the files one by one."""
        failures: dict[str, Exception] = {}
        for path in urls:
            try:
                os.remove(path)
            except FileNotFoundError:
                pass
            except OSError as error:
                failures[path] = translate(error, "cannot delete", path)
        return failures

    def list_files(self) -> list[str]:
        """Return the paths of this node's files."""
        directories = [location.node_directory for location in self._locations]
        return [
            f"{directory}/{name}"
            for directory in directories
            if os.path.isdir(directory)
            for name in sorted(os.listdir(directory))
        ]

    def destroy(self) -> None:
        """Remove this node's directories, again while other processes still write there."""
        for location in self._locations:
            for _ in range(_DESTROY_ATTEMPTS):
                shutil.rmtree(location.node_directory, ignore_errors=True)
                if not os.path.exists(location.node_directory):
                    break
                time.sleep(0.05)
            else:
                logger.warning("could not remove %s: delete it by hand", location.node_directory)
            if location.session_directory:
                _remove_if_empty(location.session_directory)


class LocalFrameStream(FrameStream):
    """One frame of a local file."""

    def __init__(self, location: ParsedURL) -> None:
        self._url = create_url_with_offset(
            url=location.base_url, offset=location.offset, size=location.size
        )
        self._position = location.offset
        self._end = location.offset + location.size
        try:
            self._fd = os.open(location.base_url, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise translate(error, "cannot restore", self._url) from error
        try:
            self._check_length()
            self._head = self._pread(min(_HEAD, location.size))
        except BaseException:
            os.close(self._fd)
            raise

    def _check_length(self) -> None:
        length = os.fstat(self._fd).st_size
        if length < self._end:
            raise CorruptObjectError(
                f"cannot restore {self._url}: expected a file of at least {self._end} bytes, found "
                f"{length}. The file was truncated or replaced."
            )

    def _pread(self, length: int) -> bytes:
        try:
            return os.pread(self._fd, length, self._position)
        except OSError as error:
            raise translate(error, "cannot restore", self._url) from error

    def read(self, length: int) -> bytes:
        """Return the next `length` bytes, nearly always from the first read."""
        if length > len(self._head):
            self._head = self._pread(min(length, self._end - self._position))
        data, self._head = self._head[:length], self._head[length:]
        self._position += len(data)
        return data

    def prefetch(self) -> None:
        """Nothing to wait for."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Read from the file into `buffer`, without a copy in between."""
        wanted = buffer[: self._end - self._position]
        try:
            count = os.preadv(self._fd, [wanted], self._position)
        except OSError as error:
            raise translate(error, "cannot restore", self._url) from error
        if not count:
            raise CorruptObjectError(
                f"cannot restore {self._url}: expected {self._end - self._position} more bytes, "
                "found the end of the file. It was truncated while it was read."
            )
        self._position += count
        return count

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def _write_file(file: SpillFile) -> None:
    fd = _create(file.url)
    try:
        try:
            _write_chunks(fd, file.chunks())
        finally:
            os.close(fd)
    except BaseException:
        os.remove(file.url)
        raise


def _remove_if_empty(directory: str) -> None:
    try:
        os.rmdir(directory)
    except OSError:
        pass  # other nodes of the session are still using it, or it was never made


def _create(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        # The first file of this node, or somebody removed the directory.
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        return os.open(path, flags, 0o600)


def _write_chunks(fd: int, chunks: Iterable[bytes | memoryview]) -> None:
    views = (memoryview(chunk) for chunk in chunks if len(chunk))
    while batch := list(islice(views, _CHUNKS_PER_CALL)):
        while batch:
            written = os.writev(fd, batch)
            while batch and written >= len(batch[0]):
                written -= len(batch.pop(0))
            if batch:
                batch[0] = batch[0][written:]
