"""A look into spilled files: their frames, whose objects they are, and whether they are right.

A frame opens with the lengths of its parts, so the frames of a file are found one after another,
from its first byte on. The digests of a frame, and how it is compressed, are not in the file but in
the URL of its object (`fsspill.format.url`). A frame of which the URL is given is verified as a
restore verifies it; without it, only the lengths are seen to fit together, and a compressed frame
cannot be told from other bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeAlias

from fsspill.error_chain import redact_errors
from fsspill.errors import (
    CorruptObjectError,
    FsspillError,
    InvalidArgumentError,
    StorageUnavailableError,
    translate,
)
from fsspill.format.compression import CODECS
from fsspill.format.digest import ALGORITHMS
from fsspill.format.frame import HEADER_LENGTH, FrameHeader
from fsspill.format.url import SpillURL
from fsspill.progress import Progress, ignore_progress
from fsspill.settings import MIB, Settings
from fsspill.storage.client import StorageClient
from fsspill.storage.client_pool import ClientPool
from fsspill.storage.layout import FileRef, SpillLocation
from fsspill.storage.local_client import STALL_TIMEOUT
from fsspill.storage.mount import Mount
from fsspill.storage.retry import Retrier
from fsspill.storage.uri import is_local
from fsspill.transfer.base import FrameRef, FrameStream, Transfer
from fsspill.transfer.local import LocalTransfer
from fsspill.transfer.remote import RemoteTransfer

__all__ = ["Gap", "InspectedFile", "InspectedFrame", "Verdict", "inspect"]

Verdict: TypeAlias = Literal["right", "wrong", "unchecked", "unreadable"]
"""The outcome of a comparison with the digests; unchecked where no URL with digests was given."""

SHOWN_BYTES = 256
"""Bytes that are kept of an owner address and of metadata; Ray's are shorter."""

_WINDOW = 64 * 2**10
"""Bytes that are read of a file to find the headers in them: many, where frames are small."""

_MAX_PREFIX = MIB
"""Bytes of owner address and metadata: more are taken for other data. Ray's have hundreds."""

_PIECE = MIB

_ZSTD = bytes.fromhex("28b52ffd")
"""First bytes of what zstd has compressed."""


@dataclass(frozen=True)
class InspectedFrame:
    """One frame of a file.

    Attributes
    ----------
    offset, size : int
        Its first byte, and its bytes at rest.
    header : FrameHeader or None
        The lengths of its parts before compression; None if they could not be read.
    owner_address, metadata : bytes
        The first 256 bytes of each.
    codec : str or None
        Codec by which it is compressed, as its URL says.
    algorithm : str or None
        Algorithm of its digests, as its URL says.
    verdict : str
        See `Verdict`.
    problem : str
        What is wrong; empty if nothing is known to be.
    """

    offset: int
    size: int
    header: FrameHeader | None
    owner_address: bytes = b""
    metadata: bytes = b""
    codec: str | None = None
    algorithm: str | None = None
    verdict: Verdict = "unchecked"
    problem: str = ""

    @property
    def stop(self) -> int:
        """Offset of the byte after its last."""
        return self.offset + self.size


@dataclass(frozen=True)
class Gap:
    """Consecutive bytes of a file in which no frame was found.

    Attributes
    ----------
    start, stop : int
        Offsets of its first byte, and of the byte after its last.
    first_bytes : bytes
        Up to 16 of them.
    reason : str
        What they look like.
    """

    start: int
    stop: int
    first_bytes: bytes
    reason: str


