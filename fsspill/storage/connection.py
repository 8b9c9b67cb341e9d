"""Connections: URIs with their filesystems, tuned for spilling."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from threading import Event, Lock
from typing import Any, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

import fsspec
from fsspec import AbstractFileSystem, asyn
from fsspec.asyn import AsyncFileSystem, sync
from fsspec.config import apply_config

from fsspill.errors import ConfigError, FsspillError, translate
from fsspill.process_local import ProcessLocal
from fsspill.secrets import redact, remember, remember_environment
from fsspill.storage.instances import forget, latest, refresh_config
from fsspill.storage.internals import check_client, describe_versions, known_config, missing
from fsspill.storage.option_checks import check_options, parse_environment
from fsspill.storage.packages import import_failure
from fsspill.storage.protocols import ProtocolTraits, traits_of
from fsspill.storage.proxies import gcs_session
from fsspill.storage.uri import filesystem_class
from fsspill.system_error import is_disconnected, unreachable

__all__ = ["Connection", "SerializedFileSystem", "connect"]

T = TypeVar("T")


class SerializedFileSystem(AsyncFileSystem):  # type: ignore[misc]
    """A filesystem without an asynchronous interface, which need not be thread-safe.

    An operation that has begun ends before the next one begins, also when its caller no longer
    waits: a thread cannot be cancelled. Two on one sftp filesystem wait for each other for ever.

    Parameters
    ----------
    fs : fsspec.AbstractFileSystem
        The filesystem.
    make : callable
        Makes another one with the same options.

    Notes
    -----
    Those for FTP and SFTP connect when they are made, and never again. A server that closes idle
    connections, or is restarted, would be out of reach for the life of this process. So after an
    operation that has lost the connection, the next one begins with another filesystem.
    """

    cachable = False

    def __init__(self, fs: AbstractFileSystem, make: Callable[[], AbstractFileSystem]) -> None:
        super().__init__(asynchronous=False)
        self.sync_fs = fs
        self._make = make
        self._is_disconnected = False
        self._lock = _locks.get().setdefault(fs, Lock())
        for name in _OPERATIONS:
            setattr(self, f"_{name}", partial(asyncio.to_thread, self._call, name))

    def _call(self, name: str, *arguments: Any, **options: Any) -> Any:
        with self.exclusive():
            # Or a file of another process would be missing, as FTP's finds it in a listing.
            self.sync_fs.invalidate_cache()
            return getattr(self.sync_fs, name)(*arguments, **options)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep all other threads from the filesystem, and connect it again if that is necessary."""
        with self._lock:
            if self._is_disconnected:
                self.sync_fs = self._make()
                self._is_disconnected = False
            try:
                yield
            except Exception as error:
                if is_disconnected(error):
                    self._is_disconnected = True
                    forget(self.sync_fs)
                raise


_Locks: TypeAlias = "WeakKeyDictionary[AbstractFileSystem, Lock]"

_locks: ProcessLocal[_Locks] = ProcessLocal(WeakKeyDictionary)
"""By filesystem, because fsspec gives the same one to all who ask for it."""

_OPERATIONS = (
    "cat_file", "cat_ranges", "find", "info", "ls", "makedirs", "pipe_file", "rm", "rm_file",
    "rmdir",
)  # fmt: skip


_UNDO_SECONDS = 10.0
"""Seconds to undo what was interrupted: some requests."""


