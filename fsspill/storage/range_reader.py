"""Ranged reads through the filesystem or obstore.

obstore is the faster way to the same bytes, because neither the event loop nor the GIL carries
them. The filesystem remains the authority: where obstore fails it reads the same range, so errors
are the filesystem's own.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from math import inf
from typing import Any, Protocol

from fsspill.errors import ConfigError, MissingPackageError, is_throttled
from fsspill.http_answer import HttpAnswer
from fsspill.log import get_logger
from fsspill.process_local import ProcessLocal
from fsspill.secrets import redact
from fsspill.storage.congestion_window import CongestionWindow
from fsspill.storage.connection import Connection
from fsspill.storage.deadline import within
from fsspill.storage.hedging import Hedging
from fsspill.storage.internals import s3_verify
from fsspill.storage.meter import Meter
from fsspill.storage.obstore import UnsupportedByObstoreError, open_bucket
from fsspill.storage.protocols import OBSTORE_PROTOCOLS, traits_of

__all__ = ["ENGINES", "RangeReader", "check_engine", "make_reader"]

logger = get_logger(__name__)

ENGINES = ("auto", "fsspec", "obstore")

_SILENCE = 2.0
"""Seconds within which obstore must begin to answer once a request has timed out: on a slow link an
answer is slow to end, not to begin."""

_SILENCE_PAUSE = 60.0
"""Seconds for which the filesystem reads where obstore does not answer."""

MAX_INITIAL_FAILURES = 3
"""Ranges that obstore may fail to read, and the filesystem not, before it has ever read one."""


Moved = Callable[[], None]

_CHUNK = 64 * 2**10
"""Bytes in which obstore hands out a body on a slow link."""

_BLOCK = 2**20
"""Bytes of a body that are taken from aiohttp together, if there are as many."""


def _ignore() -> None:
    pass


class RangeReader(Protocol):
    """A reader of ranges of the files of one filesystem. Belongs to its event loop."""

    bytes_per_request: int
    """Bytes that a connection moves (80 MB/s, as S3 grants one) in the time a request costs."""

    window: CongestionWindow
    """Limit of what is in flight on the way down. The caller keeps to it."""

    hedging: Hedging
    """Second requests for those that are late. The caller makes its reads through it."""

    async def read(
        self, path: str, start: int, stop: int, moved: Moved = _ignore
    ) -> bytes | memoryview:
        """Read the bytes from `start` to `stop` in one request; raise what the filesystem raises.

        May return short, as filesystems do: the caller checks. `moved` is called when bytes have
        arrived, where that can be seen.
        """

    async def reread(
        self, path: str, start: int, stop: int, moved: Moved = _ignore
    ) -> bytes | memoryview:
        """Read a range again, by another way where there is one."""


class FilesystemReader:
    """A reader through the filesystem.

    Parameters
    ----------
    fs : fsspec.asyn.AsyncFileSystem
        The filesystem.
    meter : Meter, optional
        Counts the requests.
    concurrent : bool
        True if several requests may use it concurrently.
    """

    # 4 ms at 80 MB/s: s3fs takes 0.9 ms of CPU (measured), on one thread for all requests.
    bytes_per_request = 320_000

    def __init__(self, fs: Any, meter: Meter | None = None, *, concurrent: bool = True) -> None:
        self.window = CongestionWindow(concurrent=concurrent)
        self._fs = fs
        self._meter = meter or Meter()
        self.hedging = Hedging("get", self.window, self._meter)

    async def read(
        self, path: str, start: int, stop: int, moved: Moved = _ignore
    ) -> bytes | memoryview:
        """Read one range by itself: a list of them is coalesced by some filesystems."""
        with self._meter.request("get", stop - start):
            return await self._read(path, start, stop, moved)

    async def _read(self, path: str, start: int, stop: int, moved: Moved) -> bytes | memoryview:
        answer = await self._fs._cat_ranges([path], [start], [stop], on_error="raise")
        data: bytes | Exception = answer[0]
        if isinstance(data, Exception):  # fsspec before 2025.12 ignores on_error
            raise data
        return data

    async def reread(
        self, path: str, start: int, stop: int, moved: Moved = _ignore
    ) -> bytes | memoryview:
        """Read a range again."""
        return await self.read(path, start, stop, moved)


class S3Reader(FilesystemReader):
    """A reader through s3fs that sees the bytes of a body arrive."""

    async def _read(self, path: str, start: int, stop: int, moved: Moved) -> bytes | memoryview:
        bucket, key, _ = self._fs.split_path(path)
        # The request of s3fs itself, which takes the body with one call.
        answer = await self._fs._call_s3(
            "get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-{stop - 1}"
        )
        body, blocks = answer["Body"], []
        try:
            while block := await body.read(_BLOCK):
                blocks.append(block)
                moved()
        finally:
            body.close()
        return b"".join(blocks)


class _OtherRegionError(Exception):
    """A bucket that was opened with the region of the settings is in another one."""


class ObstoreReader:
    """A reader through obstore, with the endpoint and the credentials of the filesystem.

    Parameters
    ----------
    fs : fsspec.asyn.AsyncFileSystem
        The filesystem.
    kind : {"s3", "gcs", "azure"}
        The store of obstore.
    meter : Meter, optional
        Counts the requests.

    Notes
    -----
    A range that obstore cannot read is read by the filesystem, unless the storage throttles.
    obstore is disabled for the process, and a line of the log says why, when it does not support a
    setting of the filesystem, or when it fails 3 times where the filesystem does not, before it has
    ever read anything: then its settings are wrong. Failures after that are failures of the
    storage. Where it does not answer at all, as behind a proxy that only obstore obeys, the
    filesystem reads for a minute.

    After a time-out the body is read as a stream, to see the answer begin and its bytes arrive.
    Else it is taken as a whole (measured: 0.7 CPU seconds per GiB, 0.9 as a stream).

    The bytes stay where obstore has received them: they are not copied into a `bytes`.
    """

    bytes_per_request = 25_000  # 0.3 ms: 0.15 of obstore (measured), and as much to ask for it

    def __init__(self, fs: Any, kind: str, meter: Meter | None = None) -> None:
        self._fs = fs
        self._meter = meter or Meter()
        self._filesystem = (S3Reader if kind == "s3" else FilesystemReader)(fs, self._meter)
        self.window = self._filesystem.window
        self.hedging = self._filesystem.hedging
        self._kind = kind
        self._buckets: dict[str, asyncio.Task[Any]] = {}
        self._elsewhere: set[str] = set()
        self._disabled_until = -inf
        self._successes = self._failures = 0

    async def read(
        self, path: str, start: int, stop: int, moved: Moved = _ignore
    ) -> bytes | memoryview:
        """Read one range."""
        if time.monotonic() < self._disabled_until:
            return await self._filesystem.read(path, start, stop, moved)
        try:
            data = await self._read(path, start, stop, moved)
        except TimeoutError:
            self._disable(_SILENCE_PAUSE, "it does not answer")
            return await self._filesystem.read(path, start, stop, moved)
        except Exception as error:
            if is_throttled(error):
                raise  # one request more would be one more that is too much
            return await self._fall_back(path, start, stop, moved, error)
        self._successes += 1
        return data

    async def reread(
        self, path: str, start: int, stop: int, moved: Moved = _ignore
    ) -> bytes | memoryview:
        """Read a range through the filesystem."""
        return await self._filesystem.read(path, start, stop, moved)

    async def check(self, path: str) -> None:
        """Read the first byte of a file through obstore alone.

        Raises
        ------
        ConfigError
            obstore does not support a setting of the filesystem, or one of the two is too old.
        Exception
            Whatever obstore raises.
        """
        try:
            await self._read(path, 0, 1, _ignore)
        except UnsupportedByObstoreError as error:
            raise ConfigError(
                f"cannot use engine='obstore' with {type(self._fs).__name__}: {error}. Leave it "
                "out: the filesystem reads what obstore cannot."
            ) from error

    async def open(self, path: str) -> None:
        """Open the bucket of a file where obstore may not accept the server's certificate.

        A line of the log says so if it does not, before anything is restored. No request where
        certificates are those of the system.
        """
        if self._kind != "s3" or not isinstance(s3_verify(self._fs), str):
            return
        try:
            await asyncio.shield(self._open(path.partition("/")[0]))
        except UnsupportedByObstoreError as error:
            self._disable(inf, str(error))
        except Exception as error:
            logger.debug("obstore cannot open the bucket of %s: %s", path, redact(str(error)))

    async def _read(self, path: str, start: int, stop: int, moved: Moved) -> bytes | memoryview:
        bucket, _, key = path.partition("/")
        opening = self._open(bucket)
        store = await asyncio.shield(opening)
        try:
            with self._meter.request("get", stop - start):
                return await self._get(store, key, start, stop, moved)
        except Exception as error:
            if self._is_of_other_region(bucket, opening, error):
                raise _OtherRegionError from error
            raise

    async def _get(
        self, store: Any, key: str, start: int, stop: int, moved: Moved
    ) -> bytes | memoryview:
        import obstore

        if not self.window.is_narrow:
            return memoryview(await obstore.get_range_async(store, key, start=start, end=stop))
        beginning = obstore.get_async(store, key, options={"range": (start, stop)})
        answer = await within(_SILENCE, beginning)
        moved()
        chunks = []
        async for chunk in answer.stream(min_chunk_size=_CHUNK):
            chunks.append(chunk)
            moved()
        return b"".join(chunks)

    def _open(self, bucket: str) -> asyncio.Task[Any]:
        """Return the opening of a bucket; many reads ask for it concurrently, and share it."""
        opening = self._buckets.get(bucket)
        if opening is None or _has_failed(opening):
            asked = bucket in self._elsewhere
            opening = asyncio.ensure_future(open_bucket(self._fs, self._kind, bucket, asked=asked))
            self._buckets[bucket] = opening
        return opening

    def _is_of_other_region(
        self, bucket: str, opening: asyncio.Task[Any], error: Exception
    ) -> bool:
        """Return True if a bucket is not in the region of the settings, and is opened again there.

        The filesystem follows redirections to it, obstore does not.
        """
        answer = HttpAnswer.of(error)
        if self._kind != "s3" or answer is None or not answer.is_of_other_region:
            return False
        if self._buckets.get(bucket) is opening:
            if bucket in self._elsewhere:
                return False
            self._elsewhere.add(bucket)
            del self._buckets[bucket]
        return True

    async def _fall_back(
        self, path: str, start: int, stop: int, moved: Moved, error: Exception
    ) -> bytes | memoryview:
        data = await self._filesystem.read(path, start, stop, moved)
        if isinstance(error, _OtherRegionError):
            return data
        self._failures += 1
        useless = not self._successes and self._failures >= MAX_INITIAL_FAILURES
        if useless or isinstance(error, UnsupportedByObstoreError):
            self._disable(inf, " ".join(str(error).partition("Debug source:")[0].split()))
        return data

    def _disable(self, seconds: float, reason: str) -> None:
        """Read through the filesystem for so many seconds, and log the reason once."""
        now = time.monotonic()
        if now >= self._disabled_until:
            self._disabled_until = now + seconds
            logger.warning(
                "reading through %s, not obstore: %s", type(self._fs).__name__, redact(reason)
            )


def _has_failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def make_reader(connection: Connection, engine: str, meter: Meter | None = None) -> RangeReader:
    """Return the reader of a connection's files for one of `ENGINES`."""
    kind = connection.traits.obstore
    if engine != "fsspec" and kind and _is_installed() and not _lost_obstore.get():
        return ObstoreReader(connection.fs, kind, meter)
    if connection.traits.client == "s3":
        return S3Reader(connection.fs, meter)
    return FilesystemReader(connection.fs, meter, concurrent=connection.concurrent)


