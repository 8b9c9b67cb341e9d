"""Movement of bytes to and from directories of this machine, between file and buffer."""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from fsspill.errors import CorruptObjectError, FsspillError, StorageNotFoundError, translate
from fsspill.format.digest import Digests, digest_of
from fsspill.format.encoding import EncodedFrame, FrameEncoder
from fsspill.log import get_logger
from fsspill.settings import Settings
from fsspill.storage.layout import HEAD, HEARTBEAT_DIRECTORY, FileRef, SpillLocation
from fsspill.storage.local_files import (
    create_file,
    list_names,
    open_directory,
    open_file,
    remove_directory,
    remove_file,
)
from fsspill.storage.retry import RequestSkippedError, Retrier, backoff
from fsspill.transfer.base import FrameRef, FrameStream, Transfer
from fsspill.transfer.spill_file import FailedWrite, SpillFile, WrittenFile
from fsspill.transfer.verified_stream import (
    DIGEST_RETRIES,
    EQUAL_MISMATCHES,
    VerifiedStream,
    bucket_missing_error,
    digest_mismatch_error,
    truncated_error,
    unstable_block_error,
)

__all__ = ["LocalTransfer"]

logger = get_logger(__name__)

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
        Its ``max_bytes_in_flight`` limits what is held of a frame in a shared directory.

    Notes
    -----
    Nothing is copied: writing gathers the objects' own memory, reading fills the object
    store's (in a shared directory a block is read and verified first, and copied once; compressed
    frames are held block by block, up to 8.5 MiB and as much again at rest). One file is written
    at a time, since a disk gains nothing from more.
    """

    def __init__(self, locations: Sequence[SpillLocation], limits: Settings) -> None:
        self._locations = locations
        self._limits = limits

    def write(
        self,
        files: Sequence[tuple[SpillFile, FileRef]],
        retriers: Mapping[SpillLocation, Retrier],
    ) -> list[WrittenFile | FailedWrite]:
        """Write the files one after another."""
        outcomes: list[WrittenFile | FailedWrite] = []
        failed: set[SpillLocation] = set()
        for file, ref in files:
            skipped = ref.location in failed
            outcome = FailedWrite(RequestSkippedError(), []) if skipped else _write(file, ref)
            outcomes.append(outcome)
            if isinstance(outcome, FailedWrite):
                failed.add(ref.location)
        return outcomes

    def open(self, frame: FrameRef) -> FrameStream:
        """Open the file and check that it holds the whole frame."""
        try:
            file = _OpenFile(frame)
        except StorageNotFoundError as failure:
            location = frame.file.location
            if not location.node_local and not os.path.isdir(location.root):
                raise bucket_missing_error(failure, location.root) from failure
            raise
        if frame.digests is None:
            return LocalFrameStream(file)
        return VerifiedFileStream(file, frame, frame.digests, self._limits.max_bytes_in_flight)

    def delete(self, files: Sequence[FileRef], *, seconds: float) -> dict[FileRef, FsspillError]:
        """Delete the files one by one, each once: what fails on a disk, fails again."""
        failures: dict[FileRef, FsspillError] = {}
        for file in files:
            try:
                remove_file(file.location.root, file.path)
            except OSError as error:
                failures[file] = translate(error, "cannot delete", file.url)
        return failures

    def list_files(self) -> list[FileRef]:
        """List this node's directories."""
        return [
            FileRef(location, f"{location.node_path}/{name}")
            for location in self._locations
            for name in list_names(location.root, location.node_path)
        ]

    def destroy(self) -> None:
        """Remove this node's directories, again while other processes still write there."""
        for location in self._locations:
            for _ in range(_DESTROY_ATTEMPTS):
                remove_directory(location.root, location.node_path)
                if not os.path.lexists(location.node_directory):
                    break
                time.sleep(0.05)
            else:
                logger.warning("could not remove %s: delete it by hand", location.node_directory)
            if location.session_path:
                _remove_heartbeats(location, location.session_path.strip("/"))


