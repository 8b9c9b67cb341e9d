"""Moving bytes to and from directories of this machine, straight between file and buffer."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from fsspill.errors import CorruptObjectError, FsspillError, StorageNotFoundError, translate
from fsspill.format.digest import Digests
from fsspill.settings import Settings
from fsspill.storage.layout import HEAD, HEARTBEAT_DIRECTORY, SpillLocation, find_location
from fsspill.storage.retry import RequestSkippedError, Retrier
from fsspill.transfer.base import FrameRef, FrameStream, SpillFile, Transfer
from fsspill.transfer.verified_stream import (
    DIGEST_RETRIES,
    VerifiedStream,
    bucket_missing_error,
    digest_mismatch_error,
    truncated_error,
)

__all__ = ["LocalTransfer"]

logger = logging.getLogger(__name__)

_BUFFERS_PER_CALL = os.sysconf("SC_IOV_MAX") if hasattr(os, "sysconf") else 16
_HEAD = 512
"""Bytes of the first read: header, owner address and metadata of nearly every object."""

_DESTROY_ATTEMPTS = 20


class LocalTransfer(Transfer):
    """Files in local directories, private to the user (0700 and 0600).

    Parameters
    ----------
    locations : sequence of SpillLocation
        Local ones, shared between nodes or not.
    limits : Settings
        Of which the bytes in flight bound what is held of a frame in a shared directory.

    Notes
    -----
    Nothing is copied: writing gathers the objects' own memory, reading fills the object
    store's (in a shared directory a block is read and checked first, and copied once; compressed
    frames are held block by block, up to 8.5 MiB and as much again at rest). One file is written
    at a time, since a disk gains nothing from more.
    """

    def __init__(self, locations: Sequence[SpillLocation], limits: Settings) -> None:
        self._locations = locations
        self._limits = limits

    def check(self, location: SpillLocation) -> None:
        """Make the directory, and write, read and delete a file of 1 byte there."""
        path = location.check_file
        try:
            os.makedirs(location.root, exist_ok=True)
            with open(path, "wb") as file:
                file.write(b"x")
            os.remove(path)
        except OSError as error:
            raise translate(error, "cannot spill to", location.uri) from error

    def write_files(
        self, files: Sequence[SpillFile], retriers: Mapping[SpillLocation, Retrier]
    ) -> list[FsspillError | None]:
        """Write the files one after another."""
        outcomes: list[FsspillError | None] = []
        failed: set[SpillLocation] = set()
        for file in files:
            outcomes.append(RequestSkippedError() if file.location in failed else _write(file))
            if outcomes[-1]:
                failed.add(file.location)
        return outcomes

    def open_frame(self, source: FrameRef) -> FrameStream:
        """Open the file and check that it holds the whole frame."""
        try:
            file = _OpenFile(source)
        except StorageNotFoundError as failure:
            location = find_location(self._locations, source.location.base_url)
            if location and not location.node_local and not os.path.isdir(location.root):
                raise bucket_missing_error(failure, location.root) from failure
            raise
        if source.digests is None:
            return LocalFrameStream(file)
        return VerifiedFileStream(file, source, source.digests, self._limits.max_bytes_in_flight)

    def remove(self, urls: Sequence[str], *, seconds: float) -> dict[str, FsspillError]:
        """Delete the files one by one, each once: what fails on a disk, fails again."""
        failures: dict[str, FsspillError] = {}
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

    def write_heartbeat(self, name: str) -> None:
        """Write a file of a few bytes."""
        for location in self._locations:
            if location.session_directory is None:
                continue  # files of a node's own disk live and die with the node
            path = location.heartbeat_file(name)
            try:
                os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
                with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                    file.write(b"alive")
                os.utime(path)
            except OSError as error:
                raise translate(error, "cannot write", path) from error

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
                _remove_heartbeats(location, location.session_directory)


class _OpenFile:
    """One frame of a local file, read at any position."""

    def __init__(self, source: FrameRef) -> None:
        self.url, self.start, self.stop = source.url, source.start, source.stop
        try:
            self.fd = os.open(source.location.base_url, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise self.failed(error) from error
        try:
            self._check_length()
        except BaseException:
            self.close()
            raise

    def _check_length(self) -> None:
        length = os.fstat(self.fd).st_size
        if length < self.stop:
            raise truncated_error(self.url, self.stop, length)

    def read(self, start: int, length: int) -> bytes:
        """Return the bytes that are there: fewer only at the end of the file."""
        try:
            return os.pread(self.fd, length, start)
        except OSError as error:
            raise self.failed(error) from error

    def failed(self, error: OSError) -> FsspillError:
        return translate(error, "cannot restore", self.url)

    def close(self) -> None:
        os.close(self.fd)


class LocalFrameStream(FrameStream):
    """One frame of a file on this node's own disk, read straight into the object store."""

    def __init__(self, file: _OpenFile) -> None:
        self._file = file
        self._position = file.start
        self._head = b""

    def read(self, length: int) -> bytes:
        """Return the next `length` bytes, nearly always from the first read."""
        if length > len(self._head):
            wanted = min(max(length, _HEAD), self._file.stop - self._position)
            self._head = self._file.read(self._position, wanted)
        data, self._head = self._head[:length], self._head[length:]
        self._position += len(data)
        return data

    def prefetch(self) -> None:
        """Nothing to wait for."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Read from the file into `buffer`, without a copy in between."""
        wanted = buffer[: self._file.stop - self._position]
        try:
            count = os.preadv(self._file.fd, [wanted], self._position)
        except OSError as error:
            raise self._file.failed(error) from error
        if not count:
            missing = self._file.stop - self._position
            raise CorruptObjectError(
                f"cannot restore {self._file.url}: expected {missing} more bytes, found "
                "the end of the file. It was truncated while it was read."
            )
        self._position += count
        return count

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class VerifiedFileStream(VerifiedStream):
    """One frame of a file in a directory that nodes share, each block checked before it is used."""

    def __init__(self, file: _OpenFile, source: FrameRef, digests: Digests, max_bytes: int) -> None:
        super().__init__()
        self._room = max_bytes
        self._file = file
        self._digests = digests
        self._compression = source.compression
        self._blocks = deque(enumerate(source.blocks))

    def _next_block(self) -> Sequence[bytes]:
        if not self._blocks:
            return ()
        index, (start, stop) = self._blocks.popleft()
        for _ in range(DIGEST_RETRIES):
            block = [self._file.read(start, stop - start)]
            if self._digests.match(index, block):
                if self._compression:
                    return [self._compression.decompress(index, block, self._file.url)]
                return block
        raise digest_mismatch_error(self._file.url, self._digests, index, start, stop)

    def prefetch(self) -> None:
        """Read and check as many blocks as the limits let be held."""
        while self._blocks and self._room > 0:
            self._buffers.extend(memoryview(buffer) for buffer in self._next_block())
            self._room -= len(self._buffers[-1])

    def close(self) -> None:
        """Close the file."""
        super().close()
        self._file.close()