class _Call:
    """A call on an event loop, for which another thread waits."""

    def __init__(self, function: Callable[[], Awaitable[Any]]) -> None:
        self._function = function
        self._task: asyncio.Task[Any] | None = None
        self._is_cancelled = False
        self._ended = Event()

    async def run(self) -> Any:
        try:
            if self._is_cancelled:
                raise asyncio.CancelledError
            self._task = asyncio.current_task()
            return await self._function()
        finally:
            self._ended.set()

    def end(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel it, and wait for its end; on any thread but that of the loop."""
        loop.call_soon_threadsafe(self._cancel)
        self._ended.wait(_UNDO_SECONDS)

    def _cancel(self) -> None:
        self._is_cancelled = True
        if self._task:
            self._task.cancel()


@dataclass(frozen=True)
class Connection:
    """A URI together with the filesystem that serves it.

    Attributes
    ----------
    fs : fsspec.asyn.AsyncFileSystem
        The filesystem; one that is not asynchronous by itself is wrapped. fsspec shares
        filesystems between all who ask for the same one, so it is never closed.
    root : str
        The path of the URI on that filesystem.
    traits : ProtocolTraits
        The row of the table of protocols that applies.
    concurrent : bool
        True if several operations may run concurrently. A filesystem without an asynchronous
        interface need not be thread-safe, so it gets one at a time.
    """

    fs: AsyncFileSystem
    root: str
    traits: ProtocolTraits
    concurrent: bool

    def run(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Call a coroutine function on the event loop of the filesystem, and wait for its end.

        Ctrl-C cancels it, and waits for what it has to undo: for some seconds, or another Ctrl-C.
        """
        call = _Call(partial(function, *arguments))
        try:
            result: T = sync(self.fs.loop, call.run)
        except KeyboardInterrupt:
            call.end(self.fs.loop)
            raise
        return result

    @property
    def sync_fs(self) -> AbstractFileSystem:
        """The same filesystem as fsspec made it, with its synchronous interface."""
        return self.fs.sync_fs if isinstance(self.fs, SerializedFileSystem) else self.fs

    def exclusive(self) -> AbstractContextManager[object]:
        """Return the context in which a thread may use `sync_fs` by itself."""
        return self.fs.exclusive() if isinstance(self.fs, SerializedFileSystem) else nullcontext()


def connect(uri: str, storage_options: Mapping[str, Any], *, renew: bool = False) -> Connection:
    """Return the tuned filesystem for a checked URI.

    Parameters
    ----------
    uri : str
        As `fsspill.storage.uri.check_uri` returned it.
    storage_options : mapping
        The user's options for the filesystem, in fsspec's names.
    renew : bool
        Make a new instance, also if there is one of the present environment
        (`fsspill.storage.instances`), because its credentials may be out of date. That one stays
        open: others may be using it.

    Raises
    ------
    ConfigError
        The filesystem does not take these options.
    StoragePermissionError, StorageUnavailableError
        It could not find its credentials, or could not be made for another reason.

    Notes
    -----
    The filesystems for S3 and Azure make no request here; gcsfs may look for credentials.
    """
    cls = filesystem_class(uri)
    traits = traits_of(uri)
    refresh_config()
    from_environment = parse_environment(cls, apply_config(cls, {}))
    check_client(uri, traits.client, cls)
    given = _merge(from_environment, storage_options)
    options = _merge(_tuning(traits, given), given)
    # Not those of the table, which an older release need not know.
    check_options(uri, cls, traits, given)
    _require_token_file(uri, options.get("token"))
    _discard_inherited_loop()
    remember_environment()
    remember(options, traits.key_is_an_id)
    try:
        fs, root = _open(uri, options, renew=renew)
    except Exception as error:
        raise _opening_error(error, uri, cls, given) from error
    if traits.client == "s3":
        # s3fs would repeat a throttled request four times, 0.1 to 0.5 s apart, unseen.
        fs.retries = 1
    asynchronous = isinstance(fs, AsyncFileSystem) and fs.async_impl
    if not asynchronous:
        fs = SerializedFileSystem(fs, lambda: _open(uri, options, renew=True)[0])
    return Connection(fs, root.rstrip("/"), traits, concurrent=asynchronous)


def _refusal(uri: str, cls: type, given: Mapping[str, Any], error: Exception) -> ConfigError:
    """Return the error for a filesystem that cannot be made; names options that were given."""
    reason = f"{type(error).__name__}: {redact(str(error))}"
    if not given:
        return ConfigError(
            f"cannot spill to {uri}: {cls.__name__} cannot be made without options: {reason}. "
            "Expected storage_options that it needs, in fsspec's names."
        )
    return ConfigError(
        f"cannot spill to {uri}: {cls.__name__} does not take these storage_options "
        f"({', '.join(sorted(map(str, given)))}): {reason}. Expected options in fsspec's names "
        "for this filesystem."
    )


def _open(
    uri: str, options: Mapping[str, Any], *, renew: bool = False
) -> tuple[AbstractFileSystem, str]:
    """Return a filesystem and the path of the URI on it."""
    asked = {**options, "skip_instance_cache": renew or options.get("skip_instance_cache", False)}
    fs, root = fsspec.core.url_to_fs(uri, **asked)
    return fs if renew else latest(fs, lambda: _open(uri, options, renew=True)[0]), root


def _tuning(traits: ProtocolTraits, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return fsspill's own options for a filesystem, which those that are given override."""
    if traits.client == "s3":
        # Older releases of s3fs say it in their own requests only, not in those of fsspill.
        payer = {"s3_additional_kwargs": {"RequestPayer": "requester"}}
        return known_config(traits.options) | (payer if given.get("requester_pays") else {})
    session = gcs_session(given) if traits.obstore == "gcs" else {}
    return {**traits.options, "session_kwargs": session} if session else traits.options


def _opening_error(error: Exception, uri: str, cls: type, given: Mapping[str, Any]) -> FsspillError:
    """Return the error for a filesystem that could not be made: of its options, or of the storage.

    smbprotocol connects when it is made, and has a ValueError for a server that does not answer.
    """
    if isinstance(error, ImportError):
        return import_failure(uri, error)  # filesystems import some of their modules here
    cause = unreachable(error)
    if cause or not isinstance(error, (AttributeError, KeyError, TypeError, ValueError)):
        return translate(cause or error, "cannot open the filesystem of", uri)
    return _refusal(uri, cls, given, error)


def _require_token_file(uri: str, token: object) -> None:
    """Raise ConfigError for the path of a missing file, which gcsfs sends away as a token."""
    if traits_of(uri).obstore != "gcs" or not isinstance(token, str):
        return
    is_path = token.endswith(".json") or token.startswith(("/", "./", "../", "~"))
    if is_path and not os.path.exists(token):
        raise ConfigError(
            f"cannot spill to {uri}: expected the file of credentials that token={token!r} in "
            "storage_options names: it does not exist on this node."
        )


def _discard_inherited_loop() -> None:
    """Make fsspec start an event loop in this process, if it has that of a parent.

    Older versions keep it after a fork, and every operation waits for a thread that is not there;
    newer ones keep the lock, which another thread of the parent may have held.
    """
    if os.getpid() == _IMPORTED_IN:
        return
    if lacking := missing("fsspec", "fork"):
        raise ConfigError(
            f"cannot use filesystems in a forked process: {describe_versions('fsspec')} lacks "
            f"{', '.join(lacking)}, and its event loop does not survive a fork. Start processes "
            "by multiprocessing's spawn or forkserver."
        )
    thread = asyn.iothread[0]
    if thread is None or not thread.is_alive():
        asyn.loop[0] = None
        asyn.reset_lock()


_IMPORTED_IN = os.getpid()


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return options in which `over` wins, in mappings of their own: botocore alters its own."""
    merged = {**under, **over}
    for key, value in merged.items():
        below = under.get(key)
        if isinstance(value, Mapping):
            merged[key] = _merge(below if isinstance(below, Mapping) else {}, value)
    return merged
