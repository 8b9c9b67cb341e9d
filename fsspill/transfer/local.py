"""Movement of bytes to and from directories of this machine, between file and buffer."""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice

from fsspill.errors import CorruptObjectError, FsspillError, StorageNotFoundError, translate
from fsspill.format.digest import Digests, digest_of
from fsspill.format.encoding import EncodedFrame, FrameEncoder
from fsspill.log import get_logger
from fsspill.metrics import Metrics
from fsspill.settings import Settings
from fsspill.storage.layout import HEAD, HEARTBEAT_DIRECTORY, FileRef, SpillLocation
from fsspill.storage.local_files import list_names, open_directory, remove_directory, remove_file
from fsspill.storage.meter import Meter
from fsspill.storage.mount import BLOCK_SIZE, Mount, moved
from fsspill.storage.retry import RequestSkippedError, Retrier, backoff
from fsspill.transfer.base import FrameRef, FrameStream, Transfer
from fsspill.transfer.local_file import LocalFileReader, write_file
from fsspill.transfer.remote import DESTROY_TIMEOUT
from fsspill.transfer.spill_file import FailedWrite, SpillFile, WrittenFile
from fsspill.transfer.verified_stream import (
    DIGEST_RETRIES,
    EQUAL_MISMATCHES,
    BlockStream,
    bucket_missing_error,
    digest_mismatch_error,
    unstable_block_error,
)

__all__ = ["LocalTransfer"]

logger = get_logger(__name__)

_FIRST_BLOCK_SIZE = 256 * 2**10
"""Bytes that are read when a file on this node's own disk is opened: all of a small frame, which
costs one call then."""

_DESTROY_ATTEMPTS = 20


class LocalTransfer(Transfer):
    """Files in local directories, private to the user (0700 and 0600).

    Parameters
    ----------
    locations : sequence of SpillLocation
        Local ones, shared between nodes or not.
    limits : Settings
        Its ``max_bytes_in_flight`` limits what is held of a frame in a shared directory.
    metrics : Metrics, optional
        Counts blocks that do not match their digest.

    Notes
    -----
    *Copies.* Writing gathers the objects' own memory. Reading what the system has in memory fills
    the object store's; what it must wait for is copied once, and so is all of a shared directory,
    where blocks are verified first (compressed frames are held block by block, up to 8.5 MiB and
    as much again at rest).

    *Threads.* Every call into a directory is made on a thread, which is abandoned if the file
    system is silent for the stall timeout; see `fsspill.storage.mount`. One file is written at a
    time, since a disk gains nothing from more.
    """

    tier = "local"

    def __init__(
        self,
        locations: Sequence[SpillLocation],
        limits: Settings,
        metrics: Metrics | None = None,
    ) -> None:
        self._limits = limits
        self._metrics = metrics
        self._mounts = {
            location: Mount(location.root, limits.stall_timeout) for location in locations
        }

    def write(
        self,
        files: Sequence[tuple[SpillFile, FileRef]],
        retriers: Mapping[SpillLocation, Retrier],
    ) -> list[WrittenFile | FailedWrite]:
        """Write the files one after another."""
        outcomes: list[WrittenFile | FailedWrite] = []
        failed: set[SpillLocation] = set()
        for file, ref in files:
            location = ref.location
            if location in failed:
                outcomes.append(FailedWrite(RequestSkippedError(), []))
                continue
            mount = self._mounts[location].within(retriers[location].seconds)
            outcomes.append(_write(mount, file, ref))
            if isinstance(outcomes[-1], FailedWrite):
                failed.add(location)
        return outcomes

    def open(self, frame: FrameRef) -> FrameStream:
        """Open the file, check that it holds the whole frame, and read the first block."""
        location = frame.file.location
        mount = self._mounts[location]
        try:
            if frame.digests is None:
                return RawFileStream(mount, frame)
            meter = Meter(self._metrics, location.uri)
            room = self._limits.max_bytes_in_flight
            return VerifiedFileStream(mount, frame, frame.digests, room, meter)
        except StorageNotFoundError as failure:
            if not location.node_local and not _is_visible(mount, location):
                raise bucket_missing_error(failure, location.root) from failure
            raise

    def delete(self, files: Sequence[FileRef], *, seconds: float) -> dict[FileRef, FsspillError]:
        """Delete the files one by one, each once: what fails on a disk, fails again."""
        failures: dict[FileRef, FsspillError] = {}
        for location, mount in self._mounts.items():
            if here := [file for file in files if file.location == location]:
                failures |= _delete(mount.within(seconds), here)
        return failures

    def list_files(self) -> list[FileRef]:
        """List this node's directories."""
        return [
            FileRef(location, f"{location.node_path}/{name}")
            for location, mount in self._mounts.items()
            for name in _list(mount, location)
        ]

    def destroy(self) -> None:
        """Remove this node's directories, again while other processes still write there."""
        for location, mount in self._mounts.items():
            try:
                mount.within(DESTROY_TIMEOUT).call(_destroy, location)
            except OSError as error:
                logger.warning("%s", translate(error, "cannot remove", location.node_directory))