def _write(file: SpillFile) -> FsspillError | None:
    try:
        file.choose()
        if file.codec:
            packing = file.pack()
            _write_file(file.url, packing)
            file.stored = packing.stored
        else:
            _write_file(file.url, [file.buffers()])
            file.compute_digests()
    except OSError as error:
        failure = translate(error, "cannot write", file.url)
        failure.__cause__ = error
        return failure
    return None


def _write_file(path: str, parts: Iterable[Iterable[bytes | memoryview]]) -> None:
    fd = _create(path)
    try:
        try:
            for buffers in parts:
                _write_buffers(fd, buffers)
        finally:
            os.close(fd)
    except BaseException:
        os.remove(path)
        raise


def _remove_heartbeats(location: SpillLocation, session: str) -> None:
    """Remove the heartbeats that are no longer true, and directories that are empty then."""
    heartbeats = os.path.dirname(location.heartbeat_file(HEAD))
    try:
        if location.node_id != HEAD:
            _remove_if_there(location.heartbeat_file(location.node_id))
        if os.listdir(session) == [HEARTBEAT_DIRECTORY] and os.listdir(heartbeats) == [HEAD]:
            _remove_if_there(location.heartbeat_file(HEAD))
        os.rmdir(heartbeats)
        os.rmdir(session)
    except OSError:
        pass  # other nodes of the session are still using it, or it was never made


def _remove_if_there(path: str) -> None:
    try:
        os.remove(path)
    except FileNotFoundError:
        pass


def _create(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        # The first file of this node, or somebody removed the directory.
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        return os.open(path, flags, 0o600)


def _write_buffers(fd: int, buffers: Iterable[bytes | memoryview]) -> None:
    views = (memoryview(buffer) for buffer in buffers if len(buffer))
    while batch := list(islice(views, _BUFFERS_PER_CALL)):
        while batch:
            written = os.writev(fd, batch)
            while batch and written >= len(batch[0]):
                written -= len(batch.pop(0))
            if batch:
                batch[0] = batch[0][written:]