@dataclass
class InspectedFile:
    """The content of a file.

    Attributes
    ----------
    url : str
        Its base URL.
    nbytes : int
        Its length.
    frames : list of InspectedFrame
        In the order of their offsets.
    gaps : list of Gap
        The bytes between and after them.
    named_objects, named_bytes : int or None
        Objects, and bytes before compression, by the file's name; None for another name.
    error : FsspillError or None
        Why it could not be read; then all else is empty.
    """

    url: str
    nbytes: int
    frames: list[InspectedFrame] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    named_objects: int | None = None
    named_bytes: int | None = None
    error: FsspillError | None = None

    @property
    def is_sound(self) -> bool:
        """True if it consists of frames of which none is known to be wrong."""
        has_problem = any(frame.problem for frame in self.frames)
        return not (self.error or self.gaps or has_problem or self.problem)

    @property
    def problem(self) -> str:
        """The way in which it differs from its name, by which it may be cut off after a frame."""
        found = len(self.frames), sum(f.header.frame_length for f in self.frames if f.header)
        named = self.named_objects, self.named_bytes
        is_known = not self.gaps and all(frame.header for frame in self.frames)
        if self.error or None in named or not is_known or found == named:
            return ""
        return (
            f"its name says {named[0]:,} objects of {named[1]:,} bytes, found {found[0]:,} of "
            f"{found[1]:,}: cut off, or renamed"
        )


@redact_errors
def inspect(
    targets: Sequence[str],
    storage_options: Mapping[str, Any] | None = None,
    *,
    progress: Progress = ignore_progress,
) -> list[InspectedFile]:
    """Return what each file holds.

    Parameters
    ----------
    targets : sequence of str
        URLs of spilled objects, base URLs of files, and paths of local files. URLs of the same file
        are inspected together.
    storage_options : mapping, optional
        Options for the filesystem, in fsspec's names.
    progress : callable
        Receives the MiB done; see `fsspill.progress`.

    Returns
    -------
    list of InspectedFile
        One for each file, in the order in which they were named.

    Raises
    ------
    ConfigError, InvalidArgumentError
        One of them is neither a URL nor a path. Nothing was read.

    Notes
    -----
    *Requests.* One for the size of a file; to find headers one for each 64 KiB of small frames, and
    one for each larger frame. Frames of which the URL is given are read in full, as for a restore.

    *Memory.* As for a restore, whatever the size of the file or of a frame.
    """
    files: dict[str, FileRef] = {}
    urls: dict[str, list[SpillURL]] = {}
    for target in targets:
        base_url, of_object = _parse(target)
        file = _locate(base_url)
        files.setdefault(file.url, file)
        urls.setdefault(file.url, []).extend(of_object)
    clients = ClientPool(storage_options or {})
    verified = _Verified(progress, [url for of_file in urls.values() for url in of_file])
    return [_inspect(clients, file, urls[url], verified) for url, file in files.items()]


def _inspect(
    clients: ClientPool, file: FileRef, urls: Sequence[SpillURL], verified: _Verified
) -> InspectedFile:
    verified.progress("finding frames", 0, 0)
    try:
        return _Inspection(clients, file, urls, verified).run()
    except FsspillError as error:
        return InspectedFile(file.url, 0, error=error)


def _parse(target: str) -> tuple[str, list[SpillURL]]:
    """Return the base URL of a target, and the target itself if it is the URL of an object."""
    if "?" not in target:
        return target, []
    url = SpillURL.parse(target)
    return url.base_url, [url]


def _locate(base_url: str) -> FileRef:
    """Return a file by its directory.

    A local file may be reached through links: the user has named it.
    """
    path = base_url.removeprefix("file://")
    local = "://" not in path
    directory, _, name = (_real_path(path) if local else path).rpartition("/")
    if not base_url or not name or directory.endswith(":/"):
        raise InvalidArgumentError(
            f"cannot inspect {base_url!r}: expected the URL of a spilled object, or of the file "
            "that holds it, or the path of a local file."
        )
    uri = f"file://{directory or '/'}" if local else directory
    # The names of a session and a node, which the place of a file that exists does not depend on.
    names = {"session_name": "any", "node_id": "any"}
    return FileRef(SpillLocation(uri, prefix="", shared=True, **names), f"/{name}")


def _real_path(path: str) -> str:
    try:
        found: str = Mount(path, STALL_TIMEOUT).call(os.path.realpath, path)
    except OSError as error:
        raise translate(error, "cannot inspect", path) from error
    return found