def check_engine(engine: object, uri: str) -> None:
    """Check that an engine is known, and can read from a URI.

    Raises
    ------
    ConfigError
        It is not one of `ENGINES`, or obstore does not speak the protocol.
    MissingPackageError
        obstore is asked for and not installed.
    """
    if not isinstance(engine, str) or engine not in ENGINES:
        raise ConfigError(f"cannot use engine={engine!r}: expected one of {', '.join(ENGINES)}.")
    if engine == "obstore" and not traits_of(uri).obstore:
        raise ConfigError(
            f"cannot use engine='obstore' with {uri}: expected one of "
            f"{', '.join(f'{protocol}://' for protocol in OBSTORE_PROTOCOLS)}. Leave it out."
        )
    if engine == "obstore" and not _is_installed():
        raise MissingPackageError(
            "cannot use engine='obstore': the package obstore is not installed in this Python "
            "environment. Install it on every node: pip install obstore"
        )


def _has_lost_obstore() -> bool:
    """Return True if this process was forked from one in which obstore may have been used.

    obstore starts threads once for a process and its children, where they are not: a read would
    wait for them forever.
    """
    if os.getpid() == _IMPORTED_IN or "obstore" not in sys.modules:
        return False
    logger.warning(
        "reading through the filesystem, not obstore, in this process: it was forked from one that "
        "uses obstore, whose threads do not survive that. To keep it, start processes by "
        "multiprocessing's spawn or forkserver."
    )
    return True


_IMPORTED_IN = os.getpid()
_lost_obstore = ProcessLocal(_has_lost_obstore)


def _is_installed() -> bool:
    return importlib.util.find_spec("obstore") is not None
