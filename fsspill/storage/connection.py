"""From a URI to a filesystem that is ready for spilling.

One table, `PROTOCOLS`, holds all that differs between protocols: which extra installs it, which
options suit many requests side by side, whether it has directories. What the user sets, in
``storage_options`` or in fsspec's own configuration and environment, always wins over it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import fsspec
from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem, sync
from fsspec.config import apply_config
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.registry import get_filesystem_class, known_implementations, registry

from fsspill.errors import ConfigError, MissingPackageError, translate
from fsspill.secrets import redact, remember

__all__ = ["Endpoint", "ProtocolTraits", "check_uri", "connect", "is_local", "protocol_of"]

T = TypeVar("T")

CONNECT_TIMEOUT = 10
READ_TIMEOUT = 30
"""Seconds that a server may stay silent before the filesystem gives up on a request."""

_UNSAFE = re.compile(r"[?#*\[\]{}\x00-\x1f\\]")
_LOCAL_PROTOCOLS = frozenset({"file", "local"})


@dataclass(frozen=True)
class ProtocolTraits:
    """What fsspill knows of a protocol.

    Attributes
    ----------
    extra : str or None
        The extra of fsspill that installs its package.
    options : mapping
        Options for the filesystem, under those of the user.
    has_directories : bool
        Whether a parent directory must exist before a file is written. Where it is false,
        nothing is ever created but files: making a "directory" there would make a bucket.
    s3_api : bool
        Whether the filesystem is s3fs, which offers S3's multipart API and sends file objects.
    """

    extra: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    has_directories: bool = True
    s3_api: bool = False


# Checksums and signatures of the body are left out where the transport allows: they cost 2 CPU
# seconds per GiB on the way up (measured: 4.0 with botocore's defaults, 1.6 to 2.0 without).
_S3 = ProtocolTraits(
    extra="s3",
    has_directories=False,
    s3_api=True,
    options={
        "use_listings_cache": False,
        "config_kwargs": {
            "max_pool_connections": 64,
            # fsspill.storage.retry tries again, and knows for how long; s3fs adds a few in 2 s.
            "retries": {"max_attempts": 0},
            "connect_timeout": CONNECT_TIMEOUT,
            "read_timeout": READ_TIMEOUT,
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            "s3": {"payload_signing_enabled": False},
        },
    },
)
_GCS = ProtocolTraits(extra="gcs", has_directories=False, options={"use_listings_cache": False})
_AZURE = ProtocolTraits(
    extra="azure",
    has_directories=False,
    options={"connection_timeout": CONNECT_TIMEOUT, "read_timeout": READ_TIMEOUT},
)
_SFTP = ProtocolTraits(extra="sftp")

PROTOCOLS: Mapping[str, ProtocolTraits] = {
    "s3": _S3,
    "s3a": _S3,
    "gs": _GCS,
    "gcs": _GCS,
    "abfs": _AZURE,
    "abfss": _AZURE,
    "az": _AZURE,
    "adl": ProtocolTraits(extra="azure", has_directories=False),
    "sftp": _SFTP,
    "ssh": _SFTP,
}


class SerializedFileSystem(AsyncFileSystemWrapper):  # type: ignore[misc]
    """A filesystem without an asynchronous interface, which need not bear two threads at once.

    What it has begun ends before the next operation begins, also when nobody waits for it any more:
    a thread cannot be cancelled. Two on one sftp filesystem wait for each other for ever.
    """

    cachable = False

    def __init__(self, fs: AbstractFileSystem) -> None:
        super().__init__(fs, asynchronous=False)
        self.lock = _locks.setdefault(fs, Lock())
        for name in _OPERATIONS:
            setattr(self, f"_{name}", self._exclusively(getattr(fs, name)))

    def _exclusively(self, operation: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        def call(*arguments: Any, **options: Any) -> Any:
            with self.lock:
                return operation(*arguments, **options)

        return partial(asyncio.to_thread, call)


_locks: WeakKeyDictionary[AbstractFileSystem, Lock] = WeakKeyDictionary()
"""By filesystem, because fsspec gives the same one to all who ask for it."""

_OPERATIONS = (
    "cat_file", "cat_ranges", "find", "info", "ls", "makedirs", "pipe_file", "rm_file", "rmdir",
)  # fmt: skip


@dataclass(frozen=True)
class Endpoint:
    """A URI together with the filesystem that serves it.

    Attributes
    ----------
    fs : fsspec.asyn.AsyncFileSystem
        The filesystem; one that is not asynchronous by itself is wrapped. fsspec shares
        filesystems between all who ask for the same one, so nobody here may close it.
    sync_fs : fsspec.AbstractFileSystem
        The same one as fsspec made it, with its synchronous interface.
    root : str
        The path of the URI on that filesystem.
    traits : ProtocolTraits
        The row of the table that applies.
    concurrent : bool
        Whether several operations may run at once. A filesystem without an asynchronous
        interface need not be thread-safe, so it gets one at a time.
    """

    fs: AsyncFileSystem
    sync_fs: AbstractFileSystem
    root: str
    traits: ProtocolTraits
    concurrent: bool

    def run(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Call a coroutine function on the event loop of the filesystem, and wait for its end."""
        result: T = sync(self.fs.loop, function, *arguments)
        return result

    def exclusive(self) -> AbstractContextManager[object]:
        """To hold while a thread uses `sync_fs` by itself."""
        return nullcontext() if self.concurrent else self.fs.lock