class _Verified:
    """The progress of a verification: the bytes at rest that are done, of all that are to be."""

    def __init__(self, progress: Progress, urls: Sequence[SpillURL]) -> None:
        self.progress = progress
        self._total = sum(url.size for url in urls if _has_digests(url))
        self._done = 0

    def add(self, nbytes: int) -> None:
        self._done += nbytes
        self.progress("MiB verified", -(-self._done // MIB), -(-self._total // MIB))


class _Inspection:
    """The inspection of one file."""

    def __init__(
        self, clients: ClientPool, file: FileRef, urls: Sequence[SpillURL], verified: _Verified
    ) -> None:
        self._file = file
        self._urls = sorted(urls, key=lambda url: (url.offset, url.size))
        self._verified = verified
        location = file.location
        self._settings = Settings.of(location.uri, shared=location.local)
        self._clients = clients
        self._transfer: Transfer = (
            LocalTransfer([location], self._settings)
            if is_local(location.uri)
            else RemoteTransfer([location], clients, self._settings)
        )
        self._window = (0, b"")
        self._size = 0

    def run(self) -> InspectedFile:
        self._size = self._call(self._ask_size)
        named = self._file.named_counts or (None, None)
        return InspectedFile(self._file.url, self._size, *self._contents(), *named)

    async def _ask_size(self, client: StorageClient) -> int:
        try:
            return await client.size(client.path(self._file))
        except IsADirectoryError as error:
            raise InvalidArgumentError(
                f"cannot inspect {self._file.url}: expected a file, found none, but a directory or "
                "something else. 'fsspill ls URI' lists what is at a URI."
            ) from error

    def _contents(self) -> tuple[list[InspectedFrame], list[Gap]]:
        frames: list[InspectedFrame] = []
        gaps: list[Gap] = []
        position = 0
        for url in [*self._urls, None]:
            stop = url.offset if url else self._size
            for found in self._walk(position, min(stop, self._size)):
                if isinstance(found, InspectedFrame):
                    frames.append(found)
                else:
                    gaps.append(found)
            if url:
                frames.append(self._verify(url))
                position = max(position, url.offset + url.size)
        return frames, gaps

    # What the file itself says

    def _walk(self, position: int, stop: int) -> Iterator[InspectedFrame | Gap]:
        """Yield the frames from one byte to another, and what follows the last."""
        while position < stop:
            found = self._parse_frame(position, stop)
            yield found
            position = found.stop

    def _parse_frame(self, offset: int, stop: int) -> InspectedFrame | Gap:
        data = self._read(offset, min(HEADER_LENGTH, stop - offset))
        reason = "too short for a frame"
        if len(data) == HEADER_LENGTH:
            reason = self._doubt(data, offset, stop)
            if not reason:
                return self._frame(offset, FrameHeader.parse(data))
        return Gap(offset, stop, self._read(offset, min(16, stop - offset)), reason)

    def _doubt(self, data: bytes, offset: int, stop: int) -> str:
        """Return why bytes are not the header of a frame that ends before `stop`; else ""."""
        header = FrameHeader.parse(data)
        prefix = header.address_length + header.metadata_length
        if not any(header):
            return "no frame, but zeros"
        if data.startswith(_ZSTD):
            return "a frame compressed with zstd, which only its URL describes"
        if prefix > _MAX_PREFIX:
            return "no frame: other data, or a compressed frame, which only its URL describes"
        if header.frame_length <= stop - offset:
            return ""
        if stop == self._size:
            return (
                f"cut off: its header announces a frame of {header.frame_length:,} bytes, "
                f"{header.frame_length - (stop - offset):,} more than there are"
            )
        return "no frame: its header announces more bytes than there are before the next one"

    def _frame(self, offset: int, header: FrameHeader) -> InspectedFrame:
        owner_start = offset + HEADER_LENGTH
        metadata_start = owner_start + header.address_length
        return InspectedFrame(
            offset,
            header.frame_length,
            header,
            self._read(owner_start, min(header.address_length, SHOWN_BYTES)),
            self._read(metadata_start, min(header.metadata_length, SHOWN_BYTES)),
        )

    def _read(self, start: int, nbytes: int) -> bytes:
        """Return bytes of the file, from those that were read last or by another request."""
        if not nbytes:
            return b""
        begin, data = self._window
        if not begin <= start <= start + nbytes <= begin + len(data):
            begin, length = start, min(max(nbytes, _WINDOW), self._size - start)
            data = self._call(lambda client: client.read(client.path(self._file), length, start))
            self._window = begin, data
        found = data[start - begin :][:nbytes]
        if len(found) < nbytes:
            raise StorageUnavailableError(
                f"cannot inspect {self._file.url}: expected {nbytes} bytes from {start}, found "
                f"{len(found)}. The file was replaced meanwhile: try again."
            )
        return found

    def _call(self, request: Callable[[StorageClient], Any]) -> Any:
        """Make a request, with retries, and again if out-of-date credentials were refused."""
        url = self._file.url

        def attempt(client: StorageClient) -> Any:
            retrier = Retrier(self._settings.stall_timeout)
            return client.run(
                retrier.attempt, partial(request, client), "cannot inspect", client.place(url)
            )

        return self._clients.retry_if_refused(self._file.location, attempt, "cannot inspect", url)

    # What a URL says

    def _verify(self, url: SpillURL) -> InspectedFrame:
        if not _has_digests(url):
            return self._compare(url)
        codec, algorithm = _first(url, CODECS), _first(url, ALGORITHMS)
        described = partial(InspectedFrame, url.offset, url.size, codec=codec, algorithm=algorithm)
        unread = _Countdown(url.size, self._verified.add)
        try:
            frame = FrameRef.of(url, self._file, verified=True)
            with self._transfer.open(frame) as stream:
                found = _read_verified(stream, frame, unread.take)
            return described(*found, verdict="right")
        except CorruptObjectError as error:
            return described(None, verdict="wrong", problem=str(error))
        except FsspillError as error:
            return described(None, verdict="unreadable", problem=str(error))
        finally:
            unread.take(url.size)

    def _compare(self, url: SpillURL) -> InspectedFrame:
        """Return the frame of a URL that has no digests: by its size."""
        found = self._parse_frame(url.offset, self._size) if url.offset < self._size else None
        if isinstance(found, InspectedFrame) and found.size == url.size:
            return found
        return InspectedFrame(
            url.offset, url.size, None, problem=f"no frame of {url.size:,} bytes is there"
        )


class _Countdown:
    """The bytes of a frame at rest, reported as they are read; never more than there are."""

    def __init__(self, nbytes: int, report: Callable[[int], None]) -> None:
        self._left = nbytes
        self._report = report

    def take(self, nbytes: int) -> None:
        taken = min(nbytes, self._left)
        self._left -= taken
        self._report(taken)


def _read_verified(
    stream: FrameStream, frame: FrameRef, read: Callable[[int], None]
) -> tuple[FrameHeader, bytes, bytes]:
    """Read a frame to its end; return its lengths and the beginnings of its first two parts."""
    header = FrameHeader.unpack(stream.read(HEADER_LENGTH), size=frame.nbytes, url=frame.url)
    address, metadata, _ = (_read_part(stream, nbytes, read) for nbytes in header)
    return header, address, metadata


def _read_part(stream: FrameStream, nbytes: int, read: Callable[[int], None]) -> bytes:
    """Read a part of a frame to its end, and return its beginning."""
    shown = stream.read(min(nbytes, SHOWN_BYTES))
    rest = nbytes - len(shown)
    piece = memoryview(bytearray(min(rest, _PIECE)))
    while rest:
        count = stream.readinto(piece[: min(rest, _PIECE)])
        rest -= count
        read(count)
    return shown


def _has_digests(url: SpillURL) -> bool:
    return _first(url, ALGORITHMS) is not None


def _first(url: SpillURL, names: Mapping[str, object]) -> str | None:
    """Return the first parameter of a URL that has one of some names."""
    return next((name for name, _ in url.parameters if name in names), None)