class LocalFrameStream(BlockStream):
    """One frame of a local file, read by a thread of its mount.

    Parameters
    ----------
    mount : Mount
        The directory.
    frame : FrameRef
        The frame.
    """

    tier = "local"

    def __init__(self, mount: Mount, frame: FrameRef) -> None:
        super().__init__()
        self._frame = frame
        self._file = LocalFileReader(frame)
        with self._translated():
            self._calls = mount.calls(self._file.close)

    def _start(self) -> None:
        """Open the file and read the first block."""
        try:
            self._available()
        except BaseException:
            self.close()
            raise

    def _read(self, start: int, stop: int) -> list[bytes]:
        with self._translated():
            return self._calls.call(self._file.read, start, stop)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise translate(error, "cannot restore", self._frame.url) from error

    def close(self) -> None:
        """Close the file."""
        super().close()
        with self._calls as calls, suppress(OSError):
            if self._file.is_open and calls.is_usable:
                calls.call(self._file.close)


class RawFileStream(LocalFrameStream):
    """One frame of a file on this node's own disk.

    What the system has in memory is read straight into the object store. What it must wait for is
    copied once: a thread that was abandoned must not write there.
    """

    def __init__(self, mount: Mount, frame: FrameRef) -> None:
        super().__init__(mount, frame)
        self._position = frame.start
        self._start()

    def _next_block(self) -> Sequence[bytes]:
        start = self._position
        size = _FIRST_BLOCK_SIZE if start == self._frame.start else BLOCK_SIZE
        stop = min(start + size, self._frame.stop)
        if start == stop:
            return ()
        block = self._read(start, stop)
        self._position += sum(map(len, block))
        if self._position < stop:
            raise self._shrunk_error()
        return block

    def prefetch(self) -> None:
        """Do nothing: the file is read when its bytes are wanted."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Read from the file into `buffer`."""
        wanted = buffer[: self._frame.stop - self._position]
        if not self._buffers and (count := self._file.read_cached(wanted, self._position)):
            self._position += count
            return count
        return super().readinto(buffer)

    def _shrunk_error(self) -> CorruptObjectError:
        missing = self._frame.stop - self._position
        return CorruptObjectError(
            f"cannot restore {self._frame.url}: expected {missing} more bytes, found the end of "
            "the file. It was truncated while it was read."
        )