def protocol_of(uri: str) -> str:
    """Return what stands before ``://``."""
    return uri.partition("://")[0]


def is_local(uri: str) -> bool:
    """Whether `uri` names a directory of this machine."""
    return protocol_of(uri) in _LOCAL_PROTOCOLS


def check_uri(uri: object) -> str:
    """Check all that can be known of a URI without a request, and return it without end slash.

    Raises
    ------
    ConfigError
        Not a URI, characters that do not survive in a spill URL, a password, an unknown
        protocol, a relative local path.
    MissingPackageError
        The package for its protocol is not installed.

    Notes
    -----
    Makes no request. Imports the package of the protocol.
    """
    if not isinstance(uri, str) or not re.match(r"[a-z][a-z0-9+._-]*://", uri):
        raise ConfigError(
            f"cannot spill to {_shown(uri)}: expected a URI with a protocol, such as "
            "'s3://bucket/prefix' or 'file:///mnt/disk'."
        )
    path = uri.partition("://")[2]
    if re.match(r"[^@]*:[^@]*@", path):
        raise ConfigError(
            f"cannot spill to {_shown(uri)}: found a password in the URI, which Ray would show in "
            "logs and process lists. Expected it in the environment: FSSPEC_"
            f"{protocol_of(uri).upper()}_PASSWORD."
        )
    if "::" in uri:
        raise ConfigError(
            f"cannot spill to {_shown(uri)}: expected a single filesystem, found a chain ('::'). "
            "Caching and archive filesystems serve stale data; name the storage itself."
        )
    if _UNSAFE.search(path) or ".." in path.split("/"):
        raise ConfigError(
            f"cannot spill to {_shown(uri)}: expected a path without '..' and without any of "
            "? # * [ ] { } \\, which URLs of spilled objects and fsspec's globs give a meaning."
        )
    if not path.strip("/") and protocol_of(uri) != "memory":
        raise ConfigError(
            f"cannot spill to {uri!r}: expected a bucket or directory after the protocol."
        )
    if is_local(uri) and not path.startswith("/"):
        raise ConfigError(
            f"cannot spill to {uri!r}: expected an absolute path, as in 'file:///{path}'."
        )
    _filesystem_class(uri)
    return uri.rstrip("/")


def connect(uri: str, storage_options: Mapping[str, Any], *, renew: bool = False) -> Endpoint:
    """Return the tuned filesystem for a checked URI.

    Parameters
    ----------
    uri : str
        As `check_uri` returned it.
    storage_options : mapping
        The user's options for the filesystem, in fsspec's names.
    renew : bool
        Do not take the instance that fsspec keeps, whose credentials may be out of date. Nobody
        closes that: others may be using it.

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
    cls = _filesystem_class(uri)
    traits = PROTOCOLS.get(protocol_of(uri), ProtocolTraits())
    from_environment = apply_config(cls, {})
    options = _merge(_merge(traits.options, from_environment), storage_options)
    remember(options, protocol_of(uri))
    try:
        fs, root = fsspec.url_to_fs(uri, skip_instance_cache=renew, **options)
    except (TypeError, KeyError, ValueError) as error:
        raise ConfigError(
            f"cannot spill to {uri}: {cls.__name__} does not take these storage_options "
            f"({', '.join(sorted(map(str, options)))}): {type(error).__name__}: "
            f"{redact(str(error))}. Expected options in fsspec's names for this filesystem."
        ) from error
    except Exception as error:
        raise translate(error, "cannot open the filesystem of", uri) from error
    asynchronous = isinstance(fs, AsyncFileSystem) and fs.async_impl
    async_fs = fs if asynchronous else SerializedFileSystem(fs)
    return Endpoint(async_fs, fs, root.rstrip("/"), traits, concurrent=asynchronous)


def _shown(uri: object) -> str:
    """Return what was given as a URI for a message, without what may be a password in it."""
    if not isinstance(uri, str):
        return f"something of type {type(uri).__name__}"
    return redact(re.sub(r":[^@]*@", ":***@", repr(uri)))


def _filesystem_class(uri: str) -> type:
    protocol = protocol_of(uri)
    if protocol not in registry and protocol not in known_implementations:
        raise ConfigError(
            f"cannot spill to {uri!r}: fsspec knows no protocol {protocol!r}. Expected one such "
            "as s3, gs, abfs, sftp or file; fsspec.available_protocols() lists them all."
        )
    try:
        cls: type = get_filesystem_class(protocol)
    except ImportError as error:
        extra = PROTOCOLS.get(protocol, ProtocolTraits()).extra
        what = f'pip install "fsspill[{extra}]"' if extra else str(error)
        raise MissingPackageError(
            f"cannot spill to {uri!r}: the package for {protocol}:// is not installed in this "
            f"Python environment. Install it on every node: {what}"
        ) from error
    return cls


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(below, value) if both else value  # type: ignore[arg-type]
    return merged