class _OpenFile:
    """One frame of a local file, read at any position."""

    def __init__(self, frame: FrameRef) -> None:
        self.url, self.start, self.stop = frame.url, frame.start, frame.stop
        try:
            self.fd = open_file(frame.file.location.root, frame.file.path)
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
        """Do nothing: the file is read when its bytes are wanted."""

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
    """One frame of a file in a directory that nodes share, verified block by block."""

    def __init__(self, file: _OpenFile, frame: FrameRef, digests: Digests, max_bytes: int) -> None:
        super().__init__()
        self._room = max_bytes
        self._file = file
        self._digests = digests
        self._compression = frame.compression
        self._blocks = deque(enumerate(frame.blocks))

    def _next_block(self) -> Sequence[bytes]:
        if not self._blocks:
            return ()
        index, (start, stop) = self._blocks.popleft()
        place = (self._file.url, self._digests, index, start, stop)
        wrong: Counter[bytes] = Counter()
        for pause in islice(backoff(), DIGEST_RETRIES):
            block = [self._file.read(start, stop - start)]
            digest = digest_of(self._digests.algorithm, block)
            if digest == self._digests.values[index]:
                return self._decompress(index, block)
            wrong[digest] += 1
            if wrong[digest] == EQUAL_MISMATCHES:
                raise digest_mismatch_error(*place)
            time.sleep(pause)
        raise unstable_block_error(*place)

    def _decompress(self, index: int, block: list[bytes]) -> Sequence[bytes]:
        if not self._compression:
            return block
        return [self._compression.decompress(index, block, self._file.url)]

    def prefetch(self) -> None:
        """Read and verify as many blocks as the limits allow to be held."""
        while self._blocks and self._room > 0:
            self._buffers.extend(memoryview(buffer) for buffer in self._next_block())
            self._room -= len(self._buffers[-1])

    def close(self) -> None:
        """Close the file."""
        super().close()
        self._file.close()


def _write(file: SpillFile, ref: FileRef) -> WrittenFile | FailedWrite:
    try:
        return WrittenFile(ref, _write_frames(file, ref))
    except OSError as error:
        failure = translate(error, "cannot write", ref.url)
        failure.__cause__ = error
        return FailedWrite(failure, [ref])


def _write_frames(file: SpillFile, ref: FileRef) -> list[EncodedFrame]:
    codecs = file.select_codecs()
    if any(codecs):
        assert file.encoding.digest is not None
        encoder = FrameEncoder(file.frames, codecs, file.encoding.digest)
        _write_file(ref, encoder)
        return encoder.encoded
    _write_file(ref, [file.buffers()])
    return file.encode_raw()


def _write_file(ref: FileRef, parts: Iterable[Iterable[bytes | memoryview]]) -> None:
    fd = create_file(ref.location.root, ref.path)
    try:
        try:
            for buffers in parts:
                _write_buffers(fd, buffers)
        finally:
            os.close(fd)
    except BaseException:
        remove_file(ref.location.root, ref.path)
        raise


def _remove_heartbeats(location: SpillLocation, session_name: str) -> None:
    """Remove the heartbeats that are no longer true, and directories that are empty then."""
    try:
        with open_directory(location.root, "") as root:
            with root.enter(session_name) as session:
                with session.enter(HEARTBEAT_DIRECTORY) as heartbeats:
                    if location.node_id != HEAD:
                        heartbeats.remove(location.node_id)
                    if session.names() == [HEARTBEAT_DIRECTORY] and heartbeats.names() == [HEAD]:
                        heartbeats.remove(HEAD)
                session.remove_empty_directory(HEARTBEAT_DIRECTORY)
            root.remove_empty_directory(session_name)
    except OSError:
        pass  # it was never made


def _write_buffers(fd: int, buffers: Iterable[bytes | memoryview]) -> None:
    views = (memoryview(buffer) for buffer in buffers if len(buffer))
    while batch := list(islice(views, _BUFFERS_PER_CALL)):
        while batch:
            written = os.writev(fd, batch)
            while batch and written >= len(batch[0]):
                written -= len(batch.pop(0))
            if batch:
                batch[0] = batch[0][written:]