class VerifiedFileStream(LocalFrameStream):
    """One frame of a file in a directory that nodes share, verified block by block."""

    def __init__(
        self, mount: Mount, frame: FrameRef, digests: Digests, max_bytes: int, meter: Meter
    ) -> None:
        super().__init__(mount, frame)
        self._meter = meter
        self._room = max_bytes
        self._digests = digests
        self._blocks = deque(enumerate(frame.blocks))
        self._start()

    def _next_block(self) -> Sequence[bytes]:
        if not self._blocks:
            return ()
        index, (start, stop) = self._blocks.popleft()
        place = (self._frame.url, self._digests, index, start, stop)
        wrong: Counter[bytes] = Counter()
        for pause in islice(backoff(), DIGEST_RETRIES):
            block = self._read(start, stop)
            digest = digest_of(self._digests.algorithm, block)
            if digest == self._digests.values[index]:
                block = self._decompress(index, block)
                self._room -= sum(map(len, block))
                return block
            wrong[digest] += 1
            self._meter.count_mismatch(self.tier)
            if wrong[digest] == EQUAL_MISMATCHES:
                raise digest_mismatch_error(*place)
            time.sleep(pause)
        raise unstable_block_error(*place)

    def _decompress(self, index: int, block: list[bytes]) -> list[bytes]:
        compression = self._frame.compression
        return [compression.decompress(index, block, self._frame.url)] if compression else block

    def prefetch(self) -> None:
        """Read and verify as many blocks as the limits allow to be held."""
        while self._blocks and self._room > 0:
            self._buffers.extend(map(memoryview, self._next_block()))


def _write(mount: Mount, file: SpillFile, ref: FileRef) -> WrittenFile | FailedWrite:
    try:
        return WrittenFile(ref, _write_frames(mount, file, ref))
    except OSError as error:
        failure = translate(error, "cannot write", ref.url)
        failure.__cause__ = error
        return FailedWrite(failure, [ref])


def _write_frames(mount: Mount, file: SpillFile, ref: FileRef) -> list[EncodedFrame]:
    codecs = file.select_codecs()
    if any(codecs):
        assert file.encoding.digest is not None
        encoder = FrameEncoder(file.frames, codecs, file.encoding.digest)
        write_file(mount, ref, encoder)
        return encoder.encoded
    write_file(mount, ref, [file.buffers()])
    return file.encode_raw()


def _delete(mount: Mount, files: Sequence[FileRef]) -> dict[FileRef, FsspillError]:
    """Delete files of one mount; after a call that is not answered, none of them any more."""
    failures: dict[FileRef, OSError | None] = {}
    try:
        mount.call(_delete_each, files, failures)
    except TimeoutError as error:
        failures = {**dict.fromkeys(files, error), **failures}
    return {
        file: translate(error, "cannot delete", file.url)
        for file, error in failures.items()
        if error
    }


def _delete_each(files: Sequence[FileRef], outcomes: dict[FileRef, OSError | None]) -> None:
    for file in files:
        try:
            remove_file(file.location.root, file.path)
        except OSError as error:
            outcomes[file] = error
        else:
            outcomes[file] = None
        moved()


def _is_visible(mount: Mount, location: SpillLocation) -> bool:
    try:
        return mount.call(os.path.isdir, location.root)
    except TimeoutError:
        return False


def _list(mount: Mount, location: SpillLocation) -> list[str]:
    try:
        return mount.call(list_names, location.root, location.node_path)
    except OSError as error:
        raise translate(error, "cannot list", location.node_directory) from error


def _destroy(location: SpillLocation) -> None:
    for _ in range(_DESTROY_ATTEMPTS):
        remove_directory(location.root, location.node_path)
        if not os.path.lexists(location.node_directory):
            break
        time.sleep(0.05)
    else:
        logger.warning(
            "could not remove %s, in which files are still written: delete it by hand",
            location.node_directory,
        )
    if location.session_path:
        _remove_heartbeats(location, location.session_path.strip("/"))


def _remove_heartbeats(location: SpillLocation, session_name: str) -> None:
    """Remove the heartbeats that are no longer true, and directories that are empty then."""
    try:
        with open_directory(location.root, "") as root:
            # Without a cluster, as in a library, a session has no heartbeats.
            with root.enter(session_name) as session, suppress(FileNotFoundError):
                with session.enter(HEARTBEAT_DIRECTORY) as heartbeats:
                    if location.node_id != HEAD:
                        heartbeats.remove(location.node_id)
                    if session.names() == [HEARTBEAT_DIRECTORY] and heartbeats.names() == [HEAD]:
                        heartbeats.remove(HEAD)
                session.remove_empty_directory(HEARTBEAT_DIRECTORY)
            root.remove_empty_directory(session_name)
    except OSError:
        pass  # it was never made
